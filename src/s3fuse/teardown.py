"""The end of a mount: with patience for who uses it, and for what the dead have left."""

from __future__ import annotations

import contextlib
import logging
import shutil
import subprocess
from pathlib import Path
from typing import Any

import psutil
import tenacity

from s3fuse import daemon
from s3fuse.errors import MountBusy
from s3fuse.holders import describe, holders
from s3fuse.links import remove_links
from s3fuse.readahead import READ_AHEAD
from s3fuse.record import RECORD, Mount
from s3fuse.rundir import LOCK, SCRATCH, UPLOADS, locked, secure_directory
from s3fuse.scratch import remove_abandoned

log = logging.getLogger("s3fuse")

#: Seconds that the daemon gets to end by itself after its mount is gone.
DAEMON_TIMEOUT = 10.0


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
            retrying(fusermount, mount)
        except MountBusy:
            if mount.read_write:
                raise
            users = describe(holders(mount.point))
            fusermount(mount, lazy=True)
            log.warning(
                f"s3://{mount.bucket} was still in use by {users} after {timeout:.0f} s. It is "
                "mounted read-only, so nothing is lost: it was detached, and is gone when they "
                "let go of it."
            )
            remove_links(mount.places, mount.links)
            return
    _wait_for_daemon(mount)
    discard(mount)
    log.info(f"Unmounted s3://{mount.bucket}.")


def fusermount(mount: Mount, lazy: bool = False) -> None:
    """Unmount once; `lazy` detaches what is in use."""
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


def _wait_for_daemon(mount: Mount) -> None:
    process = mount.daemon.handle if mount.daemon else None
    if process is None:
        daemon.forget_ended()
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
    daemon.forget_ended()


def sweep(root: Path) -> int:
    """Take down what processes that are gone have left on this node, in any scope.

    Parameters
    ----------
    root : Path
        The run-time directory.

    Returns
    -------
    int
        How many mounts there were.

    Raises
    ------
    RunDirError
        If the directory is not ours alone.
    """
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
            taken += _take_down_abandoned(mount)
    remove_empty_scope(directory)
    return taken


def remove_empty_scope(directory: Path) -> None:
    """Remove a scope without mounts; its lock must be held."""
    if [entry.name for entry in directory.iterdir()] == [LOCK]:
        (directory / LOCK).unlink()
        directory.rmdir()


def _take_down_abandoned(mount: Mount) -> bool:
    process = mount.daemon.handle if mount.daemon else None
    if mount.is_mounted:
        if mount.read_write and process:
            # Somebody may still be writing.
            return False
        fusermount(mount, lazy=True)
    elif process:
        # Detached while in use: its daemon goes when its users do.
        return False
    _wait_for_daemon(mount)
    discard(mount)
    log.info(f"Cleaned up s3://{mount.bucket}, left mounted by a process that is gone.")
    return True


def discard(mount: Mount) -> None:
    """Remove links, cache and record.  The mount point goes by rmdir: never its content."""
    READ_AHEAD.release(mount.point)
    remove_links(mount.places, mount.links)
    with contextlib.suppress(FileNotFoundError):
        mount.point.rmdir()
    shutil.rmtree(mount.cache, ignore_errors=True)
    with contextlib.suppress(OSError):
        # The last of a scope takes the folder along.
        mount.cache.parent.rmdir()
    for path in (mount.log_file, mount.directory / RECORD):
        path.unlink(missing_ok=True)
    with contextlib.suppress(FileNotFoundError):
        mount.directory.rmdir()
