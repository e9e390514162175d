"""Room on the disk that s3fs finds for the first bytes of each file.

What s3fs has of the files that are open lies on the disk.  Where it has no room for the next
5 MB, it drops what it has of the file that it reads, and then reads what was asked for only.
Of a file of which it has nothing yet it can drop nothing; where others have left no room at
all, whoever reads it gets ENOSPC.  It grows only by what it is sent, so that is looked at
before.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from pathlib import Path

from s3fuse.cache.room import NoRoom, Room

#: Bytes that s3fs finds at least: some reads of the kernel, and less than it reads ahead.
LEAST = 2**20
#: Bytes that are given up for that, at first: with them it is still less.
BALLAST = 3 * 2**20
#: Bytes that s3fs reads ahead.
AHEAD = 5 * 10**6

_BALLAST = "reserve"


@dataclass
class Reserve:
    """The room that s3fs finds.

    Parameters
    ----------
    directory : Path
        A directory of the gateway, on the disk where s3fs keeps what it reads.
    spare : int
        Bytes that s3fs leaves free.
    room : Room
        The room of the cache of the node, on the same disk.
    """

    directory: Path
    spare: int
    room: Room
    _is_held: bool = field(init=False)

    def __post_init__(self) -> None:
        self._is_held = (self.directory / _BALLAST).exists()

    def keep(self, size: int) -> None:
        """See to it that s3fs finds room after it was sent so many bytes."""
        left = self._left() - size
        if left > LEAST + BALLAST + AHEAD and not self._is_held:
            self._take()
        elif left < LEAST and self._is_held:
            (self.directory / _BALLAST).unlink(missing_ok=True)
            self._is_held = False
            left = self._left() - size
        if left < LEAST:
            with contextlib.suppress(NoRoom):
                self.room.free(LEAST - left)

    def _take(self) -> None:
        self._is_held = True
        with contextlib.suppress(OSError), (self.directory / _BALLAST).open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, BALLAST)

    def _left(self) -> int:
        status = os.statvfs(self.directory)
        return status.f_bavail * status.f_frsize - self.spare
