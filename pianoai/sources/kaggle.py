"""The source `kaggle`: a data set of piano rolls, a pickled list of sparse matrices."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Timer
from time import monotonic, sleep
from typing import Any

from pianoai.runtime.errors import InputError
from pianoai.sources import DataConfig, KaggleConfig, Piece, Refused, rolls, unpickling

TOKEN = (
    "make a token at https://www.kaggle.com/settings (Generate New Token) and save it as ~/.kaggle/access_token,"
    " or set KAGGLE_API_TOKEN"
)
ADVICE = {
    401: f"Kaggle does not accept the credentials; {TOKEN}, or remove them for public data",
    403: f"Kaggle does not allow it; accept the data set's terms there, then {TOKEN}",
    404: "Kaggle has no such data set, version or file; correct data.kaggle.handle and data.kaggle.file, or, if it is"
    f" private, {TOKEN}",
    429: "Kaggle has had too many requests from here; wait a while and run the stage again",
}
AGAIN = (408, 429)  # and all that are the server's fault
ATTEMPTS = 5
PAUSE = 2.0  # seconds before the second attempt; twice as long before each further one


def read(config: DataConfig) -> Iterator[Piece | Refused]:
    """The pieces of the data set in their order, named by their number in it, from 0000 on.

    Raises InputError when the file cannot be had or is not a pickled list of rolls.
    """
    path = download(config.kaggle)
    try:
        yield from rolls.read(path, config.kaggle)
    except InputError as error:
        raise InputError(f"{error}; delete {path} to download it again") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None


def download(config: KaggleConfig) -> Path:
    """The file, from kagglehub's cache or from Kaggle. Raises InputError when neither has it within `config.seconds`.

    What may pass, as too many requests, an overloaded server or a lost connection, is tried ATTEMPTS times; kagglehub
    goes on where a file broke off.
    """
    what = f"data.kaggle: {config.handle}, {config.file}"
    end = monotonic() + config.seconds
    for attempt in range(1, ATTEMPTS + 1):
        answer = fetch(config, end - monotonic())
        if "path" in answer:
            return Path(answer["path"])
        if not passes(answer) or attempt == ATTEMPTS:
            break
        pause = max(PAUSE * 2 ** (attempt - 1), answer.get("wait", 0))
        if monotonic() + pause >= end:
            break
        print(f"{what}: {explain(answer, config)}; attempt {attempt + 1} of {ATTEMPTS} in {pause:g} s", file=sys.stderr)
        sleep(pause)
    raise InputError(f"{what}: {explain(answer, config)}")


def fetch(config: KaggleConfig, seconds: float) -> dict[str, Any]:
    """What `pianoai.sources.fetch` says within so many seconds."""
    command = [sys.executable, "-m", "pianoai.sources.fetch", config.handle, config.file, str(unpickling.LARGEST_FILE)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        timer = Timer(max(seconds, 0.0), process.kill)
        timer.start()
        try:
            lines = process.stdout.read().splitlines()  # its standard input stays open until then
            late = not timer.is_alive()
        finally:
            timer.cancel()
    if lines and lines[-1].startswith("{"):
        answer: dict[str, Any] = json.loads(lines[-1])
        return answer
    return {"problem": "slow" if late else "it ended without an answer"}


def passes(answer: dict[str, Any]) -> bool:
    """Whether a problem may be gone a little later."""
    status = answer.get("status", 0)
    return answer["problem"] in ("connection", "damaged") or status in AGAIN or status >= 500


def explain(answer: dict[str, Any], config: KaggleConfig) -> str:
    """A problem, and what to do."""
    problem = answer["problem"]
    if problem == "status":
        advice = ADVICE.get(answer["status"], "Kaggle is in trouble; run the stage again later")
        return f"{advice} (HTTP {answer['status']})"
    return {
        "connection": "no connection to Kaggle; or choose data.source=corpus",
        "credentials": f"the credentials in ~/.kaggle or KAGGLE_API_TOKEN cannot be read; {TOKEN}",
        "File too large": f"is larger than {unpickling.LARGEST_FILE:,} bytes once unpacked; do not trust this file",
        "damaged": "arrived damaged; run the stage again",
        "slow": f"took longer than {config.seconds:g} seconds; run the stage again, which goes on where it broke off,"
        " or raise data.kaggle.seconds",
    }.get(problem, f"kagglehub failed: {problem}")
