"""One run on this node, and everything that it owns."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from s3fuse.inputs.placement import Access, Placement
from s3fuse.mount.mounts import Mounts
from s3fuse.mount.options import MountOptions
from s3fuse.mount.sweep import sweep
from s3fuse.node.directories import default_cache_dir, default_mount_root, secure_prefix
from s3fuse.node.processes import terminate_children
from s3fuse.node.run_directory import RunDirectory
from s3fuse.publish.journal import Journal
from s3fuse.publish.publisher import Publisher
from s3fuse.s3.connection import Connection
from s3fuse.s3.listings import Listings
from s3fuse.s3.parts import CONCURRENCY
from s3fuse.s3.store import Store
from s3fuse.traffic import Traffic

T = TypeVar("T")

#: Inputs of fewer bytes are copied by default; measured, see docs/explanation/scaling.md.
COPY_BELOW = 32 * 2**20
#: Seconds between two looks for mounts that another process of a job has left.
SWEEP_INTERVAL = 0.05


@dataclass(frozen=True)
class SessionOptions:
    """How a session works.

    Attributes
    ----------
    access : Access
        Whether inputs are mounted or copied.
    copy_below : int
        With ``Access.AUTO``, inputs of fewer bytes are copied.
    mount_options : MountOptions
        How buckets are mounted.
    mount_root, cache_dir : Path
        Node-local places for mount points and for what mounts have read.
    unmount_timeout : float
        Seconds to wait for a mount that is in use.
    """

    access: Access = Access.AUTO
    copy_below: int = COPY_BELOW
    mount_options: MountOptions = field(default_factory=MountOptions)
    mount_root: Path = field(default_factory=default_mount_root)
    cache_dir: Path = field(default_factory=default_cache_dir)
    unmount_timeout: float = 60.0


class Session:
    """One run on this node: its store, listings, mounts, uploads, prefetching and threads.

    What a session opens, `close` ends: after success, failure, a signal or a hook.
    A session is a context manager.

    Parameters
    ----------
    connection : Connection
        Where the store is and who asks.
    local_prefix : Path
        Directory for links, copies and outputs, in which each run gets one of its own.
    options : SessionOptions, optional
        How the session works.

    Attributes
    ----------
    local_prefix : Path
        The directory for links, copies and outputs of this process.
    store : Store
        The control plane.
    listings : Listings
        What the store held when it was first asked.
    mounts : Mounts
        The mounts of this working directory.
    placement : Placement
        Links and copies of inputs.
    publisher : Publisher
        Uploads of outputs.
    traffic : Traffic
        Objects and bytes that were read and published.

    Raises
    ------
    SettingsError
        If the options contradict each other.
    RunDirError
        If the node-local places are not this user's alone.
    """

    def __init__(
        self, connection: Connection, local_prefix: Path, options: SessionOptions | None = None
    ) -> None:
        options = options or SessionOptions()
        self.store = Store(connection)
        self.listings = Listings(self.store)
        self.traffic = Traffic()
        # Before anything in it is read.
        local_prefix = secure_prefix(local_prefix)
        sweep(options.mount_root, options.cache_dir)
        self._run_directory = RunDirectory(local_prefix)
        self.local_prefix = self._run_directory.path
        self._kept: set[Path] = set()
        self.mounts = Mounts(
            links=self.local_prefix,
            root=options.mount_root,
            cache_dir=options.cache_dir,
            unmount_timeout=options.unmount_timeout,
        )
        self.placement = Placement(
            self.store, self.mounts, options.access, options.copy_below, options.mount_options
        )
        self._is_prepared = not self._run_directory.is_maker
        journal = Journal(options.mount_root)
        journal.abort_abandoned(self.store)
        self.publisher = Publisher(self.store, journal, self.traffic)
        self._pool = ThreadPoolExecutor(CONCURRENCY, thread_name_prefix="s3fuse")
        self._closing = threading.Lock()
        self._is_closed = False

    def prepare(self) -> None:
        """Start ahead what inputs may need, as its Python takes half a second; only once.

        Snakemake opens a session for each provider, also for those that nothing is read from.
        """
        if not self._is_prepared:
            self._is_prepared = True
            self.placement.prepare()

    def submit(self, function: Callable[..., T], *arguments: Any) -> Future[T]:
        """Run blocking work in a thread, at the same time as other retrievals and uploads."""
        return self._pool.submit(function, *arguments)

    def keep(self, path: Path) -> None:
        """Keep a local copy below the prefix itself when the session is closed."""
        self._kept.add(path)

    def unmount(self) -> None:
        """Unmount everything of this run; the session stays usable and may mount again.

        Raises
        ------
        MountBusy
            If a read-write mount is still in use at the deadline.
        """
        self.mounts.unmount_own()

    def abort(self, timeout: float) -> None:
        """End the work of a batch job that is about to be killed, and unmount.

        Slurm tells only the process in the step of a job, and kills the one around
        it, which had mounted; so the mounts of that one are taken down here, too.

        Parameters
        ----------
        timeout : float
            Seconds for the readers of a mount, and again for the other process.
        """
        # What a mount needs ends with it.
        parts = [part for each in self.mounts.all() for part in (each.daemon, each.keeper) if part]
        terminate_children(spare={part.pid for part in parts})
        self.mounts.unmount_timeout = timeout
        with contextlib.suppress(Exception):
            self.unmount()
        end = time.monotonic() + timeout
        while self.mounts.all() and time.monotonic() < end:
            time.sleep(SWEEP_INTERVAL)
            with contextlib.suppress(Exception):
                sweep(self.mounts.root)

    def close(self) -> None:
        """End everything that this session owns; a second call does nothing.

        Raises
        ------
        MountBusy
            If a read-write mount is still in use at the deadline.
        """
        with self._closing:
            if self._is_closed:
                return
            self._is_closed = True
            self._pool.shutdown(wait=False, cancel_futures=True)
            self.placement.close()
            try:
                self.unmount()
            finally:
                self.traffic.adds_moved(self.mounts.moved)
                self.traffic.save()
                self._run_directory.remove(self._kept)

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
