"""Who uses a mount, beyond those who have a file open in it at this moment.

Each user holds a shared lock on a file beside the mount point.  The kernel
lets go of it when a process ends, however it ends.
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def using(path: Path) -> Iterator[None]:
    """Hold the lock of users while the context lasts."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        try:
            yield
        finally:
            # Children that were forked meanwhile have the file open, too.
            fcntl.flock(file, fcntl.LOCK_UN)


def is_used(path: Path) -> bool:
    """Whether anybody holds the lock of users.

    Whoever wants to act on the answer holds the lock of the scope meanwhile,
    under which users come.
    """
    with contextlib.suppress(FileNotFoundError), path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
