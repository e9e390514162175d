"""Copies of small inputs, made while other jobs run, for the jobs that come next.

A job of seconds waits for its input as long as a store takes to answer, and
the node's cores wait with it.  Which of many ready jobs comes next, nobody
tells; so all their inputs are fetched, up to a bound, beside the jobs that run.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import queue
import shutil
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from pathlib import Path

from s3fuse.cache.room import Room
from s3fuse.inputs.download import Copier
from s3fuse.s3.objects import ObjectInfo
from s3fuse.s3.store import Store
from s3fuse.urls import S3Url

#: Bytes that are fetched before jobs want them, and the share of what the disk has free.
MOST_BYTES, SHARE = 256 * 2**20, 4
#: Objects that are fetched at the same time; the jobs want the cores.
WORKERS = 3


class Prefetcher:
    """Objects on their way to this node, or there.  Safe to share by threads.

    Parameters
    ----------
    store : Store
        Where they are.
    folder : Path
        On the file system on which the jobs want them; what is there is removed.
    room : callable
        Returns the cache of this node.
    """

    def __init__(self, store: Store, folder: Path, room: Callable[[], Room | None]) -> None:
        self._store, self._folder, self._room = store, folder, room
        self._lock = threading.Lock()
        self._coming: dict[tuple[S3Url, str], Future[Path]] = {}
        self._orders: queue.SimpleQueue[tuple[Future[Path], S3Url, ObjectInfo]] | None = None
        self._numbers = itertools.count()
        self._is_ended = False

    def fetch(self, objects: Iterable[tuple[S3Url, ObjectInfo]]) -> None:
        """Fetch objects in the background, in this order, as far as the bound allows."""
        self._folder.parent.mkdir(parents=True, exist_ok=True)
        room = min(MOST_BYTES, shutil.disk_usage(self._folder.parent).free // SHARE)
        with self._lock:
            for url, info in objects:
                room -= info.size
                if room < 0:
                    return
                if (url, info.etag) not in self._coming:
                    fetched = self._coming[url, info.etag] = Future()
                    self._start().put((fetched, url, info))

    def take(self, url: S3Url, info: ObjectInfo, path: Path) -> bool:
        """Move a copy to where a job wants it.

        Returns
        -------
        bool
            Whether there was one, or one was on its way.
        """
        with self._lock:
            fetched = self._coming.pop((url, info.etag), None)
        # What waits for its turn is had sooner without.
        if fetched is None or fetched.cancel():
            return False
        # What failed here may still be had, or fails with a sentence.
        with contextlib.suppress(Exception):
            copy = fetched.result()
            path.parent.mkdir(parents=True, exist_ok=True)
            os.replace(copy, path)
            return True
        return False

    def close(self) -> None:
        """Fetch no more, and remove what nobody wanted."""
        with self._lock:
            self._is_ended = True
            for fetched in self._coming.values():
                fetched.cancel()
            if self._orders:
                # Under another name, where copies on their way do not find it and end.
                ended = self._folder.with_name(f"{self._folder.name}.ended")
                with contextlib.suppress(FileNotFoundError):
                    self._folder.rename(ended)
                shutil.rmtree(ended, ignore_errors=True)

    def _start(self) -> queue.SimpleQueue[tuple[Future[Path], S3Url, ObjectInfo]]:
        if self._orders is None:
            # Of a run that was killed.
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder.mkdir(parents=True)
            self._orders = queue.SimpleQueue()
            for _ in range(WORKERS):
                # Not a pool: Python would do all that waits before it ends.
                threading.Thread(target=self._work, name="s3fuse-prefetch", daemon=True).start()
        return self._orders

    def _work(self) -> None:
        assert self._orders
        while True:
            fetched, url, info = self._orders.get()
            if not fetched.set_running_or_notify_cancel():
                continue
            path = self._folder / str(next(self._numbers))
            try:
                # May wait for an answer, and the end may come meanwhile.
                self._store.check(url.bucket)
                if self._is_ended:
                    return
                Copier(self._store, self._room()).object(url, info, path, parents=False)
                fetched.set_result(path)
            except Exception as error:
                fetched.set_exception(error)
