"""The lock of a directory, which ends with its holder."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

#: The lock file of a directory.
LOCK = "lock"


@contextmanager
def locked(directory: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold the lock of a directory; the kernel frees it when its holder dies.

    A directory that somebody has just removed is made again, unless `wait` is false.

    Yields
    ------
    bool
        Whether it is held; always, unless `wait` is false and somebody else has it.
    """
    while True:
        if wait:
            # Not exist_ok, which fails where somebody removes it at this moment.
            with suppress(FileExistsError):
                directory.mkdir(mode=0o700)
        try:
            opened = (directory / LOCK).open("a")
        except FileNotFoundError:
            if wait:
                continue
            yield False
            return
        with opened as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
                return
            if not _is_current(file.fileno(), directory / LOCK):
                continue
            try:
                yield True
            finally:
                # Children that were forked meanwhile have the file open, too.
                fcntl.flock(file, fcntl.LOCK_UN)
            return


def _is_current(descriptor: int, path: Path) -> bool:
    """Whether an open file is still the one at `path`, and not one removed meanwhile."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
