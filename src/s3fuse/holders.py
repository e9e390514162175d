"""Which processes keep a mount busy."""

from __future__ import annotations

import os
from pathlib import Path

import psutil


def holders(mount_point: Path) -> list[psutil.Process]:
    """Find the processes with a file open, mapped or as working directory in a mount.

    Only links of ``/proc`` are read: a ``stat`` of a path in the mount, which
    ``psutil.Process.open_files`` does, would hang when the daemon does.
    Processes of other users are seen by root alone.
    """
    found = []
    for process in psutil.process_iter():
        if process.pid != os.getpid() and _holds(process.pid, str(mount_point)):
            found.append(process)
    return found


def describe(processes: list[psutil.Process]) -> str:
    """Name processes for a message, as in "python3 (pid 42)"."""
    names = []
    for process in processes[:5]:
        try:
            names.append(f"{process.name()} (pid {process.pid})")
        except psutil.NoSuchProcess:
            continue
    if len(processes) > 5:
        names.append(f"{len(processes) - 5} more")
    return ", ".join(names) or "a process that cannot be seen from here"


def _holds(pid: int, mount_point: str) -> bool:
    process = Path("/proc") / str(pid)
    links = [process / "cwd", process / "root", process / "exe"]
    for directory in ("fd", "map_files"):
        try:
            links += (process / directory).iterdir()
        except OSError:
            continue
    for link in links:
        try:
            target = os.readlink(link)
        except OSError:
            continue
        if target == mount_point or target.startswith(f"{mount_point}/"):
            return True
    return False
