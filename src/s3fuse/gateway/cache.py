"""What has come of objects, in sparse files on this node, in blocks.

Only a gateway writes into its cache, so a block is marked as present when all of its bytes
have been written, and never before.  A file is never cut and no hole is punched into it, as
an answer may be on its way from it: what makes room is a whole file, unlinked, whose bytes
stay readable for whoever has it open.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from s3fuse.gateway.failures import version_name
from s3fuse.gateway.strides import Strides
from s3fuse.s3.objects import ObjectInfo

#: How the names of files begin.
FILE = "object-"
#: Bytes of a block: the least that is fetched.
BLOCK = 64 * 1024
#: Bytes of a piece: the most that is fetched by one request.
PIECE = 2**20
#: Seconds for which a file stays after its path was told, as a link to it is made then.
PROMISED = 60.0
#: Seconds between two looks for links, of which there may be thousands.
LOOKED = 1.0
#: Share of what a disk has free that a cache without a bound leaves to others.
SPARE = 0.05

_MISSING, _COMING, _HERE = 0, 1, 2

#: Fetches a span of an object, and gives each chunk of it with its position to a function.
Fetch = Callable[[ObjectInfo, int, int, Callable[[bytes, int], None]], Awaitable[None]]
#: Starts to compare a whole object, in an open file, with what is known of it.
Compare = Callable[[ObjectInfo, IO[bytes]], object]


class NoRoom(Exception):
    """What is wanted does not fit into the cache."""


class CachedObject:
    """One version of an object, as far as it has come.

    Parameters
    ----------
    info : ObjectInfo
        The version.
    folder : Path
        Where its file will be.
    fetch : Fetch
        Brings what is missing.
    compare : Compare
        Is called when all has come, and before anybody is sent the last of it.

    Attributes
    ----------
    strides : Strides
        Where it was read.
    """

    def __init__(self, info: ObjectInfo, folder: Path, fetch: Fetch, compare: Compare) -> None:
        with tempfile.NamedTemporaryFile(prefix=FILE, dir=folder, delete=False) as file:
            self.info, self.path = info, Path(file.name)
            try:
                file.truncate(info.size)
            except OSError:
                self.drop()
                raise
        self._fetch, self._compare = fetch, compare
        self.strides = Strides(info.size)
        self._blocks = bytearray(-(-info.size // BLOCK))
        self._coming: dict[int, asyncio.Future[None]] = {}

    @property
    def is_whole(self) -> bool:
        """Whether all of it has come."""
        return len(self._blocks) == self._blocks.count(_HERE)

    @property
    def is_coming(self) -> bool:
        """Whether some of it is on its way."""
        return bool(self._coming)

    @property
    def held(self) -> int:
        """Bytes that have come or are on their way."""
        return (len(self._blocks) - self._blocks.count(_MISSING)) * BLOCK

    def missing(self, start: int, end: int) -> int:
        """Count the bytes between two positions that have neither come nor are on their way."""
        first, last = _blocks(start, end)
        return self._blocks.count(_MISSING, first, last) * BLOCK

    def order(self, start: int, end: int, piece: int = PIECE) -> list[asyncio.Future[None]]:
        """Have what is missing between two positions fetched; returns what to wait for."""
        first, last = _blocks(start, end)
        position = first
        while (position := self._blocks.find(_MISSING, position, last)) >= 0:
            behind = min(position + piece // BLOCK, last)
            for state in (_COMING, _HERE):
                if (found := self._blocks.find(state, position, behind)) >= 0:
                    behind = found
            self._start(position, behind)
            position = behind
        if self._blocks.find(_COMING, first, last) < 0:
            return []
        return list({each for block, each in self._coming.items() if first <= block < last})

    @contextlib.asynccontextmanager
    async def having(self, start: int, end: int) -> AsyncIterator[IO[bytes]]:
        """Have the file open, with all between two positions in it.

        Raises
        ------
        Exception
            What kept it from coming.
        """
        # Before anything else happens, or it may be dropped.
        with self.path.open("rb", buffering=0) as file:
            if coming := self.order(start, end):
                # One that fails ends the wait; the others go on, as somebody may want them.
                await asyncio.gather(*map(asyncio.shield, coming))
            yield file

    def drop(self) -> None:
        """Unlink the file; who has it open reads on."""
        self.path.unlink(missing_ok=True)

    def _start(self, first: int, last: int) -> None:
        self._blocks[first:last] = bytes([_COMING]) * (last - first)
        task = asyncio.ensure_future(self._bring(first, last))
        # Whoever waits for it is told; a hint that fails is nobody's loss.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._coming |= dict.fromkeys(range(first, last), task)

    async def _bring(self, first: int, last: int) -> None:
        start, end = first * BLOCK, min(last * BLOCK, self.info.size)
        state = _MISSING
        try:
            with self.path.open("r+b", buffering=0) as file:
                write = functools.partial(_write, file.fileno())
                await self._fetch(self.info, start, end, write)
            if self._blocks.count(_HERE) + last - first == len(self._blocks):
                self._compare(self.info, self.path.open("rb"))
            state = _HERE
        finally:
            self._blocks[first:last] = bytes([state]) * (last - first)
            for block in range(first, last):
                del self._coming[block]


def _write(descriptor: int, chunk: bytes, position: int) -> None:
    while chunk:
        written = os.pwrite(descriptor, chunk, position)
        chunk, position = chunk[written:], position + written


def _blocks(start: int, end: int) -> tuple[int, int]:
    return start // BLOCK, -(-end // BLOCK)


@dataclass(eq=False)
class _Lent:
    """A whole object, to whose file links of jobs may lead.

    Attributes
    ----------
    found : CachedObject
        The object.
    state : tuple of int
        What changes when somebody writes to the file.
    told : float
        When its path was told last.
    """

    found: CachedObject
    state: tuple[int, ...]
    told: float = 0.0


def _state(path: Path) -> tuple[int, ...]:
    try:
        status = path.stat()
    except FileNotFoundError:
        return ()
    return status.st_ino, status.st_size, status.st_mtime_ns


@dataclass
class Cache:
    """The objects of a mount that are on this node, up to a bound.

    Parameters
    ----------
    folder : Path
        Where their files are; nobody else writes there.
    fetch : Fetch
        Brings what is missing.
    compare : Compare
        Is called for each object that has come whole.
    bound : int, optional
        Bytes; what the disk has free if left out.
    linked : callable
        Finds the files to which links of jobs lead.
    """

    folder: Path
    fetch: Fetch
    compare: Compare
    bound: int | None = None
    linked: Callable[[], set[Path]] = set
    _objects: dict[str, CachedObject] = field(init=False, default_factory=dict)
    _sizes: dict[str, int] = field(init=False, default_factory=dict)
    _lent: dict[Path, _Lent] = field(init=False, default_factory=dict)
    # The files to which links led, and when.
    _found: set[Path] = field(init=False, default_factory=set)
    _looked: float = field(init=False, default=-LOOKED)

    def find(self, info: ObjectInfo) -> CachedObject | None:
        """Return a version of an object as far as it has come; None if nothing of it has."""
        return self._objects.get(version_name(info))

    def reserve(self, info: ObjectInfo, start: int, end: int) -> CachedObject:
        """Make room for a span of an object: what was used longest ago goes first.

        Raises
        ------
        NoRoom
            If there is not so much.
        OSError
            If the disk is full.
        """
        found = self._touch(info)
        name = version_name(info)
        missing = found.missing(start, end)
        while missing and not self._has_room(missing):
            self._make_room(missing, name)
            # It may have gone itself, and more is missing then.
            found = self._touch(info)
            missing = found.missing(start, end)
        if missing:
            self._sizes[name] = found.held + missing
        return found

    def lend(self, found: CachedObject) -> Path | None:
        """Return the file of a whole object, for links of jobs to lead to.

        Such files take half of the bound at most; the other half is for what is read in pieces.

        Returns
        -------
        Path, optional
            None if there is no room for it, or if it has gone meanwhile.
        """
        if not found.is_whole or self.find(found.info) is not found:
            return None
        if found.path not in self._lent:
            in_use = self._in_use()
            self._lent = {path: lent for path, lent in self._lent.items() if path in in_use}
            size = sum(each.found.info.size for each in self._lent.values())
            if self.bound is not None and size + found.info.size > self.bound // 2:
                return None
            # A job that writes to it would change it for others.
            found.path.chmod(0o400)
            self._lent[found.path] = _Lent(found, _state(found.path))
        self._lent[found.path].told = time.monotonic()
        return found.path

    def is_lent(self, found: CachedObject) -> bool:
        """Tell whether links of jobs may lead to the file of an object."""
        return found.path in self._lent

    def edited(self) -> list[ObjectInfo]:
        """Return the objects whose files somebody has written to, as root can."""
        states = {each: _state(each.found.path) for each in self._lent.values()}
        # What somebody has unlinked, nobody can have read.
        return [each.found.info for each, state in states.items() if state not in ((), each.state)]

    def forget(self, info: ObjectInfo) -> None:
        """Drop a version of an object that turned out to be wrong."""
        name = version_name(info)
        if found := self._objects.pop(name, None):
            self._sizes.pop(name)
            self._lent.pop(found.path, None)
            found.drop()

    def held(self, info: ObjectInfo) -> int:
        """Return the bytes of a version that have come or are on their way."""
        found = self.find(info)
        return min(found.held, info.size) if found else 0

    def _touch(self, info: ObjectInfo) -> CachedObject:
        """Return a version of an object, new or not, as the one that was used last."""
        name = version_name(info)
        found = self._objects.pop(name, None)
        found = found or CachedObject(info, self.folder, self.fetch, self.compare)
        self._objects[name] = found
        self._sizes.setdefault(name, 0)
        return found

    def _in_use(self) -> set[Path]:
        """Return the files to which links lead, or will in a moment."""
        now = time.monotonic()
        if now - self._looked >= LOOKED:
            self._found, self._looked = self.linked(), now
        told = {path for path, lent in self._lent.items() if now - lent.told < PROMISED}
        return self._found | told

    def _has_room(self, size: int) -> bool:
        status = os.statvfs(self.folder)
        free = status.f_bavail * status.f_frsize
        if free * (1 - SPARE) < size:
            return False
        return self.bound is None or sum(self._sizes.values()) + size <= self.bound

    def _make_room(self, size: int, name: str) -> None:
        linked = self._in_use() if self._lent else set()
        # The one that is wanted goes last: in a bound smaller than itself, its parts follow
        # each other.
        for each in [*(key for key in self._objects if key != name), name]:
            found = self._objects[each]
            if self._sizes[each] and not found.is_coming and found.path not in linked:
                self._objects.pop(each).drop()
                self._sizes.pop(each)
                self._lent.pop(found.path, None)
                if self._has_room(size):
                    return
        raise NoRoom
