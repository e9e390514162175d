"""Mounts from birth to death: made on demand, proven ready, taken down with patience.

Every mount has a directory of its own below the run-time directory::

    <mount_root>/<scope>/lock
    <mount_root>/<scope>/<bucket>-<random>/mount        the mount point
                                           record.json  what it is, and whose
                                           s3fs.log     what the daemon said

A mount belongs to a process.  When that process is gone, whoever comes next
takes its mounts down (`sweep`).
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

import psutil
import tenacity

from s3fuse import daemon
from s3fuse.connection import Connection
from s3fuse.daemon import MountOptions
from s3fuse.errors import MountBusy, MountError, S3FuseError
from s3fuse.holders import describe, holders
from s3fuse.rundir import (
    LOCK,
    UPLOADS,
    Node,
    Process,
    current_owner,
    default_cache_dir,
    default_mount_root,
    locked,
    scope,
    secure_directory,
)

# Snakemake prints messages as they are, so they are complete, without arguments.
log = logging.getLogger("s3fuse")

#: Seconds within which a new mount must answer.
READY_TIMEOUT = 30.0
#: Seconds that the daemon gets to end by itself after its mount is gone.
DAEMON_TIMEOUT = 10.0
RECORD = "record.json"

# Popen objects warn when they go before their process does; these may.
_children: list[subprocess.Popen[bytes]] = []


@dataclass(frozen=True)
class Mount:
    """One mounted bucket.

    Attributes
    ----------
    bucket : str
        What is mounted.
    directory : Path
        Where mount point, record and log lie.
    cache : Path
        Where the daemon keeps what it has read.
    identity : str
        Digest of the connection and options; equal ones share a mount.
    read_write : bool
        Whether programs may write through it.
    links : Path
        Symbolic links into the mount lie below this directory.
    node : Node
        Where it is.
    owner : Process, optional
        Whose it is; a mount without an owner stays until it is unmounted.
    daemon : Process, optional
        The s3fs process.
    """

    bucket: str
    directory: Path
    cache: Path
    identity: str
    read_write: bool
    links: Path
    node: Node
    owner: Process | None
    daemon: Process | None = None

    @property
    def point(self) -> Path:
        """The mount point."""
        return self.directory / "mount"

    @property
    def log_file(self) -> Path:
        """What the daemon said."""
        return self.directory / "s3fs.log"

    @property
    def is_mounted(self) -> bool:
        """Whether the mount point is in the kernel's table of mounts, dead or alive."""
        # Not psutil.disk_partitions, nor os.path.ismount: they stat the mount
        # point, which hangs where the daemon does.
        point = str(self.point).replace("\\", "\\134").replace(" ", "\\040")
        with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as table:
            return any(line.split(" ", 2)[1] == point for line in table)

    @property
    def is_healthy(self) -> bool:
        """Whether it is mounted and its daemon lives."""
        return self.is_mounted and self.daemon is not None and self.daemon.handle is not None

    @property
    def is_abandoned(self) -> bool:
        """Whether the process it belongs to has ended; without an owner, the daemon."""
        process = self.owner or self.daemon
        return process is None or self.node.boot != Node.here().boot or process.handle is None

    def save(self) -> None:
        """Write the record, in one step."""
        temporary = self.directory / f"{RECORD}.new"
        temporary.write_text(json.dumps(asdict(self), default=str, indent=1))
        temporary.replace(self.directory / RECORD)

    @classmethod
    def load(cls, directory: Path) -> Mount | None:
        """Read the record of a mount; None if there is none that can be read."""
        try:
            values: dict[str, Any] = json.loads((directory / RECORD).read_text())
            values["node"] = Node(**values["node"])
            for name in ("owner", "daemon"):
                values[name] = Process(**values[name]) if values[name] else None
            for name in ("directory", "cache", "links"):
                values[name] = Path(values[name])
            return cls(**values)
        except (OSError, ValueError, TypeError, KeyError):
            return None


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
        Node-local places; see `s3fuse.rundir` for the defaults.
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
        fresh: bool = False,
        keep: bool = False,
    ) -> Mount:
        """Mount a bucket, or find it mounted already.

        Parameters
        ----------
        bucket : str
            What to mount; that it answers was checked before.
        connection : Connection
            Where it is and who asks.
        options : MountOptions, optional
            How to mount it.
        fresh : bool
            Do not use a mount that is there: it knows an object as it was.
        keep : bool
            Leave it mounted when this process ends.

        Raises
        ------
        MountUnavailable
            If nothing can be mounted on this machine.
        MountError
            If the mount did not come up in time; with what the daemon said.
        """
        daemon.require()
        options = options or MountOptions()
        identity = f"{connection.identity}-{options.read_write}-{options.extra}"
        secure_directory(self.root)
        directory = secure_directory(self.scope_directory)
        # Threads of one process share the file lock, hence both.
        with self._lock, locked(directory):
            if not fresh:
                for mount in self.all():
                    if (mount.bucket, mount.identity) == (bucket, identity) and mount.is_healthy:
                        return mount
            try:
                return self._start(bucket, connection, options, identity, keep)
            finally:
                _remove_empty_scope(directory)

    def _start(
        self, bucket: str, connection: Connection, options: MountOptions, identity: str, keep: bool
    ) -> Mount:
        environment = connection.daemon_environment()
        directory = Path(tempfile.mkdtemp(prefix=f"{bucket}-", dir=self.scope_directory))
        cache = secure_directory(self.cache_dir) / self.scope_directory.name / directory.name
        cache.mkdir(mode=0o700, parents=True)
        owner = None if keep else current_owner()
        mount = Mount(
            *(bucket, directory, cache, identity, options.read_write, self.links),
            node=Node.here(),
            owner=owner,
        )
        mount.save()
        mount.point.mkdir()
        process = daemon.start(
            daemon.command(bucket, mount.point, cache, connection, options),
            environment,
            mount.log_file,
        )
        _children.append(process)
        try:
            mount = replace(mount, daemon=Process.of(process.pid))
            mount.save()
            _wait_until_ready(mount, process)
        except BaseException as error:
            process.kill()
            process.wait()
            if mount.is_mounted:
                _fusermount(mount, lazy=True)
            said = _last_lines(mount.log_file)
            _discard(mount)
            if isinstance(error, MountError | ProcessLookupError):
                raise MountError(
                    f"s3://{bucket} could not be mounted: {error}; s3fs said: {said}"
                ) from error
            raise
        log.info(f"Mounted s3://{bucket} read-{'write' if options.read_write else 'only'}.")
        return mount

    def unmount_own(self) -> None:
        """Unmount what belongs to this run, with patience; only its owner does.

        Raises
        ------
        MountBusy
            If a read-write mount is still in use at the deadline.
        """
        owner = current_owner()
        if owner.pid == os.getpid():
            self._unmount([mount for mount in self.all() if mount.owner == owner])

    def unmount(self, bucket: str | None = None) -> list[Mount]:
        """Unmount all of this scope, or one bucket, whoever it belongs to.

        Returns
        -------
        list of Mount
            What was mounted.

        Raises
        ------
        MountBusy
            If a read-write mount is still in use at the deadline.
        """
        found = [mount for mount in self.all() if bucket in (None, mount.bucket)]
        self._unmount(found)
        return found

    def all(self) -> list[Mount]:
        """The mounts of this scope."""
        return list(mounts_below(self.scope_directory))

    def _unmount(self, found: list[Mount]) -> None:
        if not found:
            return
        errors = []
        with self._lock, locked(self.scope_directory):
            for mount in found:
                try:
                    unmount(mount, self.unmount_timeout)
                except S3FuseError as error:
                    errors.append(str(error))
            _remove_empty_scope(self.scope_directory)
        if errors:
            raise MountBusy(" ".join(errors))

    def sweep(self) -> None:
        """Take down what processes that are gone have left on this node, in any scope."""
        if not self.root.is_dir():
            return
        secure_directory(self.root)
        for directory in self.root.iterdir():
            if not directory.is_dir() or directory.name == UPLOADS:
                continue
            with locked(directory, wait=False) as held:
                if held:
                    _sweep_scope(directory)


def mounts_below(directory: Path) -> Iterator[Mount]:
    """The recorded mounts of a scope, as far as they are on this node."""
    for record in sorted(directory.glob(f"*/{RECORD}")):
        mount = Mount.load(record.parent)
        if mount and not mount.node.is_elsewhere:
            yield mount


def unmount(mount: Mount, timeout: float) -> None:
    """Take a mount down; wait for those who use it, with growing pauses.

    A read-only mount that is still busy at the deadline is detached: nothing
    is lost by it.  A read-write mount stays, for data may be in flight.

    Raises
    ------
    MountBusy
        If a read-write mount is still busy at the deadline.
    """
    if not mount.is_mounted and mount.daemon and mount.daemon.handle:
        # Detached while in use: the daemon ends when its last user does.
        return
    if mount.is_mounted:
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(MountBusy),
            wait=tenacity.wait_exponential(multiplier=0.05, max=5),
            stop=tenacity.stop_after_delay(timeout),
            before_sleep=_tell_once(mount, timeout),
            reraise=True,
        )
        try:
            retrying(_fusermount, mount)
        except MountBusy:
            if mount.read_write:
                raise
            users = describe(holders(mount.point))
            _fusermount(mount, lazy=True)
            log.warning(
                f"s3://{mount.bucket} was still in use by {users} after {timeout:.0f} s. It is "
                "mounted read-only, so nothing is lost: it was detached, and is gone when they "
                "let go of it."
            )
            _remove_links(mount)
            return
    _wait_for_daemon(mount)
    _discard(mount)
    log.info(f"Unmounted s3://{mount.bucket}.")


def _fusermount(mount: Mount, lazy: bool = False) -> None:
    command = daemon.unmount_command(mount.point, lazy=lazy)
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode == 0 or not mount.is_mounted:
        return
    raise MountBusy(
        f"s3://{mount.bucket} cannot be unmounted from {mount.point}: it is in use by "
        f"{describe(holders(mount.point))}. End it, then run: "
        f"{' '.join(daemon.unmount_command(mount.point))}"
    )


def _tell_once(mount: Mount, timeout: float) -> Any:
    def tell(state: tenacity.RetryCallState) -> None:
        # Not at the first try: a process that just ended may need a moment.
        if state.attempt_number == 3:
            log.warning(
                f"s3://{mount.bucket} is still in use by {describe(holders(mount.point))}; "
                f"trying to unmount it for up to {timeout:.0f} s."
            )

    return tell


def _wait_until_ready(mount: Mount, process: subprocess.Popen[bytes]) -> None:
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
            os.stat(mount.point / ".s3fuse-is-ready")
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


def _not_ready(_: tenacity.RetryCallState) -> NoReturn:
    raise MountError(f"it was not there after {READY_TIMEOUT:.0f} s")


def _wait_for_daemon(mount: Mount) -> None:
    process = mount.daemon.handle if mount.daemon else None
    if process is None:
        _forget_ended_children()
        return
    with contextlib.suppress(psutil.NoSuchProcess):
        try:
            process.wait(DAEMON_TIMEOUT)
        except psutil.TimeoutExpired:
            if mount.read_write:
                raise MountBusy(
                    f"s3://{mount.bucket} is unmounted, but s3fs (pid {process.pid}) is still "
                    "uploading; wait until it has ended."
                ) from None
            process.kill()
            process.wait(DAEMON_TIMEOUT)
    _forget_ended_children()


def _forget_ended_children() -> None:
    _children[:] = [child for child in _children if child.poll() is None]


def _sweep_scope(directory: Path) -> None:
    for child in directory.iterdir():
        if not child.is_dir():
            continue
        mount = Mount.load(child)
        if mount is None:
            # Its maker was killed before it could say what it is, and before
            # it mounted anything.
            with contextlib.suppress(OSError):
                child.rmdir()
        elif mount.is_abandoned and not mount.node.is_elsewhere:
            _take_down_abandoned(mount)
    _remove_empty_scope(directory)


def _remove_empty_scope(directory: Path) -> None:
    """Remove a scope without mounts; its lock must be held."""
    if [entry.name for entry in directory.iterdir()] == [LOCK]:
        (directory / LOCK).unlink()
        directory.rmdir()


def _take_down_abandoned(mount: Mount) -> None:
    process = mount.daemon.handle if mount.daemon else None
    if mount.is_mounted:
        if mount.read_write and process:
            # Somebody may still be writing.
            return
        _fusermount(mount, lazy=True)
    elif process:
        # Detached while in use: its daemon goes when its users do.
        return
    _wait_for_daemon(mount)
    _discard(mount)
    log.info(f"Cleaned up s3://{mount.bucket}, left mounted by a process that is gone.")


def _remove_links(mount: Mount) -> None:
    """Remove the links into a mount; without it they would point nowhere."""
    prefix = f"{mount.point}/"
    for directory, folders, files in os.walk(mount.links):
        for name in (*folders, *files):
            path = os.path.join(directory, name)
            if os.path.islink(path) and f"{os.readlink(path)}/".startswith(prefix):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)


def _discard(mount: Mount) -> None:
    """Remove links, cache and record.  The mount point goes by rmdir: never its content."""
    _remove_links(mount)
    with contextlib.suppress(FileNotFoundError):
        mount.point.rmdir()
    shutil.rmtree(mount.cache, ignore_errors=True)
    with contextlib.suppress(OSError):
        # The last of a scope takes the folder along.
        mount.cache.parent.rmdir()
    for path in (mount.log_file, mount.directory / RECORD):
        path.unlink(missing_ok=True)
    mount.directory.rmdir()


def _last_lines(path: Path, count: int = 5) -> str:
    try:
        lines = path.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return "nothing"
    # It repeats its own command line and its start; what counts comes last.
    said = [line.strip() for line in lines if "[INF]" not in line and line.strip()]
    return " / ".join(said[-count:]) or "nothing"
