"""The objects that a gateway reads: opened in the cache of its node, and fetched into it.

What is on its way through this gateway is a task that anybody here can wait for; what
another process fetches is looked for again and again, as it may be killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from s3fuse.cache.entries import BLOCK, Entry, Gone, remove
from s3fuse.cache.place import EntryPlace, entry_of
from s3fuse.cache.room import NoRoom, Room
from s3fuse.gateway.strides import Strides
from s3fuse.s3.objects import ObjectInfo, version_name

#: How the names of files begin to which links of jobs may lead.
FILE = "object-"
#: Bytes of a piece: the most that is fetched by one request.
PIECE = 2**20
#: Seconds for which a file stays after its path was told, as a link to it is made then.
PROMISED = 60.0
#: Seconds between two looks for links, of which there may be thousands.
LOOKED = 1.0
#: Seconds between two looks at what another process fetches: the first ones, and the later ones.
SOON, LATER = 0.002, 0.05
#: Seconds after which it is fetched around the cache, as that process may be stopped.
PATIENCE = 30.0

#: Fetches a span of an object, and gives each chunk of it with its position to a function.
Fetch = Callable[[ObjectInfo, int, int, Callable[[bytes, int], None]], Awaitable[None]]
#: Starts to compare a whole object, in an open file, with what is known of it: is it right?
Compare = Callable[[ObjectInfo, IO[bytes]], "asyncio.Future[bool]"]


class OpenObject:
    """One version of an object, while it is used here.

    Parameters
    ----------
    info : ObjectInfo
        The version.
    entry : Entry
        What has come of it to this node.
    bring : callable
        Has blocks of it come.

    Attributes
    ----------
    info, entry
        The parameters.
    users : int
        How many use it.
    is_comparing : bool
        Whether all of it is being compared, or was.
    """

    def __init__(
        self,
        info: ObjectInfo,
        entry: Entry,
        bring: Callable[[OpenObject, range], Awaitable[None]],
    ) -> None:
        self.info, self.entry = info, entry
        self.users = 0
        self.is_comparing = False
        self._bring = bring
        self._coming: dict[int, asyncio.Task[None]] = {}

    def missing(self, start: int, end: int) -> int:
        """Count the bytes between two positions that have neither come nor are on their way."""
        spans = self.entry.missing(*_blocks(start, end))
        return sum(block not in self._coming for span in spans for block in span) * BLOCK

    def order(self, start: int, end: int, piece: int = PIECE) -> set[asyncio.Task[None]]:
        """Have what is missing between two positions fetched; returns what to wait for.

        Parameters
        ----------
        start, end : int
            The positions.
        piece : int
            The most bytes of a request.
        """
        coming: set[asyncio.Task[None]] = set()
        for span in self.entry.missing(*_blocks(start, end)):
            first = span.start
            while first < span.stop:
                task = self._coming.get(first)
                if task is None:
                    last = min(first + piece // BLOCK, span.stop)
                    last = next((b for b in range(first, last) if b in self._coming), last)
                    task = self._start(range(first, last))
                    first = last
                else:
                    first += 1
                coming.add(task)
        return coming

    async def bring(self, start: int, end: int) -> None:
        """Have all between two positions come.

        Raises
        ------
        Exception
            What kept it from coming.
        """
        if coming := self.order(start, end):
            # One that fails ends the wait; the others go on, as somebody may want them.
            await asyncio.gather(*map(asyncio.shield, coming))

    def _start(self, span: range) -> asyncio.Task[None]:
        task = asyncio.ensure_future(self._bring(self, span))
        # Whoever waits for it is told; a hint that fails is nobody's loss.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        self.users += 1
        self._coming |= dict.fromkeys(span, task)
        return task

    def has_come(self, span: range) -> None:
        """Forget that blocks are on their way."""
        for block in span:
            del self._coming[block]


def _blocks(start: int, end: int) -> tuple[int, int]:
    return start // BLOCK, -(-end // BLOCK)


@dataclass
class _Lent:
    """A whole object to whose file links of jobs may lead.

    Attributes
    ----------
    info : ObjectInfo
        The object.
    state : tuple of int
        What changes when somebody writes to the file.
    told : float
        When its path was told last.
    """

    info: ObjectInfo
    state: tuple[int, ...]
    told: float


def _state(path: Path) -> tuple[int, ...]:
    try:
        status = path.stat()
    except FileNotFoundError:
        return ()
    return status.st_ino, status.st_size, status.st_mtime_ns


@dataclass
class Cache:
    """The objects of a bucket in the cache of this node, as a gateway uses them.

    Parameters
    ----------
    room : Room
        Where their entries are, and how much they may hold.
    links : Path
        A directory of this gateway on the same disk, for the files that it lends.
    endpoint_url : str, optional
        The store; AWS if left out.
    bucket : str
        The bucket.
    fetch : Fetch
        Brings what is missing.
    compare : Compare
        Is called for each object that is there as a whole.
    linked : callable
        Finds the files to which links of jobs lead.
    """

    room: Room
    links: Path
    endpoint_url: str | None
    bucket: str
    fetch: Fetch
    compare: Compare
    linked: Callable[[], set[Path]] = set
    _open: dict[str, OpenObject] = field(init=False, default_factory=dict)
    _strides: dict[str, Strides] = field(init=False, default_factory=dict)
    _moved: Counter[str] = field(init=False, default_factory=Counter)
    _lent: dict[Path, _Lent] = field(init=False, default_factory=dict)
    # The files to which links led, and when.
    _found: set[Path] = field(init=False, default_factory=set)
    _looked: float = field(init=False, default=-LOOKED)

    @contextlib.contextmanager
    def using(self, info: ObjectInfo) -> Iterator[OpenObject]:
        """Use a version of an object: as long as the context lasts, nobody removes it.

        Raises
        ------
        NoRoom, OSError
            If there is no room even for a note of it.
        """
        name = version_name(info)
        if name not in self._open:
            self._open[name] = OpenObject(info, self._place(info).open(), self._bring)
        found = self._open[name]
        found.users += 1
        try:
            self._see_whole(found)
            yield found
        finally:
            self._leave(found)

    @contextlib.asynccontextmanager
    async def having(self, info: ObjectInfo, start: int, end: int) -> AsyncIterator[IO[bytes]]:
        """Have the file open, with all between two positions in it.

        Raises
        ------
        Exception
            What kept it from coming; `NoRoom` if it does not fit.
        """
        with self.using(info) as found:
            try:
                await found.bring(start, end)
            except NoRoom:
                # What it has lent itself keeps room.
                if not self._take_back():
                    raise
                await found.bring(start, end)
            yield found.entry.data

    def strides(self, info: ObjectInfo) -> Strides:
        """Return where a version was read."""
        return self._strides.setdefault(version_name(info), Strides(info.size))

    def moved(self, info: ObjectInfo) -> int:
        """Return the bytes of a version that have come to this node through this gateway."""
        return self._moved[version_name(info)]

    def lend(self, info: ObjectInfo) -> Path | None:
        """Return the file of a whole object, for links of jobs to lead to.

        Such files take half of the bound at most; the other half is for what is read in pieces.

        Returns
        -------
        Path, optional
            None if not all of it is there, or there is no room for it.
        """
        place = self._place(info)
        path = self.links / f"{FILE}{place.path.name}"
        lent = self._lent.get(path)
        try:
            if lent is None and place.path.exists():
                with self.using(info) as found:
                    if found.entry.is_whole and self._may_lend(info.size):
                        found.entry.link(path)
                        lent = self._lent[path] = _Lent(info, _state(path), 0)
        except (NoRoom, OSError, Gone):
            return None
        if lent is None:
            return None
        lent.told = time.monotonic()
        return path

    def edited(self) -> list[ObjectInfo]:
        """Return the objects whose files somebody has written to, as root can."""
        states = [(lent, _state(path)) for path, lent in self._lent.items()]
        # What somebody has unlinked, nobody can have read.
        return [lent.info for lent, state in states if state not in ((), lent.state)]

    def forget(self, info: ObjectInfo) -> None:
        """Drop a version of an object that turned out to be wrong."""
        path = self._place(info).path
        self._lent.pop(self.links / f"{FILE}{path.name}", None)
        remove(path)

    def _leave(self, found: OpenObject) -> None:
        found.users -= 1
        if not found.users:
            del self._open[version_name(found.info)]
            found.entry.close()

    async def _bring(self, found: OpenObject, span: range) -> None:
        """Have blocks come, from the store or by another process."""
        wait, deadline = SOON, time.monotonic() + PATIENCE
        try:
            while found.entry.missing(span.start, span.stop):
                if found.entry.lock(span):
                    try:
                        await self._fetch(found, span)
                    finally:
                        found.entry.unlock(span)
                    break
                if time.monotonic() > deadline:
                    raise NoRoom
                await asyncio.sleep(wait)
                wait = min(2 * wait, LATER)
            # Before anybody is sent the last of it.
            self._see_whole(found)
        finally:
            found.has_come(span)
            self._leave(found)

    async def _fetch(self, found: OpenObject, span: range) -> None:
        """Fetch what is missing of blocks that are locked."""
        info, entry = found.info, found.entry
        missing = entry.missing(span.start, span.stop)
        self.room.take(entry, missing)
        for each in missing:
            start, end = each.start * BLOCK, min(each.stop * BLOCK, info.size)
            await self.fetch(info, start, end, entry.write)
            entry.mark(each)
            self._moved[version_name(info)] += end - start

    def _see_whole(self, found: OpenObject) -> None:
        """Have an object compared that has come whole, by whomever."""
        if found.is_comparing or not found.entry.is_whole or found.entry.is_compared:
            return
        found.is_comparing = True
        found.users += 1
        task = self.compare(found.info, found.entry.reopened())
        task.add_done_callback(functools.partial(self._compared, found))

    def _compared(self, found: OpenObject, task: asyncio.Future[bool]) -> None:
        if not task.cancelled() and not task.exception() and task.result():
            found.entry.compared()
        self._leave(found)

    def _may_lend(self, size: int) -> bool:
        if self.room.bound is None:
            return True
        self._take_back()
        return size + sum(lent.info.size for lent in self._lent.values()) <= self.room.bound // 2

    def _take_back(self) -> bool:
        """Take back what is lent and not in use any more; returns whether there was any."""
        in_use = self._in_use() if self._lent else set()
        unused = [path for path in self._lent if path not in in_use]
        for path in unused:
            path.unlink(missing_ok=True)
            del self._lent[path]
        return bool(unused)

    def _in_use(self) -> set[Path]:
        """Return the files to which links lead, or will in a moment."""
        now = time.monotonic()
        if now - self._looked >= LOOKED:
            self._found, self._looked = self.linked(), now
        told = {path for path, lent in self._lent.items() if now - lent.told < PROMISED}
        return self._found | told

    def _place(self, info: ObjectInfo) -> EntryPlace:
        return entry_of(self.room.folder, self.endpoint_url, self.bucket, info)
