"""A function under AWS's Runtime Interface Emulator: real runtime client, a control group, code that is read-only."""

import contextlib
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pianoai import interpreters
from pianoai.runtime.errors import InputError
from pianoai.verification.cgroups import ControlGroup
from pianoai.verification.limits import MIB

HANDLER = "handler.lambda_handler"
TIMEOUT = 900  # seconds: the most that Lambda allows
WAIT = 120  # seconds for an answer
INIT = re.compile(r"INIT REPORT\(durationMs: ([\d.]+)\)")
MOUNT = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0"'


@dataclass(frozen=True)
class Setting:
    """What is run: an interpreter, the unpacked zip, AWS's programs, and a file for the log."""

    python: Path
    code: Path  # the unpacked zip
    client: Path  # folder with awslambdaric
    emulator: Path  # the program aws-lambda-rie
    log: Path
    memory_mb: int


class Function:
    """A function that waits for events; see `running`."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, log: Path, group: ControlGroup | None) -> None:
        self._process, self._url, self._log, self._group = process, url, log, group
        self._open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open

    def invoke(self, event: dict[str, Any]) -> tuple[Any, float]:
        """The function's answer, and the seconds it took; a first call includes the start.

        Raises InputError when no answer comes, as when memory runs out.
        """
        request = urllib.request.Request(self._url, json.dumps(event).encode(), method="POST")
        for attempt in range(200):
            began = time.perf_counter()
            try:
                with self._open(request, timeout=WAIT) as response:
                    answer = json.loads(response.read())
                break
            except (urllib.error.URLError, ConnectionError, TimeoutError, ValueError) as error:
                refused = isinstance(getattr(error, "reason", error), ConnectionRefusedError)
                if not refused or self._process.poll() is not None or attempt == 199:
                    raise InputError(f"the function gave no answer: {error}; {self._last_line()}") from None
                time.sleep(0.02)  # the emulator does not listen yet
        if not isinstance(answer, dict) or "errorType" in answer or "errorMessage" in answer:
            raise InputError(f"the function failed: {str(answer)[:200]}; {self._last_line()}")
        return answer, time.perf_counter() - began

    def init_seconds(self) -> float:
        """The emulator's own measure: from the start of the runtime to its first request for an event."""
        found = INIT.findall(self._log.read_text("utf-8", "replace"))
        if len(found) != 1:
            raise InputError(f"the function was started {len(found)} times, not once; {self._last_line()}")
        return float(found[0]) / 1000

    def resident_mb(self) -> float:
        """The most memory that the runtime's process had resident at once (VmHWM), in MB of 2^20 bytes."""
        peak = 0
        for process in self._runtime():
            with contextlib.suppress(OSError):
                found = re.search(r"^VmHWM:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text(), re.MULTILINE)
                peak += int(found[1]) if found else 0
        if not peak:
            raise InputError(f"the function's process is gone; {self._last_line()}")
        return peak * 1024 / MIB

    def _runtime(self) -> list[int]:
        return self._group.members() if self._group else children(self._process.pid)

    def _last_line(self) -> str:
        lines = self._log.read_text("utf-8", "replace").strip().splitlines() if self._log.exists() else []
        return f"its log ends: {lines[-1][:200]}" if lines else "its log is empty"

    def stop(self) -> None:
        """End the emulator and the runtime, each by its number."""
        runtime = self._runtime()
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for process in runtime:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, 9)


def children(process: int) -> list[int]:
    """The processes that one has started, by number."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The name, in brackets, may have spaces in it.
            if int(path.read_text().rpartition(")")[2].split()[1]) == process:
                found.append(int(path.parent.name))
    return found


def private_mounts() -> list[str]:
    """A command that runs another with mounts of its own, which end with it; empty where that is not allowed."""
    if shutil.which("unshare") is None or shutil.which("mount") is None:
        return []
    for command in (["unshare", "--mount"], ["unshare", "--mount", "--map-root-user"]):
        folder = str(Path(__file__).parent)
        probe = [*command, "sh", "-c", f"{{ {MOUNT}; }} 2>&1", folder]
        if subprocess.run(probe, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0:
            return command
    return []


@contextlib.contextmanager
def running(setting: Setting, group: ControlGroup | None, mounts: list[str]) -> Iterator[Function]:
    """The function, started; it is ended on leaving, whatever happens.

    The emulator itself is outside the group. With `mounts` (see `private_mounts`) the code is mounted read-only;
    without, Python is told to write no bytecode, which costs the same time.
    """
    ports = free_ports(2)
    join = "".join(f"echo $$ > {shlex.quote(str(path))} && " for path in (group.joins() if group else []))
    command = [str(setting.emulator), f"--runtime-interface-emulator-address=127.0.0.1:{ports[0]}"]
    command += [f"--runtime-api-address=127.0.0.1:{ports[1]}", "sh", "-c", f'{join}exec "$@"', "sh"]
    command += [str(setting.python), "-S", "-m", "awslambdaric", HANDLER]
    if mounts:
        command = [*mounts, "sh", "-c", f'{MOUNT} && cd "$0" && exec "$@"', str(setting.code), *command]
    version = ".".join(interpreters.full_version(setting.python).split(".")[:2])
    environment = {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
        "HOME": "/tmp",
        "TZ": ":UTC",
        "LANG": "en_US.UTF-8",
        "PYTHONPATH": str(setting.client),
        "LAMBDA_TASK_ROOT": str(setting.code),
        "AWS_EXECUTION_ENV": f"AWS_Lambda_python{version}",  # by it the client writes JSON and waits as on Lambda
        "AWS_LAMBDA_FUNCTION_NAME": "pianoai",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(setting.memory_mb),
        "AWS_LAMBDA_FUNCTION_TIMEOUT": str(TIMEOUT),
    }
    if not mounts:
        environment["PYTHONDONTWRITEBYTECODE"] = "1"
    with setting.log.open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=setting.code,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # an interrupt at the keyboard is for us to handle
        )
    url = f"http://127.0.0.1:{ports[0]}/2015-03-31/functions/function/invocations"
    function = Function(process, url, setting.log, group)
    try:
        yield function
    finally:
        function.stop()


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
