"""What a command may use and what it does use: memory by a cgroup, disk by looking."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from watching import Watching

#: Where version 1 of cgroups has its memory controller; version 2 has all in one tree.
_ROOTS = {
    Path("/sys/fs/cgroup/memory"): "memory.limit_in_bytes",
    Path("/sys/fs/cgroup"): "memory.max",
}


@contextlib.contextmanager
def memory(limit: int) -> Iterator[Callable[[], None]]:
    """Bound the memory of processes and all that they start, files in cache included.

    Parameters
    ----------
    limit : int
        Bytes for all of them together; where no cgroup may be made, for the
        data of each.

    Yields
    ------
    callable
        To be called in a process before it becomes the command.
    """
    for root, name in _ROOTS.items():
        group = root / f"s3fuse-bench-{os.getpid()}"
        try:
            group.mkdir()
            (group / name).write_text(str(limit))
        except OSError:
            with contextlib.suppress(OSError):
                group.rmdir()
            continue
        try:
            yield partial(_enter, group / "cgroup.procs")
        finally:
            group.rmdir()
        return
    yield lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def _enter(members: Path) -> None:
    members.write_text(str(os.getpid()))


class Peak(Watching):
    """Watches how much disk a folder takes; there need not be one.

    Attributes
    ----------
    bytes : int
        The most that was seen.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.bytes = 0
        self._folder = folder

    def look(self) -> None:
        """Compare what is taken now with the most so far."""
        self.bytes = max(self.bytes, self._taken())

    def _taken(self) -> int:
        seen: dict[int, int] = {}
        for directory, _, files in os.walk(self._folder):
            for name in files:
                with contextlib.suppress(FileNotFoundError):
                    found = Path(directory, name).lstat()
                    # One file may have several names.
                    seen[found.st_ino] = found.st_blocks * 512
        return sum(seen.values())
