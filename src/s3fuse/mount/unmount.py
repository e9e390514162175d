"""The end of a mount: with patience for who uses it, and for what the dead have left."""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import subprocess
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import tenacity

from s3fuse.errors import MountBusy, MountError, S3FuseError
from s3fuse.gateway.catalogue import name_in
from s3fuse.mount import daemon
from s3fuse.mount.leases import is_leased
from s3fuse.mount.record import Mount
from s3fuse.mount.s3fs_cache.pending_uploads import send, unsent
from s3fuse.node.directories import existing_directory, open_directory, remove_tree
from s3fuse.node.holders import describe, holders
from s3fuse.node.links import remove_links
from s3fuse.node.locks import LOCK, locked
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
            if mount.read_write or is_leased(mount.lease_file):
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
    wait_for_daemon(mount, timeout)
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
    if is_leased(mount.lease_file):
        raise _busy(mount)
    fusermount(mount)


def _busy(mount: Mount) -> MountBusy:
    return MountBusy(
        f"s3://{mount.bucket} cannot be unmounted from {mount.point}: it is in use by "
        f"{_users(mount)}. End it, then run: {shlex.join(daemon.unmount_command(mount.point))}"
    )


def _users(mount: Mount) -> str:
    return describe(
        [replace(each, path=name_in(each.path)) for each in holders(mount.point, mount.lease_file)]
    )


def _tell_once(mount: Mount, timeout: float) -> Any:
    def tell(state: tenacity.RetryCallState) -> None:
        # Not at the first try: a process that just ended may need a moment.
        if state.attempt_number == 3:
            log.warning(
                f"s3://{mount.bucket} is still in use by {_users(mount)}; "
                f"trying to unmount it for up to {timeout:.0f} s."
            )

    return tell


def wait_for_daemon(mount: Mount, timeout: float = 0.0) -> None:
    """Wait until the processes of a mount have ended; kill those that read only.

    Raises
    ------
    MountBusy
        If it may still be uploading at the deadline.
    """
    for started in (mount.daemon, mount.keeper):
        if started and (process := started.handle):
            _wait_for(process, mount, timeout)


def _wait_for(process: psutil.Process, mount: Mount, timeout: float) -> None:
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


def remove_empty_scope(directory: Path) -> None:
    """Remove a scope without mounts; its lock must be held."""
    if [entry.name for entry in directory.iterdir()] == [LOCK]:
        (directory / LOCK).unlink()
        # It stays where somebody has locked it anew at this moment.
        with contextlib.suppress(OSError):
            directory.rmdir()


def discard(mount: Mount) -> None:
    """Remove links, cache and record.  The mount point goes by rmdir: never its content.

    Raises
    ------
    MountError
        If something lies in the folder that was the mount point.
    RunDirError
        If others could replace what is to be removed.
    """
    remove_links(mount.places, mount.links)
    # Only below directories that are ours, by descriptors: a record cannot lead elsewhere.
    for each in (mount.directory, mount.cache):
        for directory in (each.parent.parent, each.parent, each):
            existing_directory(directory)
    with contextlib.suppress(FileNotFoundError), open_directory(mount.directory) as descriptor:
        _remove_mount_point(mount, descriptor)
    remove_tree(mount.cache.parent, mount.cache.name)
    with contextlib.suppress(OSError):
        # The last of a scope takes the folder along.
        mount.cache.parent.rmdir()
    with contextlib.suppress(FileNotFoundError), open_directory(mount.directory) as descriptor:
        for path in mount.files:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path.name, dir_fd=descriptor)
        mount.directory.rmdir()


def _remove_mount_point(mount: Mount, directory: int) -> None:
    try:
        os.rmdir(mount.point.name, dir_fd=directory)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise MountError(
            f"{mount.point} cannot be removed: {error.strerror}. If files were written there "
            f"while s3://{mount.bucket} was not mounted, they are in no bucket; move them, then "
            "run: s3fuse clean"
        ) from error
