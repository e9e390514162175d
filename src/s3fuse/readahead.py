"""Files in mounts: held open, and read ahead while the job that wants them starts.

s3fs asks S3 twice about a file at each open, unless it is open already, and
Iris opens a file anew for each piece of it.  So every mounted input is held
open until the end.  A second or more passes until the job has imported what
it needs; the first bytes, or all of a file that is read from end to end, are
in the node's cache by then.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from pathlib import Path

from s3fuse.daemon import Reading

#: Files that are held open at the same time; the oldest makes room for the next.
MOST_HELD = 256
#: Files that are read ahead at the same time: one after the other, as jobs read them.
WORKERS = 2


class ReadAhead:
    """The files of a process that are held open.  Safe to share by threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[Path, int] = {}
        self._released: set[Path] = set()
        self._wanted: queue.SimpleQueue[tuple[Path, Path, int, int]] = queue.SimpleQueue()
        self._workers: list[threading.Thread] = []

    def add(self, point: Path, key: str, size: int, reading: Reading) -> None:
        """Open a file, and read ahead in it, in the background.

        Parameters
        ----------
        point : Path
            The mount point that it lies below.
        key : str
            Its path there.
        size : int
            So many bytes from its start are to be in the cache.
        reading : Reading
            How the mount reads.
        """
        path = point / key
        with self._lock:
            if path in self._held:
                return
            self._wanted.put((point, path, size, reading.ahead))
            while len(self._workers) < WORKERS:
                # Not a pool of concurrent.futures: Python waits for its threads
                # at exit, and a read from a store that hangs takes minutes.
                worker = threading.Thread(target=self._work, name="s3fuse-ahead", daemon=True)
                self._workers.append(worker)
                worker.start()

    def _work(self) -> None:
        while True:
            # What fails here fails again in the job, which then says what and where.
            with contextlib.suppress(OSError):
                self._read(*self._wanted.get())

    def _read(self, point: Path, path: Path, size: int, step: int) -> None:
        if point in self._released:
            return
        descriptor = os.open(path, os.O_RDONLY)
        with self._lock:
            if point in self._released or path in self._held:
                _close(descriptor)
                return
            self._held[path] = descriptor
            if len(self._held) > MOST_HELD:
                _close(self._held.pop(next(iter(self._held))))
        # One byte makes s3fs read as much as it reads ahead, and costs no copy.
        for start in range(0, size, step):
            if path not in self._held:
                return
            os.pread(descriptor, 1, start)

    def release(self, point: Path) -> None:
        """Let go of all files below a mount point, so that it can be unmounted."""
        with self._lock:
            self._released.add(point)
            for path in [path for path in self._held if path.is_relative_to(point)]:
                _close(self._held.pop(path))


def _close(descriptor: int) -> None:
    # Of a mount whose daemon has ended, this is an error, and the file is closed.
    with contextlib.suppress(OSError):
        os.close(descriptor)


#: One for the process: whoever unmounts lets go of what anybody here holds.
READ_AHEAD = ReadAhead()
