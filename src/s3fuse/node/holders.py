"""Which processes keep a mount busy."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

#: Processes that a message names.
MOST_NAMED = 5


@dataclass(frozen=True)
class Holder:
    """A process that keeps a place busy.

    Attributes
    ----------
    process : psutil.Process
        The process.
    path : str
        What it has open there, relative to the place; empty for the place itself.
    """

    process: psutil.Process
    path: str

    def __str__(self) -> str:
        """Name it for a message, as in "python3 (pid 42) at tas.nc"."""
        is_this = self.process.pid == os.getpid()
        name = f"{'this ' if is_this else ''}{self.process.name()} (pid {self.process.pid})"
        return f"{name} at {self.path}" if self.path else name


def holders(*places: Path) -> list[Holder]:
    """Find the processes with a file open, mapped or as working directory in any of some places.

    Only links of ``/proc`` are read: a ``stat`` of a path in the mount, which
    ``psutil.Process.open_files`` does, would hang when the daemon does.
    Processes of other users are seen by root alone.
    """
    found = ((process, _held(process.pid, places)) for process in psutil.process_iter())
    return [Holder(process, path) for process, path in found if path is not None]


def describe(found: list[Holder]) -> str:
    """Name processes for a message; of many the first."""
    names = []
    for holder in found[:MOST_NAMED]:
        with contextlib.suppress(psutil.NoSuchProcess):
            names.append(str(holder))
    if len(found) > MOST_NAMED:
        names.append(f"{len(found) - MOST_NAMED} more")
    return ", ".join(names) or "a process that cannot be seen from here"


def _held(pid: int, places: Sequence[Path]) -> str | None:
    """What a process has open in one of the places; None for nothing."""
    process = Path("/proc") / str(pid)
    links = [process / "cwd", process / "root", process / "exe"]
    for directory in ("fd", "map_files"):
        with contextlib.suppress(OSError):
            links += (process / directory).iterdir()
    for link in links:
        with contextlib.suppress(OSError):
            target = os.readlink(link)
            for place in map(str, places):
                if target == place or target.startswith(f"{place}/"):
                    return target[len(place) + 1 :]
    return None
