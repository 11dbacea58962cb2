"""Fetches one file of a Kaggle data set with kagglehub, in a process of its own that can be stopped at any time.

python -m pianoai.sources.fetch HANDLE FILE BYTES        prints, as the last line, where it is or why it is not

No file grows beyond so many bytes, not even when kagglehub unpacks it. It ends when its standard input does, and so
with the process that started it.
"""

import contextlib
import json
import os
import sys
from threading import Thread
from typing import Any

import kagglehub
import requests
from kagglehub.config import get_kaggle_credentials
from kagglehub.exceptions import DataCorruptionError

MEMORY = 4 << 30  # bytes of addresses: unpacking can ask for any number


def main(handle: str, file: str, limit: int) -> None:
    """Print one line of JSON: `path`, or `problem` with what is known of it."""
    Thread(target=end_with_input, daemon=True).start()
    with contextlib.suppress(ImportError):  # no POSIX system
        import resource
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # an OSError instead
        for kind, most in ((resource.RLIMIT_FSIZE, limit), (resource.RLIMIT_AS, MEMORY)):
            hard = resource.getrlimit(kind)[1]
            with contextlib.suppress(ValueError):  # macOS has no limit of addresses
                resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
    print(f"\n{json.dumps(fetch(handle, file))}", flush=True)  # kagglehub may leave a line open


def end_with_input() -> None:
    """Wait until standard input is closed, then end."""
    sys.stdin.buffer.read()
    os._exit(1)


def fetch(handle: str, file: str) -> dict[str, Any]:
    """What `main` prints."""
    try:
        get_kaggle_credentials()
    except Exception:  # whatever a broken file causes; its text may hold what must not be printed
        return {"problem": "credentials"}
    try:
        return {"path": kagglehub.dataset_download(handle, path=file)}
    except requests.HTTPError as error:
        if error.response is None:
            return {"problem": "connection"}
        wait = error.response.headers.get("Retry-After", "")
        return {"problem": "status", "status": error.response.status_code, "wait": int(wait) if wait.isdigit() else 0}
    except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError):
        return {"problem": "connection"}
    except DataCorruptionError:
        return {"problem": "damaged"}
    except OSError as error:
        return {"problem": error.strerror or type(error).__name__}
    except Exception as error:  # by its kind, for the same reason
        return {"problem": type(error).__name__}


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
