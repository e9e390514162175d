"""Copies by way of the cache of the node: two jobs that want one object fetch it once."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO

from s3fuse.cache.entries import BLOCK, Entry, remove
from s3fuse.cache.place import EntryPlace
from s3fuse.cache.room import NoRoom, Room
from s3fuse.s3.parts import PART_SIZE, part_by_part

#: Seconds between two looks at what another process fetches.
SOON = 0.005
#: Seconds after which it is fetched around the cache, as that process may be stopped.
PATIENCE = 30.0

#: Fetches a span of the object, and gives each chunk of it with its position to a function.
Fetch = Callable[[int, int, Callable[[bytes, int], None]], None]


@dataclass(frozen=True)
class CachedCopy:
    """A copy of one version of an object, by way of the cache.

    Parameters
    ----------
    room : Room
        The cache.
    place : EntryPlace
        Where the version is in it.
    fetch : Fetch
        Brings what is missing.
    check : callable
        Compares all of the object, in an open file; an error if it is not right.
    """

    room: Room
    place: EntryPlace
    fetch: Fetch
    check: Callable[[IO[bytes]], None]

    def write_to(self, file: IO[bytes]) -> bool:
        """Write the object into an open file; returns whether the cache had room for it.

        Raises
        ------
        Exception
            What `fetch` or `check` has raised.
        """
        try:
            with contextlib.closing(self.place.open()) as entry:
                spans = range(0, self.place.size, PART_SIZE)
                part_by_part(lambda start: self._complete(entry, start), spans)
                if not entry.is_compared:
                    self._compare(entry)
                _copy(entry.data.fileno(), file.fileno(), self.place.size)
        except NoRoom:
            return False
        return True

    def _complete(self, entry: Entry, start: int) -> None:
        """Have all of a part come, by whomever."""
        end = min(start + PART_SIZE, self.place.size)
        span = range(start // BLOCK, -(-end // BLOCK))
        deadline = time.monotonic() + PATIENCE
        while entry.missing(span.start, span.stop):
            if entry.lock(span):
                try:
                    missing = entry.missing(span.start, span.stop)
                    self.room.take(entry, missing)
                    for each in missing:
                        first, last = each.start * BLOCK, min(each.stop * BLOCK, self.place.size)
                        self.fetch(first, last - first, entry.write)
                        entry.mark(each)
                finally:
                    entry.unlock(span)
            elif time.monotonic() > deadline:
                raise NoRoom
            else:
                time.sleep(SOON)

    def _compare(self, entry: Entry) -> None:
        try:
            with entry.reopened() as whole:
                self.check(whole)
        except BaseException:
            remove(entry.path)
            raise
        entry.compared()


def _copy(source: int, target: int, size: int) -> None:
    position = 0
    while position < size:
        sent = os.sendfile(target, source, position, size - position)
        if not sent:
            raise NoRoom
        position += sent
