"""A Linux control group, version 1 or 2, that bounds the memory and the CPU time of the processes put into it."""

import contextlib
import os
import time
from pathlib import Path
from types import TracebackType

from pianoai.verification.limits import PERIOD_US


class ControlGroup:
    """Used with `with`: made on entering, and gone on leaving, with what still runs in it.

    `folders` has the new group's folder for each controller: the same one twice in version 2.
    """

    def __init__(self, folders: dict[str, Path], version: int, memory_bytes: int) -> None:
        self.folders, self.version, self.memory_bytes = folders, version, memory_bytes

    def __enter__(self) -> "ControlGroup":
        try:
            for folder in self._each():
                folder.mkdir()
            name = "memory.max" if self.version == 2 else "memory.limit_in_bytes"
            self._write("memory", name, self.memory_bytes)
            with contextlib.suppress(OSError):  # where there is swap: Lambda has none
                both = "memory.memsw.limit_in_bytes"  # of memory and swap together
                self._write("memory", *(("memory.swap.max", 0) if self.version == 2 else (both, self.memory_bytes)))
            self.throttle(None)
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    def joins(self) -> list[Path]:
        """The files into which a process writes its number to become a member."""
        return [folder / "cgroup.procs" for folder in self._each()]

    def throttle(self, share: float | None) -> None:
        """Grant the members this part of one CPU together, or as much as there is."""
        if self.version == 2:
            quota = "max" if share is None else str(round(share * PERIOD_US))
            self._write("cpu", "cpu.max", f"{quota} {PERIOD_US}")
        else:
            self._write("cpu", "cpu.cfs_period_us", PERIOD_US)
            self._write("cpu", "cpu.cfs_quota_us", -1 if share is None else round(share * PERIOD_US))

    def reset_peak(self) -> None:
        """Forget the peak so far; some versions of Linux cannot, and then it counts."""
        name = "memory.peak" if self.version == 2 else "memory.max_usage_in_bytes"
        with contextlib.suppress(OSError):
            self._write("memory", name, 0)

    def peak(self) -> int | None:
        """The most memory that the members had at once, files in the page cache included, in bytes."""
        name = "memory.peak" if self.version == 2 else "memory.max_usage_in_bytes"
        try:
            return int((self.folders["memory"] / name).read_text())
        except OSError:  # before Linux 5.19
            return None

    def members(self) -> list[int]:
        """The processes in it, by number."""
        found: set[int] = set()
        for path in self.joins():
            with contextlib.suppress(OSError):
                found |= {int(line) for line in path.read_text().split()}
        return sorted(found)

    def _each(self) -> list[Path]:
        return sorted(set(self.folders.values()))

    def _write(self, controller: str, name: str, value: object) -> None:
        (self.folders[controller] / name).write_text(str(value))

    def _remove(self) -> None:
        for _ in range(100):  # a process that was killed takes a moment to leave
            for process in self.members():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, 9)
            left = [folder for folder in self._each() if folder.is_dir()]
            for folder in left:
                with contextlib.suppress(OSError):
                    folder.rmdir()
            if not any(folder.is_dir() for folder in left):
                return
            time.sleep(0.05)


def parents(mounts: str, own: str) -> tuple[dict[str, Path], int] | None:
    """The folders in which groups for memory and CPU can be made, and the version, or None.

    `mounts` and `own` are the texts of /proc/self/mounts and /proc/self/cgroup. Version 1 wants a mount for each
    controller; version 2 wants both handed down by the folder, since Linux refuses to change that where processes are.
    """
    lines = [line.split() for line in mounts.splitlines()]
    paths = {names: path for _, names, path in (line.split(":", 2) for line in own.splitlines())}
    first: dict[str, Path] = {
        controller: Path(line[1])
        for line in lines
        for controller in ("memory", "cpu")
        if line[2] == "cgroup" and controller in line[3].split(",")
    }
    if len(first) == 2:
        for controller, mount in first.items():
            own_path = next((path for names, path in paths.items() if controller in names.split(",")), "/")
            inner = mount / own_path.strip("/")
            first[controller] = inner if inner.is_dir() else mount
        return first, 1
    for line in lines:
        if line[2] == "cgroup2":
            mount = Path(line[1])
            for folder in (mount / paths.get("", "/").strip("/"), mount):
                control = folder / "cgroup.subtree_control"
                if control.is_file() and {"cpu", "memory"} <= set(control.read_text().split()):
                    return {"memory": folder, "cpu": folder}, 2
    return None


def control_group(memory_bytes: int) -> ControlGroup | None:
    """A group that can be entered here, or None where there are none or they cannot be written."""
    try:
        found = parents(Path("/proc/self/mounts").read_text(), Path("/proc/self/cgroup").read_text())
        if found is None:
            return None
        folders, version = found
        name = f"pianoai-verify-{os.getpid()}"
        group = ControlGroup({key: folder / name for key, folder in folders.items()}, version, memory_bytes)
        with group:
            return group
    except OSError:
        return None
