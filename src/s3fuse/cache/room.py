"""The bound of a cache, which all processes of a user on this node keep together.

A counter in a file says how many bytes the entries hold.  Room is taken under its lock, and
given to a file at once, so the disk cannot be full later.  A killed process leaves it too
high, never too low; so it is counted anew before anything goes.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from s3fuse.cache.entries import BLOCK, Entry, entries, remove_unused

#: Share of what the disk has free that is left to others.
SPARE = 0.05
#: Share of what was held that is free after something had to go.
SLACK = 1 / 16
#: Seconds for which the lock is waited for.
PATIENCE = 0.5

_COUNTER = "room"
_COUNT = struct.Struct("<Q")


class NoRoom(Exception):
    """What is wanted does not fit into the cache."""


@dataclass
class Room:
    """The room of a cache.

    Parameters
    ----------
    folder : Path
        Where the entries are.
    bound : int, optional
        Bytes; if left out, half of what the disk would have free without the cache.
    spare : int
        Bytes of the disk that others will want.
    """

    folder: Path
    bound: int | None = None
    spare: int = 0

    def take(self, entry: Entry, spans: list[range]) -> None:
        """Give room on the disk to blocks of an entry; what was used longest ago goes first.

        Raises
        ------
        NoRoom
            If there is not so much, or the disk is full.
        """
        wanted = sum(map(len, spans)) * BLOCK
        with self._locked() as counter:
            used = _read(counter)
            if used is None or not self._fits(used, wanted):
                used = self._make_room(wanted)
            if not self._fits(used, wanted):
                raise NoRoom
            # First, as it may be too high, and never too low.
            os.pwrite(counter, _COUNT.pack(used + wanted), 0)
            try:
                for span in spans:
                    entry.allocate(span)
            except OSError as error:
                raise NoRoom from error

    def free(self, size: int) -> None:
        """Remove so many bytes of what is not in use, if there are, for others to use the disk.

        Raises
        ------
        NoRoom
            If another process is at it for too long.
        """
        with self._locked() as counter:
            used = 0
            for each in sorted(entries(self.folder), key=lambda each: each.used):
                if size > 0 and each.held and remove_unused(each.path):
                    size -= each.held
                else:
                    used += each.held
            os.pwrite(counter, _COUNT.pack(used), 0)

    def _fits(self, used: int, wanted: int) -> bool:
        status = os.statvfs(self.folder)
        free = status.f_bavail * status.f_frsize
        if free - max(int(free * SPARE), self.spare) < wanted:
            return False
        bound = (free + used) // 2 if self.bound is None else self.bound
        return used + wanted <= bound

    def _make_room(self, wanted: int) -> int:
        """Remove what was used longest ago and is not in use; returns what is held then."""
        found = sorted(entries(self.folder), key=lambda each: each.used)
        used = sum(each.held for each in found)
        if self._fits(used, wanted):
            return used
        more = wanted + int(used * SLACK)
        for each in found:
            if self._fits(used, more):
                break
            if remove_unused(each.path):
                used -= each.held
        return used

    @contextlib.contextmanager
    def _locked(self) -> Iterator[int]:
        descriptor = os.open(self.folder / _COUNTER, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            deadline = time.monotonic() + PATIENCE
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise NoRoom from None
                    time.sleep(0.001)
            yield descriptor
        finally:
            os.close(descriptor)


def _read(counter: int) -> int | None:
    """Read the counter; None if it is new."""
    content = os.pread(counter, _COUNT.size, 0)
    return int(_COUNT.unpack(content)[0]) if content else None
