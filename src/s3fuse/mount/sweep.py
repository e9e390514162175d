"""Cleaning up after processes that are gone."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

from s3fuse.errors import MountBusy, RunDirError, S3FuseError
from s3fuse.mount.record import RECORD, Mount
from s3fuse.mount.s3fs_cache.pending_uploads import not_uploaded, unsent
from s3fuse.mount.unmount import discard, fusermount, remove_empty_scope, wait_for_daemon
from s3fuse.node.directories import UPLOADS, existing_directory, is_ours, secure_directory
from s3fuse.node.locks import locked
from s3fuse.node.processes import Node

log = logging.getLogger("s3fuse")


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
    if cache_dir:
        # Where others can write, nothing is believed; who mounts there is told.
        with contextlib.suppress(RunDirError):
            if existing_directory(cache_dir):
                _recover(cache_dir, root)
    if not existing_directory(root):
        return 0
    taken = 0
    for directory in filter(is_ours, root.iterdir()):
        if directory.name == UPLOADS:
            continue
        with locked(directory, wait=False) as held:
            if held:
                taken += _sweep_scope(directory)
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
        if is_alive or mount.directory != root.joinpath(*record.parent.parts[-2:]):
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
    existing_directory(directory)
    for child in filter(is_ours, directory.iterdir()):
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
    wait_for_daemon(mount)
    if unsent(mount):
        log.warning(str(not_uploaded(mount, "Its mount is gone.")))
        return False
    discard(mount)
    log.info(f"Cleaned up s3://{mount.bucket}, left mounted by a process that is gone.")
    return True
