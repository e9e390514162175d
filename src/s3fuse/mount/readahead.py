"""Files in mounts: held open, and read ahead while the job that wants them starts.

s3fs asks S3 twice about a file at each open, unless it is open already, and
Iris opens a file anew for each piece of it.  So every mounted input is held
open until the end.  A second or more passes until the job has imported what
it needs; the first bytes, or all of a file that is read from end to end, are
in the node's cache by then.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from s3fuse.mount.options import Reading

#: Files that are held open at the same time, by each thread; the oldest makes
#: room for the next.
MOST_HELD = 128
#: Files that are read ahead at the same time: one after the other, as jobs read them.
WORKERS = 2
#: Seconds to wait for a read that is under way when a mount is to be let go of.
PATIENCE = 10.0

CLONE_FILES = 0x400  # linux/sched.h


@dataclass(frozen=True)
class _Wanted:
    """A file to hold, and the positions at which to read."""

    point: Path
    path: Path
    starts: range
    then: Callable[[], bool]


@dataclass(frozen=True)
class _Release:
    """A mount point to let go of."""

    point: Path
    done: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True)
class _End:
    """Nothing is to be held any more."""

    done: threading.Event = field(default_factory=threading.Event)


#: What the threads are told.
_Order = _Wanted | _Release | _End


class ReadAhead:
    """The files of a session that are held open.  Safe to share by threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: set[Path] = set()
        self._released: set[Path] = set()
        self._queues: list[queue.SimpleQueue[_Order]] = []
        self._next = itertools.cycle(range(WORKERS))

    def add(
        self,
        point: Path,
        path: Path,
        span: range,
        reading: Reading,
        then: Callable[[], bool] = lambda: False,
    ) -> None:
        """Open a file, and read ahead in it, in the background.

        Parameters
        ----------
        point : Path
            The mount point that it lies below.
        path : Path
            The file.
        span : range
            The bytes that are to be in the cache.
        reading : Reading
            How the mount reads.
        then : callable
            What to do when they are there; tells whether the file need not be held.
        """
        with self._lock:
            if path in self._known:
                return
            self._known.add(path)
            if not self._queues:
                self._start()
            wanted = _Wanted(point, path, span[:: reading.ahead], then)
            self._queues[next(self._next)].put(wanted)

    def release(self, point: Path) -> None:
        """Let go of all files below a mount point, so that it can be unmounted."""
        with self._lock:
            self._released.add(point)
            self._known = {path for path in self._known if not path.is_relative_to(point)}
            orders = [(each, _Release(point)) for each in self._queues]
        for each, order in orders:
            each.put(order)
        for _, order in orders:
            order.done.wait(PATIENCE)

    def close(self) -> None:
        """Let go of all files, and end the threads that hold them."""
        with self._lock:
            orders = [(each, _End()) for each in self._queues]
            self._queues.clear()
            self._known.clear()
        for each, order in orders:
            each.put(order)
        for _, order in orders:
            order.done.wait(PATIENCE)

    def _start(self) -> None:
        # Not a pool of concurrent.futures: Python waits for its threads at
        # exit, and a read from a store that hangs takes minutes.
        for _ in range(WORKERS):
            wanted: queue.SimpleQueue[_Order] = queue.SimpleQueue()
            self._queues.append(wanted)
            threading.Thread(
                target=self._work, args=(wanted,), name="s3fuse-ahead", daemon=True
            ).start()

    def _work(self, orders: queue.SimpleQueue[_Order]) -> None:
        _have_descriptors_of_its_own()
        held: dict[Path, int] = {}
        while True:
            order = orders.get()
            if isinstance(order, _End):
                for path in list(held):
                    _close(held.pop(path))
                order.done.set()
                return
            if isinstance(order, _Release):
                for path in [path for path in held if path.is_relative_to(order.point)]:
                    _close(held.pop(path))
                order.done.set()
                continue
            # What fails here fails again in the job, which then says what and where.
            with contextlib.suppress(OSError):
                self._read(order, held)

    def _read(self, wanted: _Wanted, held: dict[Path, int]) -> None:
        if wanted.point in self._released:
            return
        held[wanted.path] = os.open(wanted.path, os.O_RDONLY)
        if len(held) > MOST_HELD:
            _close(held.pop(next(iter(held))))
        # One byte makes s3fs read as much as it reads ahead, and costs no copy.
        for start in wanted.starts:
            if wanted.point in self._released:
                return
            os.pread(held[wanted.path], 1, start)
        if wanted.then():
            _close(held.pop(wanted.path))
            with self._lock:
                self._known.discard(wanted.path)


def _have_descriptors_of_its_own() -> None:
    """Give the calling thread a table of open files that no child process inherits.

    A child closes what it inherits as it starts, and s3fs asks S3 about a file
    at each close: every command would start by one request for each held file.
    """
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_FILES) == 0:
        # The copies of the others would keep pipes and sockets open.
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))


def _close(descriptor: int) -> None:
    # Of a mount whose daemon has ended, this is an error, and the file is closed.
    with contextlib.suppress(OSError):
        os.close(descriptor)
