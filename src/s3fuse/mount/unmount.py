"""The end of a mount: with patience for who uses it, and for what the dead have left."""

from __future__ import annotations

import contextlib
import logging
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psutil
import tenacity

from s3fuse.errors import MountBusy, MountError, RunDirError, S3FuseError
from s3fuse.mount import daemon
from s3fuse.mount.holders import describe, holders
from s3fuse.mount.leases import is_used
from s3fuse.mount.links import remove_links
from s3fuse.mount.readahead import READ_AHEAD
from s3fuse.mount.record import RECORD, Mount
from s3fuse.mount.s3fs_cache.pending_uploads import not_uploaded, send, unsent
from s3fuse.node.directories import LOCK, SCRATCH, UPLOADS, Node, locked, secure_directory
from s3fuse.node.job_directory import remove_abandoned
from s3fuse.s3.connection import Connection

log = logging.getLogger("s3fuse")

#: Seconds that the daemon gets to end by itself after its mount is gone.
DAEMON_TIMEOUT = 10.0


def unmount(
    mount: Mount,
    timeout: float,
    connection: Connection | None = None,
    *,
    discarding: bool = False,
) -> None:
    """Take a mount down; wait for those who use it, with growing pauses.

    A read-only mount that is still busy at the deadline is detached: nothing
    is lost by it.  A read-write mount stays, for data may be in flight, and so
    does one that a program of somebody shares.  What has been written and s3fs
    could not upload is uploaded here.

    Parameters
    ----------
    mount : Mount
        What to take down.
    timeout : float
        Seconds.
    connection : Connection, optional
        How to reach the bucket.
    discarding : bool
        Throw away what could not be uploaded.

    Raises
    ------
    MountBusy
        If a read-write mount, or one with users, is still busy at the deadline.
    NotUploaded
        If something is not in the bucket; it is kept, and so is the record of the mount.
    """
    is_detached = not mount.is_mounted and mount.daemon and mount.daemon.handle
    if is_detached and not mount.read_write:
        # While in use: the daemon ends when its last user does.
        return
    READ_AHEAD.release(mount.point)
    if mount.is_mounted:
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(MountBusy),
            wait=tenacity.wait_exponential(multiplier=0.05, max=5),
            stop=tenacity.stop_after_delay(timeout),
            before_sleep=_tell_once(mount, timeout),
            reraise=True,
        )
        try:
            retrying(_unmount_unused, mount)
        except MountBusy:
            if mount.read_write or is_used(mount.users_file):
                raise
            users = _users(mount)
            fusermount(mount, lazy=True)
            log.warning(
                f"s3://{mount.bucket} was still in use by {users} after {timeout:.0f} s. It is "
                "mounted read-only, so nothing is lost: it was detached, and is gone when they "
                "let go of it."
            )
            remove_links(mount.places, mount.links)
            return
    _wait_for_daemon(mount, timeout)
    if unsent(mount) and not discarding:
        send(mount, connection)
    discard(mount)
    log.info(f"Unmounted s3://{mount.bucket}.")


def unmount_all(
    mounts: Iterable[Mount],
    timeout: float,
    connection: Connection | None = None,
    *,
    discarding: bool = False,
) -> None:
    """Take mounts of any scopes down, each as far as that is possible.

    Raises
    ------
    MountBusy, NotUploaded
        What kept the first that could not be taken down, and the others, too.
    """
    errors: list[S3FuseError] = []
    for mount in mounts:
        with locked(mount.directory.parent):
            try:
                # Whoever was making it may have come to know its daemon meanwhile.
                now = Mount.load(mount.directory) or mount
                unmount(now, timeout, connection, discarding=discarding)
            except S3FuseError as error:
                errors.append(error)
            remove_empty_scope(mount.directory.parent)
    if errors:
        raise type(errors[0])(" ".join(map(str, errors)))


def fusermount(mount: Mount, lazy: bool = False) -> None:
    """Unmount once; `lazy` detaches what is in use."""
    command = daemon.unmount_command(mount.point, lazy=lazy)
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0 and mount.is_mounted:
        raise _busy(mount)
    # What a program writes there now would be in no bucket.
    with contextlib.suppress(OSError):
        mount.point.chmod(0o500)


def _unmount_unused(mount: Mount) -> None:
    if is_used(mount.users_file):
        raise _busy(mount)
    fusermount(mount)


def _busy(mount: Mount) -> MountBusy:
    return MountBusy(
        f"s3://{mount.bucket} cannot be unmounted from {mount.point}: it is in use by "
        f"{_users(mount)}. End it, then run: {' '.join(daemon.unmount_command(mount.point))}"
    )


def _users(mount: Mount) -> str:
    return describe(holders(mount.point, mount.users_file))


def _tell_once(mount: Mount, timeout: float) -> Any:
    def tell(state: tenacity.RetryCallState) -> None:
        # Not at the first try: a process that just ended may need a moment.
        if state.attempt_number == 3:
            log.warning(
                f"s3://{mount.bucket} is still in use by {_users(mount)}; "
                f"trying to unmount it for up to {timeout:.0f} s."
            )

    return tell


def _wait_for_daemon(mount: Mount, timeout: float = 0.0) -> None:
    process = mount.daemon.handle if mount.daemon else None
    if process is None:
        daemon.forget_ended()
        return
    with contextlib.suppress(psutil.NoSuchProcess):
        try:
            process.wait(max(timeout if mount.read_write else 0.0, DAEMON_TIMEOUT))
        except psutil.TimeoutExpired:
            if mount.read_write:
                raise MountBusy(
                    f"s3://{mount.bucket} is unmounted, but s3fs (pid {process.pid}) is still "
                    "uploading; wait until it has ended."
                ) from None
            process.kill()
            process.wait(DAEMON_TIMEOUT)
    daemon.forget_ended()


def sweep(root: Path, cache_dir: Path | None = None) -> int:
    """Take down what processes that are gone have left on this node, in any scope.

    Parameters
    ----------
    root : Path
        The run-time directory.
    cache_dir : Path, optional
        Where caches may lie whose mounts went with a restart of the machine.

    Returns
    -------
    int
        How many mounts there were.

    Raises
    ------
    RunDirError
        If the directory is not ours alone.
    """
    if cache_dir and cache_dir.is_dir():
        # Where others can write, nothing is believed; who mounts there is told.
        with contextlib.suppress(RunDirError):
            _recover(secure_directory(cache_dir), root)
    if not root.is_dir():
        return 0
    secure_directory(root)
    taken = 0
    for directory in root.iterdir():
        if not directory.is_dir() or directory.name in (UPLOADS, SCRATCH):
            continue
        with locked(directory, wait=False) as held:
            if held:
                taken += _sweep_scope(directory)
    remove_abandoned(root)
    return taken


def _recover(cache_dir: Path, root: Path) -> None:
    """Remove caches without a mount, as run-time directories go with a restart.

    Where something in one was never uploaded, the record comes back instead, so
    that whoever unmounts uploads it.
    """
    for record in cache_dir.glob(f"*/*/{RECORD}"):
        mount = Mount.load(record.parent)
        if mount is None or mount.node.is_elsewhere or mount.cache != record.parent:
            continue
        is_alive = mount.node == Node.here() and mount.daemon and mount.daemon.handle
        if is_alive or not mount.directory.is_relative_to(root):
            continue
        secure_directory(root)
        with locked(mount.directory.parent):
            # The directory of a mount is made before its cache, and removed after it.
            if not mount.directory.exists():
                if unsent(mount):
                    mount.directory.mkdir(mode=0o700)
                    mount.save()
                else:
                    discard(mount)
            remove_empty_scope(mount.directory.parent)


def _sweep_scope(directory: Path) -> int:
    taken = 0
    for child in directory.iterdir():
        if not child.is_dir():
            continue
        mount = Mount.load(child)
        if mount is None:
            # Its maker was killed before it could say what it is, and before
            # it mounted anything.
            with contextlib.suppress(OSError):
                child.rmdir()
        elif mount.is_abandoned:
            try:
                taken += _take_down_abandoned(mount)
            except S3FuseError as error:
                # It keeps nobody from working with other mounts.
                log.warning(str(error))
    remove_empty_scope(directory)
    return taken


def remove_empty_scope(directory: Path) -> None:
    """Remove a scope without mounts; its lock must be held."""
    if [entry.name for entry in directory.iterdir()] == [LOCK]:
        (directory / LOCK).unlink()
        # It stays where somebody has locked it anew at this moment.
        with contextlib.suppress(OSError):
            directory.rmdir()


def _take_down_abandoned(mount: Mount) -> bool:
    process = mount.daemon.handle if mount.daemon else None
    if mount.is_mounted:
        try:
            # Somebody may still be writing.
            fusermount(mount, lazy=not (mount.read_write and process))
        except MountBusy:
            return False
    elif process:
        # Detached while in use: its daemon goes when its users do.
        return False
    _wait_for_daemon(mount)
    if unsent(mount):
        log.warning(str(not_uploaded(mount, "Its mount is gone.")))
        return False
    discard(mount)
    log.info(f"Cleaned up s3://{mount.bucket}, left mounted by a process that is gone.")
    return True


def discard(mount: Mount) -> None:
    """Remove links, cache and record.  The mount point goes by rmdir: never its content.

    Raises
    ------
    MountError
        If something lies in the folder that was the mount point.
    """
    READ_AHEAD.release(mount.point)
    remove_links(mount.places, mount.links)
    try:
        mount.point.rmdir()
    except FileNotFoundError:
        pass
    except OSError as error:
        raise MountError(
            f"{mount.point} cannot be removed: {error.strerror}. If files were written there "
            f"while s3://{mount.bucket} was not mounted, they are in no bucket; move them, then "
            "run: s3fuse clean"
        ) from error
    shutil.rmtree(mount.cache, ignore_errors=True)
    with contextlib.suppress(OSError):
        # The last of a scope takes the folder along.
        mount.cache.parent.rmdir()
    names = mount.log_file, mount.users_file, mount.directory / RECORD
    for path in (*names, mount.directory / f"{RECORD}.new"):
        path.unlink(missing_ok=True)
    with contextlib.suppress(FileNotFoundError):
        mount.directory.rmdir()
