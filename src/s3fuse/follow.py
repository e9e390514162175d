"""The chunks of a file that a job will read next, fetched beside s3fs.

Iris opens a file for each piece that it reads of it, and s3fs fetches what is
missing one part after the other, each of 5 MB at least.  Where a job goes
through the chunks of a netCDF-4 file by equal steps, its next ones are fetched
here, side by side and no more than they are, and put into the cache of s3fs
while no program has the file open.  Nothing depends on it: what comes too late
or is not wanted is a fetch in vain.  No wrong byte gets there, as each piece is
asked for by the ETag of the version that is linked, and s3fs takes another file
for another version.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from s3fuse.pages import Span, content_file, covers, data, list_file, update
from s3fuse.record import Mount
from s3fuse.store import ObjectInfo, Store
from s3fuse.urls import S3Url

#: Bytes that are fetched at a time before the job asks for them.
AHEAD = 32 * 2**20
#: Requests at the same time.
WORKERS = 12
#: Files of fewer chunks are read before a step is recognised.
FEWEST = 8
#: Bytes that the kernel reads at least, and that it may read further than a program does:
#: two of its pieces of 128 kB.
PAGE, FURTHER = 4096, 256 * 1024
#: Files that are followed at the same time.
MOST_FILES = 16
#: Seconds between two looks at a file: while it is read, and when it is long unused.
OFTEN, SELDOM = 0.003, 0.25


@dataclass
class Steps:
    """The equal steps by which a job goes through the chunks of a file.

    Attributes
    ----------
    least : int
        Chunks of the shortest step.
    step : int
        Chunks from one that is read to the next; 0 while it is not known.
    last : int
        A chunk that was read.
    """

    least: int = 1
    step: int = 0
    last: int = 0
    _seen: list[int] = field(default_factory=list)

    def read(self, chunks: Sequence[int]) -> None:
        """Learn from the chunks that s3fs had to fetch, in order."""
        if not self.step or any((chunk - self.last) % self.step for chunk in chunks):
            self._seen = [*self._seen, *chunks][-3:]
            steps = {after - before for before, after in pairwise(self._seen)}
            step = abs(steps.pop()) if len(self._seen) == 3 and len(steps) == 1 else 0
            self.step = step if step >= self.least else 0
        self.last = chunks[-1]

    def others(self, count: int) -> list[int]:
        """Other chunks, of so many, to which equal steps lead, the nearest first."""
        if not self.step:
            return []
        numbers = range(self.last % self.step, count, self.step)
        return sorted(numbers, key=lambda number: abs(number - self.last))[1:]


class Follower:
    """One file, watched until it is no longer mounted.

    Parameters
    ----------
    store, url, info
        The object, and the version of it.
    mount : Mount
        Whose cache has it.
    chunks : sequence of tuple of int
        Where its chunks lie, in order.
    ahead : int
        Bytes that s3fs fetches on each miss.
    bound : int, optional
        Bytes of the cache.
    """

    def __init__(
        self,
        store: Store,
        url: S3Url,
        info: ObjectInfo,
        mount: Mount,
        chunks: Sequence[Span],
        ahead: int,
        bound: int | None,
    ) -> None:
        self._store, self._url, self._info, self._mount = store, url, info, mount
        self._chunks, self._ahead, self._bound = chunks, ahead, bound
        self._starts = [start for start, _ in chunks]
        self._list = list_file(mount, url.key)
        self._content = content_file(mount, url.key).open("r+b", buffering=0)
        self._inode = os.fstat(self._content.fileno()).st_ino
        self._lock = threading.Lock()
        # What s3fs fetches anyway is not worth a second request.
        self._steps = Steps(3 * ahead * len(chunks) // (2 * info.size))
        self._brought: list[Span] = []
        self._asked: list[Span] = []
        self._parts: set[int] = set()
        self._miss = -ahead

    def watch(self, orders: queue.SimpleQueue[tuple[Follower, Span]]) -> None:
        """Order what comes next, until the mount is gone or the file is another one."""
        try:
            with contextlib.suppress(OSError, ValueError):
                self._watch(orders)
        finally:
            # Under the lock: a write that is under way must not end in another file.
            with self._lock:
                self._content.close()

    def _watch(self, orders: queue.SimpleQueue[tuple[Follower, Span]]) -> None:
        # What was filled in is no step of the job.
        self._parts.update(start for start, _ in self.there())
        seen, changed = (0, 0), time.monotonic()
        while True:
            # s3fs writes the list when the last program closes the file.
            now = os.fstat(self._content.fileno()).st_blocks, self._list.stat().st_mtime_ns
            if now == seen:
                idle = (time.monotonic() - changed) / 20
                time.sleep(max(OFTEN, min(idle, SELDOM)))
                continue
            seen, changed = now, time.monotonic()
            self._enlist()
            there = self.there()
            if chunks := self._chunks_read(there):
                self._steps.read(chunks)
                for piece in self._next(there):
                    self._asked.append(piece)
                    orders.put((self, piece))

    def bring(self, span: Span) -> None:
        """Fetch a part of the file, and put it where s3fs finds it."""
        # What fails here fails again in the job, which then says what and where.
        with contextlib.suppress(Exception):
            start, end = span
            self._store.read(self._url, self._info, start, end - start, self._write)
            with self._lock:
                self._brought.append(span)
            self._enlist()

    def there(self) -> list[Span]:
        """The parts of the file that are in the cache, or on their way."""
        return list(data(self._content))

    def _write(self, chunk: bytes, position: int) -> None:
        with self._lock:
            os.pwrite(self._content.fileno(), chunk, position)

    def _enlist(self) -> None:
        with self._lock:
            if self._brought:
                update(self._list, self._inode, self._info.size, self._brought)

    def _chunks_read(self, there: Sequence[Span]) -> list[int]:
        """The chunks for which s3fs has begun to fetch."""
        found: list[int] = []
        for start, _ in there:
            if start in self._parts or any(low <= start < high for low, high in self._asked):
                continue
            self._parts.add(start)
            if not 0 <= start - self._miss < self._ahead:
                # The first bytes may be of the chunk before.
                found.append(bisect_right(self._starts, start + PAGE) - 1)
                self._miss = start
        return found

    def _next(self, there: Sequence[Span]) -> Iterator[Span]:
        """What is to be fetched now."""
        if self._bound is not None and self._mount.cached_bytes + AHEAD > self._bound:
            return
        room = AHEAD
        for number in self._steps.others(len(self._chunks)):
            start, end = self._chunks[number]
            piece = start // PAGE * PAGE, min(end + FURTHER, self._info.size)
            if piece not in self._asked and not covers(there, (start, end)):
                room -= end - start
                if room < 0:
                    return
                yield piece


class Followers:
    """The files of a process that are followed.  Safe to share by threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._files: set[tuple[Path, str]] = set()
        self._working = False
        self._orders: queue.SimpleQueue[tuple[Follower, Span]] = queue.SimpleQueue()

    def has(self, mount: Mount, key: str) -> bool:
        """Whether a file is followed."""
        return (mount.directory, key) in self._files

    def add(
        self,
        store: Store,
        url: S3Url,
        info: ObjectInfo,
        mount: Mount,
        chunks: Sequence[Span],
        ahead: int,
        bound: int | None,
    ) -> bool:
        """Follow a file, unless it has few chunks or many files are followed.

        Returns
        -------
        bool
            Whether it is followed now; nobody but jobs may have it open then.
        """
        with self._lock:
            if len(chunks) < FEWEST or len(self._files) >= MOST_FILES:
                return False
            try:
                follower = Follower(store, url, info, mount, chunks, ahead, bound)
            except FileNotFoundError:
                return False
            if not self._working:
                self._working = True
                for _ in range(WORKERS):
                    self._start(self._work)
            self._files.add((mount.directory, url.key))
            self._start(self._watch, follower, (mount.directory, url.key))
        return True

    def _watch(self, follower: Follower, file: tuple[Path, str]) -> None:
        follower.watch(self._orders)
        with self._lock:
            self._files.discard(file)

    def _work(self) -> None:
        while True:
            follower, piece = self._orders.get()
            follower.bring(piece)

    @staticmethod
    def _start(target: Callable[..., None], *arguments: object) -> None:
        # Not a pool of concurrent.futures: Python waits for its threads at exit.
        threading.Thread(target=target, args=arguments, name="s3fuse-follow", daemon=True).start()


#: One for the process.
FOLLOWERS = Followers()
