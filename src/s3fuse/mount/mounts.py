"""Mounts from birth to death: made on demand, proven ready, taken down with patience.

A mount belongs to a process.  When that process is gone, whoever comes next
takes its mounts down (`s3fuse.mount.sweep.sweep`).
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from s3fuse.errors import MountError
from s3fuse.gateway.catalogue import CATALOGUE, View
from s3fuse.gateway.client import Gateway
from s3fuse.gateway.failures import FAILURES, Failure, Failures, read_failures
from s3fuse.mount import daemon
from s3fuse.mount.leases import is_leased, lease
from s3fuse.mount.options import MountOptions
from s3fuse.mount.record import Mount, mounts_below
from s3fuse.mount.s3fs_cache.pending_uploads import not_uploaded, unsent
from s3fuse.mount.starting import WaitingKeeper, last_lines, start
from s3fuse.mount.unmount import discard, fusermount, remove_empty_scope, unmount, unmount_all
from s3fuse.mount.watchdog import Watchdog
from s3fuse.node.directories import default_cache_dir, default_mount_root, scope, secure_directory
from s3fuse.node.links import links_into, move_links
from s3fuse.node.locks import locked
from s3fuse.node.processes import Node, Process, current_owner
from s3fuse.node.schedulers import batch_job
from s3fuse.s3.connection import Connection

# Snakemake prints messages as they are, so they are complete, without arguments.
log = logging.getLogger("s3fuse")

#: For mounts into which no links are made.
NO_LINKS = Path("/nonexistent")
#: How often a bucket is mounted again in one run because its daemon has ended.
REVIVALS = 5


@dataclass
class Mounts:
    """The mounts of one working directory on this node.

    Parameters
    ----------
    links : Path
        Symbolic links into the mounts are only ever made below this directory.
    workdir : Path
        The working directory whose mounts these are.
    root, cache_dir : Path
        Node-local places; see `s3fuse.node.directories` for the defaults.
    unmount_timeout : float
        Seconds to wait for a busy mount.
    """

    links: Path
    workdir: Path = field(default_factory=Path.cwd)
    root: Path = field(default_factory=default_mount_root)
    cache_dir: Path = field(default_factory=default_cache_dir)
    unmount_timeout: float = 60.0

    def __post_init__(self) -> None:
        self.links = self.links.absolute()
        self._lock = threading.Lock()
        # The watchdog looks, and whoever asks for it.
        self._reviving = threading.Lock()
        self._watchdog: Watchdog | None = None
        self._preparing = threading.Lock()
        self._waiting: WaitingKeeper | None = None
        self._ways: dict[str, tuple[Connection, MountOptions]] = {}
        self._revived: Counter[str] = Counter()
        #: Tells the mounts of this object from those of others in this process or another.
        self.session = f"{os.getpid()}:{uuid.uuid4().hex}"
        #: Bytes that came through the mounts that were taken down.
        self.moved = 0

    @property
    def scope_directory(self) -> Path:
        """Where the mounts of this scope lie."""
        return self.root / scope(self.workdir)

    def mount(
        self, bucket: str, connection: Connection, options: MountOptions | None = None
    ) -> Mount:
        """Mount a bucket for this run, or find it mounted already.

        Parameters
        ----------
        bucket : str
            What to mount; that it answers was checked before.
        connection : Connection
            Where it is and who asks.
        options : MountOptions, optional
            How to mount it.

        Raises
        ------
        MountUnavailable
            If nothing can be mounted on this machine.
        MountError
            If the mount did not come up in time; with what the daemon said.
        """
        wanted = _Wanted(bucket, connection, options or MountOptions())
        with self._scope_lock():
            mount = self._find(wanted, self._is_of_run)
            mount = mount or self._start(wanted, owner=current_owner())
        with self._lock:
            self._ways[wanted.identity] = (connection, wanted.options)
            self._watchdog = self._watchdog or Watchdog(self.revive)
        return mount

    def show(self, mount: Mount, view: View) -> Path:
        """Let a mount show planned versions, and return the path for links to them.

        Raises
        ------
        MountError
            If its gateway does not answer.
        """
        return Gateway(mount.directory).show(view)

    def failures(self, bucket: str, keys: Sequence[str] = ("",)) -> list[Failure]:
        """Return what could not be had through the mounts of a run, and why.

        Parameters
        ----------
        bucket : str
            The bucket.
        keys : sequence of str
            How the keys of inputs begin. What has come whole of them is compared with its
            checksum before.

        Raises
        ------
        MountError
            If a gateway does not answer.
        """
        mounts = [each for each in self.all() if each.bucket == bucket and self._is_of_run(each)]
        return [failure for mount in mounts for failure in _failures(mount, keys)]

    def keep_mounted(
        self, bucket: str, connection: Connection, options: MountOptions | None = None
    ) -> Mount:
        """Mount a bucket, or find it mounted, until somebody unmounts it; see `mount`."""
        wanted = _Wanted(bucket, connection, options or MountOptions())
        with self._scope_lock():
            kept = self._find(wanted, lambda each: each.owner is None and not each.shared)
            return kept or self._start(wanted)

    def prepare(self) -> None:
        """Start ahead what a mount needs, and takes half a second to start."""
        with self._preparing:
            if self._waiting is None and not self.all():
                self._waiting = WaitingKeeper()

    def end_waiting(self) -> None:
        """End what was started ahead, if no mount has taken it."""
        if waiting := self._take_waiting():
            waiting.close()

    def _take_waiting(self) -> WaitingKeeper | None:
        with self._preparing:
            waiting, self._waiting = self._waiting, None
            return waiting

    @contextmanager
    def shared(
        self, bucket: str, connection: Connection, options: MountOptions | None = None
    ) -> Iterator[Mount]:
        """Use a mount while the context lasts; its last user unmounts it.

        Raises
        ------
        MountBusy
            If a file in it is still open at the deadline and it may be written through.
        """
        wanted = _Wanted(bucket, connection, options or MountOptions())
        with ExitStack() as leases:
            with self._scope_lock():
                mount = self._find(wanted, lambda each: each.shared)
                mount = mount or self._start(wanted, shared=True)
                leases.enter_context(lease(mount.lease_file))
            try:
                yield mount
            finally:
                leases.close()
                self._leave(mount, connection)

    @contextmanager
    def _scope_lock(self) -> Iterator[None]:
        """Hold the lock of the scope, in which mounts are looked for and made."""
        daemon.require()
        secure_directory(self.root)
        # Threads of one process share the file lock, hence both.
        with self._lock, locked(self.scope_directory):
            # Only now, as others may remove it while it is not locked.
            secure_directory(self.scope_directory)
            try:
                yield
            finally:
                remove_empty_scope(self.scope_directory)

    def _find(self, wanted: _Wanted, may_use: Callable[[Mount], bool]) -> Mount | None:
        """Find a mount of this scope that is what is wanted."""
        for mount in self.all():
            is_wanted = (mount.bucket, mount.identity) == (wanted.bucket, wanted.identity)
            if is_wanted and may_use(mount) and mount.is_healthy:
                return mount
        return None

    def _is_of_run(self, mount: Mount) -> bool:
        """Whether a mount is of this run: of this session, its parent's, or the same batch job's.

        Another session of this process ends on its own, and takes its mounts along.
        """
        if mount.owner is None:
            return False
        maker = mount.session.partition(":")[0]
        is_ours = mount.owner == current_owner() or bool(batch_job())
        return mount.session == self.session or (is_ours and maker != str(os.getpid()))

    def _leave(self, mount: Mount, connection: Connection) -> None:
        with self._lock, locked(self.scope_directory):
            try:
                is_last = mount.shared and not is_leased(mount.lease_file)
                if is_last and mount.directory.exists():
                    unmount(mount, self.unmount_timeout, connection)
                elif unsent(mount):
                    raise not_uploaded(mount, "It is still mounted.")
            finally:
                remove_empty_scope(self.scope_directory)

    def _start(
        self,
        wanted: _Wanted,
        *,
        owner: Process | None = None,
        shared: bool = False,
        replaced: Mount | None = None,
    ) -> Mount:
        bucket = wanted.bucket
        directory = Path(tempfile.mkdtemp(prefix=f"{bucket}-", dir=self.scope_directory))
        scope_cache = secure_directory(self.cache_dir) / self.scope_directory.name
        cache = secure_directory(scope_cache) / directory.name
        cache.mkdir(mode=0o700)
        mount = Mount(
            bucket,
            directory,
            cache,
            identity=wanted.identity,
            read_write=wanted.options.read_write,
            links=self.links,
            workdir=self.workdir,
            node=Node.here(),
            owner=owner,
            shared=shared,
            session=self.session,
        )
        mount.save()
        mount.point.mkdir()
        if replaced:
            # The new one shows the same.
            if replaced.daemon:
                _note_end(replaced, replaced.daemon)
            for name in (CATALOGUE, FAILURES):
                with contextlib.suppress(FileNotFoundError):
                    shutil.copy(replaced.directory / name, directory / name)
        waiting = None if wanted.options.read_write else self._take_waiting()
        return start(mount, wanted.connection, wanted.options, waiting)

    def revive(self) -> None:
        """Mount anew what jobs of this run read where s3fs or its keeper has ended.

        The links into the old mount lead to the new one from then on.

        Raises
        ------
        MountError
            If the new mount did not come up.
        """
        with self._reviving:
            for old in self._own():
                if old.identity in self._ways and not old.is_healthy:
                    self._revive(old)

    def _revive(self, old: Mount) -> None:
        if self._revived[old.bucket] >= REVIVALS or not any(links_into([old.point], old.links)):
            return
        wanted = _Wanted(old.bucket, *self._ways[old.identity])
        with self._scope_lock():
            # It may have been unmounted meanwhile.
            if not old.directory.exists():
                return
            new = self._start(wanted, owner=current_owner(), replaced=old)
        move_links(old.point, new.point, old.links)
        self._revived[old.bucket] += 1
        said = last_lines(old.log_file)
        log.warning(f"s3fs had ended, so s3://{old.bucket} was mounted again; it had said: {said}")
        with self._lock, locked(self.scope_directory):
            if old.is_mounted:
                fusermount(old, lazy=True)
            # Links of jobs may lead to what it has kept.
            if not unsent(old) and not any(links_into([old.cache], old.links)):
                discard(old)
            remove_empty_scope(self.scope_directory)

    def unmount_own(self) -> None:
        """Unmount what belongs to this run, with patience; only its owner does.

        Raises
        ------
        MountBusy
            If a read-write mount is still in use at the deadline.
        """
        if self._watchdog:
            self._watchdog.stop()
            self._watchdog = None
        self.end_waiting()
        if current_owner().pid == os.getpid():
            self._unmount(self._own())

    def unmount(
        self, bucket: str | None = None, connection: Connection | None = None
    ) -> list[Mount]:
        """Unmount all of this scope, or one bucket, whoever it belongs to.

        Parameters
        ----------
        bucket : str, optional
            All if left out.
        connection : Connection, optional
            How to reach the buckets, to upload what s3fs could not.

        Returns
        -------
        list of Mount
            What was mounted.

        Raises
        ------
        MountBusy
            If a read-write mount is still in use at the deadline.
        NotUploaded
            If something that was written is not in its bucket.
        """
        found = [mount for mount in self.all() if bucket in (None, mount.bucket)]
        self._unmount(found, connection)
        return found

    def all(self) -> list[Mount]:
        """The mounts of this scope."""
        return list(mounts_below(self.scope_directory))

    def _unmount(self, found: list[Mount], connection: Connection | None = None) -> None:
        with self._lock:
            self.moved += sum(map(_bytes_of, found))
            unmount_all(found, self.unmount_timeout, connection)

    def _own(self) -> list[Mount]:
        owner = current_owner()
        return [mount for mount in self.all() if mount.owner == owner and self._is_of_run(mount)]


@dataclass(frozen=True)
class _Wanted:
    """A mount that is looked for, or made.

    Attributes
    ----------
    bucket, connection, options
        See `Mounts.mount`.
    """

    bucket: str
    connection: Connection
    options: MountOptions

    @property
    def identity(self) -> str:
        """A digest of the connection and the options."""
        return f"{self.connection.identity}-{self.options.identity}"


def _failures(mount: Mount, keys: Sequence[str]) -> list[Failure]:
    """Ask a gateway what could not be had; of one that has ended, read what it has noted."""
    if mount.keeper and mount.is_healthy:
        try:
            return Gateway(mount.directory).failures(keys)
        except MountError:
            if mount.is_healthy:
                raise
    if mount.daemon and not mount.daemon.handle:
        _note_end(mount, mount.daemon)
    return read_failures(mount.directory)


def _note_end(mount: Mount, s3fs: Process) -> None:
    """Note, once, that s3fs has ended: a program that listed files then may have found none."""
    sentence = (
        f"s3fs ({s3fs.pid}) had ended while s3://{mount.bucket} was in use; start the run again."
    )
    # It may be taken down at this moment.
    with contextlib.suppress(FileNotFoundError):
        if sentence not in {each.sentence for each in read_failures(mount.directory)}:
            Failures(mount.directory).add(Failure("", sentence, time.time(), is_end=True))


def _bytes_of(mount: Mount) -> int:
    """Return the bytes that have come through a mount."""
    with contextlib.suppress(MountError):
        if mount.keeper and mount.is_healthy:
            return Gateway(mount.directory).requests()["bytes"]
    return 0


def moved(path: Path) -> int:
    """Return the bytes of an input that have come to this node for those who read it.

    Parameters
    ----------
    path : Path
        What a job was given: a link into a mount, or a copy.

    Raises
    ------
    MountError
        If the gateway of the mount does not answer.
    """
    if path.is_symlink():
        target = path.readlink()
        for directory in target.parents:
            mount = Mount.load(directory)
            if mount and target.is_relative_to(mount.point):
                return Gateway(mount.directory).moved(target.relative_to(mount.point).as_posix())
    return path.stat().st_size
