"""Which processes keep a mount busy."""

from __future__ import annotations

import os
from pathlib import Path

import psutil


def holders(*places: Path) -> list[psutil.Process]:
    """Find the processes with a file open, mapped or as working directory in any of some places.

    Only links of ``/proc`` are read: a ``stat`` of a path in the mount, which
    ``psutil.Process.open_files`` does, would hang when the daemon does.
    Processes of other users are seen by root alone.
    """
    wanted = [str(place) for place in places]
    return [process for process in psutil.process_iter() if _holds(process.pid, wanted)]


def describe(processes: list[psutil.Process]) -> str:
    """Name processes for a message, as in "python3 (pid 42)"."""
    names = []
    for process in processes[:5]:
        try:
            is_this = process.pid == os.getpid()
            names.append(f"{'this ' if is_this else ''}{process.name()} (pid {process.pid})")
        except psutil.NoSuchProcess:
            continue
    if len(processes) > 5:
        names.append(f"{len(processes) - 5} more")
    return ", ".join(names) or "a process that cannot be seen from here"


def _holds(pid: int, places: list[str]) -> bool:
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
        if any(target == place or target.startswith(f"{place}/") for place in places):
            return True
    return False
