"""Room on the disk that s3fs finds for the first bytes of each file.

What s3fs has of the files that are open lies on the disk.  Where it has no room for the next
5 MB, it drops what it has of the file that it reads, and then reads what was asked for only.
Of a file of which it has nothing yet it can drop nothing; where others have left no room at
all, whoever reads it gets ENOSPC.  What is on its way it counts twice: as room that it will
want, and as bytes that the disk has already.

It grows only by what it is sent.  So a file is held on its disk, which becomes smaller by
what is on its way, and smaller still where hardly anything is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from s3fuse.cache.room import NoRoom, Room

#: Bytes that s3fs finds at least: some reads of the kernel, and less than it reads ahead.
LEAST = 2**20
#: Bytes that are given up for that, at first: with them it is still less.
SPARED = 3 * 2**20
#: Bytes that s3fs reads ahead.
AHEAD = 5 * 2**20
#: Bytes that the cache of the node leaves for what s3fs reads next.
NEEDED = 2 * AHEAD
#: Bytes of what is on its way that are made up for, at most, and the share of its room.
MOST, SHARE = 6 * AHEAD, 3
#: Bytes of room with which nothing needs to be held.
PLENTY = 2**30
#: Bytes of room with which s3fs is sent one piece after the other.
TIGHT = 16 * AHEAD
#: Seconds until s3fs has noted that all has come.
NOTED = 0.1

_FILE = "reserve"


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
    _sent: int = field(init=False, default=0)
    _held: int = field(init=False)
    _most: int = field(init=False)
    _turn: asyncio.Lock = field(init=False, default_factory=asyncio.Lock)
    _is_sparing: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            # Of a gateway before this one.
            (self.directory / _FILE).unlink()
        self._held = 0
        self._most = max(0, min(MOST, self._left() // SHARE - SPARED))

    @contextlib.asynccontextmanager
    async def sending(self, size: int) -> AsyncIterator[None]:
        """See to it that s3fs finds room while and after it is sent so many bytes."""
        # Where there is little, one after the other.
        is_tight = self._left() + self._held < TIGHT
        async with self._turn if is_tight else contextlib.nullcontext():
            self._sent += size
            self.adjust(size)
            try:
                yield
            finally:
                asyncio.get_running_loop().call_later(NOTED, self._has_come, size)

    def adjust(self, size: int = 0) -> None:
        """Give up what s3fs needs now, or take it back.

        Parameters
        ----------
        size : int
            Bytes that it will have in a moment.
        """
        left = self._left() + self._held - size
        wanted = max(0, self._most - self._sent)
        if left - wanted < LEAST:
            self._is_sparing = True
        elif left - wanted > LEAST + SPARED + AHEAD:
            self._is_sparing = False
        if not self._is_sparing:
            wanted += SPARED
        if left > PLENTY:
            wanted = 0
        # What others have taken meanwhile is not there any more.
        self._hold(max(0, min(wanted, left - LEAST)))
        if left < LEAST:
            with contextlib.suppress(NoRoom):
                self.room.free(LEAST - left)

    def _has_come(self, size: int) -> None:
        self._sent -= size
        self.adjust()

    def _hold(self, size: int) -> None:
        if size == self._held:
            return
        with (
            contextlib.suppress(OSError),
            open(self.directory / _FILE, "ab") as file,
        ):
            if size < self._held:
                file.truncate(size)
            else:
                os.posix_fallocate(file.fileno(), 0, size)
            self._held = size

    def _left(self) -> int:
        status = os.statvfs(self.directory)
        return status.f_bavail * status.f_frsize - self.spare
