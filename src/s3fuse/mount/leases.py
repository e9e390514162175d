"""Leases: who uses a mount, whether or not they have a file open in it.

Each user holds a shared lock on a file next to the mount point.  The kernel
releases it when a process ends, however it ends.
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def lease(path: Path) -> Iterator[None]:
    """Hold a lease while the context lasts."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        try:
            yield
        finally:
            # Children that were forked meanwhile have the file open, too.
            fcntl.flock(file, fcntl.LOCK_UN)


def is_leased(path: Path) -> bool:
    """Tell whether anybody holds a lease.

    Leases are taken under the lock of the scope, so a caller that acts on the
    answer must hold that lock.
    """
    with contextlib.suppress(FileNotFoundError), path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
