"""Mounts from birth to death: made on demand, proven ready, taken down with patience.

A mount belongs to a process.  When that process is gone, whoever comes next
takes its mounts down (`s3fuse.mount.unmount.sweep`).
"""

from __future__ import annotations

import logging
import os
import subprocess
import tempfile
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NoReturn

import tenacity

from s3fuse.errors import MountError
from s3fuse.mount import daemon
from s3fuse.mount.leases import is_leased, lease
from s3fuse.mount.links import links_into, move_links
from s3fuse.mount.options import MountOptions
from s3fuse.mount.readahead import ReadAhead
from s3fuse.mount.record import Mount, mounts_below
from s3fuse.mount.s3fs_cache.pending_uploads import not_uploaded, unsent
from s3fuse.mount.unmount import discard, fusermount, remove_empty_scope, unmount, unmount_all
from s3fuse.mount.watchdog import Watchdog
from s3fuse.node.directories import default_cache_dir, default_mount_root, scope, secure_directory
from s3fuse.node.locks import locked
from s3fuse.node.processes import Node, Process, current_owner
from s3fuse.s3.connection import Connection

# Snakemake prints messages as they are, so they are complete, without arguments.
log = logging.getLogger("s3fuse")

#: For mounts into which no links are made.
NO_LINKS = Path("/nonexistent")
#: Seconds within which a new mount must answer.
READY_TIMEOUT = 30.0
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
        self._watchdog: Watchdog | None = None
        self._ways: dict[str, tuple[Connection, MountOptions]] = {}
        self._revived: Counter[str] = Counter()
        #: Tells the mounts of this object from those of others in this process or another.
        self._session = f"{os.getpid()}:{uuid.uuid4().hex}"
        #: Files in the mounts that are held open and read ahead.
        self.read_ahead = ReadAhead()
        #: Bytes that came through the mounts that were taken down.
        self.moved = 0

    @property
    def scope_directory(self) -> Path:
        """Where the mounts of this scope lie."""
        return self.root / scope(self.workdir)

    def mount(
        self,
        bucket: str,
        connection: Connection,
        options: MountOptions | None = None,
        *,
        probe: str = "",
        fresh: bool = False,
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
        probe : str
            Key of an object that is wanted; a new mount must show it.
        fresh : bool
            Do not use a mount that is there: it knows an object as it was.

        Raises
        ------
        MountUnavailable
            If nothing can be mounted on this machine.
        MountError
            If the mount did not come up in time; with what the daemon said.
        """
        wanted = _Wanted(bucket, connection, options or MountOptions(), probe)
        with self._scope_lock():
            mount = None if fresh else self._find(wanted, self._is_of_run)
            mount = mount or self._start(wanted, owner=current_owner())
        with self._lock:
            self._ways[wanted.identity] = (connection, wanted.options)
            self._watchdog = self._watchdog or Watchdog(self.renew)
        return mount

    def keep_mounted(
        self, bucket: str, connection: Connection, options: MountOptions | None = None
    ) -> Mount:
        """Mount a bucket, or find it mounted, until somebody unmounts it; see `mount`."""
        wanted = _Wanted(bucket, connection, options or MountOptions())
        with self._scope_lock():
            return self._find(wanted, self._is_of_run) or self._start(wanted)

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
                # A mount of a run goes with the run.
                mount = self._find(wanted, lambda each: each.owner is None)
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
        known = (wanted.bucket, wanted.identity, wanted.connection.credentials().digest)
        for mount in self.all():
            is_wanted = (mount.bucket, mount.identity, mount.credentials_digest) == known
            if is_wanted and may_use(mount) and mount.is_healthy:
                return mount
        return None

    def _is_of_run(self, mount: Mount) -> bool:
        """Whether a run may use a mount: its own, its parent's, or one that was kept.

        Another session of this process ends on its own, and takes its mounts along.
        """
        maker = mount.session.partition(":")[0]
        return not mount.shared and (mount.session == self._session or maker != str(os.getpid()))

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
        self, wanted: _Wanted, *, owner: Process | None = None, shared: bool = False
    ) -> Mount:
        # What does not start leaves nothing behind.
        version = daemon.version()
        credentials = wanted.connection.credentials()
        bucket, options = wanted.bucket, wanted.options
        directory = Path(tempfile.mkdtemp(prefix=f"{bucket}-", dir=self.scope_directory))
        scope_cache = secure_directory(self.cache_dir) / self.scope_directory.name
        cache = secure_directory(scope_cache) / directory.name
        cache.mkdir(mode=0o700)
        mount = Mount(
            bucket,
            directory,
            cache,
            identity=wanted.identity,
            credentials_digest=credentials.digest,
            read_write=options.read_write,
            links=self.links,
            workdir=self.workdir,
            node=Node.here(),
            owner=owner,
            shared=shared,
            session=self._session,
        )
        mount.save()
        mount.point.mkdir()
        command = daemon.command(version, mount, wanted.connection, options)
        environment = credentials.environment | daemon.confinement(wanted.connection)
        process = daemon.start(command, environment, mount.log_file)
        try:
            mount = replace(mount, daemon=Process.of(process.pid))
            mount.save()
            _wait_until_ready(mount, process, wanted.probe)
        except BaseException as error:
            process.kill()
            process.wait()
            if mount.is_mounted:
                fusermount(mount, lazy=True)
            said = _last_lines(mount.log_file)
            discard(mount)
            if isinstance(error, MountError | ProcessLookupError):
                raise MountError(
                    f"s3://{bucket} could not be mounted: {error}; s3fs said: {said}"
                ) from error
            raise
        log.info(f"Mounted s3://{bucket} read-{'write' if options.read_write else 'only'}.")
        return mount

    def renew(self) -> None:
        """Mount anew what jobs of this run read where that has become necessary.

        That is when the daemon of a mount has ended, or when its credentials
        are no longer those that the AWS provider chain gives.  The links into
        the old mount lead to the new one from then on.  An old mount that still
        works stays until the end of the run, for files that are open in it.

        Raises
        ------
        CredentialsError
            If the chain gives no credentials any more.
        MountError
            If the new mount did not come up.
        """
        for old in self._own():
            if old.identity not in self._ways:
                continue
            connection, options = self._ways[old.identity]
            is_healthy = old.is_healthy
            if is_healthy and old.credentials_digest == connection.credentials().digest:
                continue
            if self._revived[old.bucket] >= REVIVALS or not any(links_into([old.point], old.links)):
                continue
            new = self.mount(old.bucket, connection, options)
            move_links(old.point, new.point, old.links)
            if is_healthy:
                log.info(f"s3://{old.bucket} is mounted with the renewed credentials.")
                continue
            move_links(old.whole, new.point, old.links)
            self._revived[old.bucket] += 1
            said = _last_lines(old.log_file)
            log.warning(
                f"s3fs had ended, so s3://{old.bucket} was mounted again; it had said: {said}"
            )
            self.read_ahead.release(old.point)
            with self._lock, locked(self.scope_directory):
                if old.is_mounted:
                    fusermount(old, lazy=True)
                if not unsent(old):
                    discard(old)
                remove_empty_scope(self.scope_directory)

    def close(self) -> None:
        """Let go of the files that are held open; mounts are left to `unmount_own`."""
        self.read_ahead.close()

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
        for mount in found:
            self.read_ahead.release(mount.point)
        with self._lock:
            self.moved += sum(mount.cached_bytes for mount in found)
            unmount_all(found, self.unmount_timeout, connection)

    def _own(self) -> list[Mount]:
        owner = current_owner()
        return [mount for mount in self.all() if mount.owner == owner and self._is_of_run(mount)]


@dataclass(frozen=True)
class _Wanted:
    """A mount that is looked for, or made.

    Attributes
    ----------
    bucket, connection, options, probe
        See `Mounts.mount`.
    """

    bucket: str
    connection: Connection
    options: MountOptions
    probe: str = ""

    @property
    def identity(self) -> str:
        """A digest of the connection and the options."""
        return f"{self.connection.identity}-{self.options.identity}"


def _wait_until_ready(mount: Mount, process: subprocess.Popen[bytes], probe: str) -> None:
    """Wait for the entry in the kernel's table, and for an answer from the bucket."""
    for attempt in tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(BlockingIOError),
        wait=tenacity.wait_fixed(0.02),
        stop=tenacity.stop_after_delay(READY_TIMEOUT),
        retry_error_callback=_not_ready,
    ):
        with attempt:
            if process.poll() is not None:
                raise MountError(f"s3fs ended with status {process.returncode}")
            if not mount.is_mounted:
                raise BlockingIOError
    answer: list[BaseException | None] = []

    def ask() -> None:
        # Not a listing of the bucket, which may have a million objects: any
        # name makes s3fs ask the store.
        try:
            os.stat(mount.point / (probe or ".s3fuse-is-ready"))
        except FileNotFoundError:
            answer.append(None)
        except OSError as error:
            answer.append(error)
        else:
            answer.append(None)

    # The thread hangs if the daemon does; the daemon's end sets it free.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(READY_TIMEOUT)
    if not answer:
        raise MountError(f"it did not answer within {READY_TIMEOUT:.0f} s")
    if answer[0] is not None:
        raise MountError(f"it answered {answer[0]}")
    if not mount.is_mounted:
        # The answer was that of the empty folder beneath.
        raise MountError("it was gone again at once")


def _not_ready(_: tenacity.RetryCallState) -> NoReturn:
    raise MountError(f"it was not there after {READY_TIMEOUT:.0f} s")


def _last_lines(path: Path, count: int = 5) -> str:
    try:
        lines = path.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return "nothing"
    # It repeats its own command line and its start; what counts comes last.
    said = [line.strip() for line in lines if "[INF]" not in line and line.strip()]
    return " / ".join(said[-count:]) or "nothing"
