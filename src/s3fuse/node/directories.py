"""Node-local places that are ours alone: run-time directory, locks, scopes and owners."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from pathlib import Path

from s3fuse.errors import RunDirError
from s3fuse.node.schedulers import batch_job

#: Beside the scopes: notes on uploads that are under way, and on folders of batch jobs.
UPLOADS, SCRATCH = "uploads", "scratch"


def default_mount_root() -> Path:
    """The user's run-time directory, or one in the temp directory.

    A batch job inherits the name of a run-time directory from where it was
    submitted, which on its node may not exist, or end with somebody's session.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and not batch_job():
        return Path(runtime) / "s3fuse"
    return _temporary("s3fuse")


def default_cache_dir() -> Path:
    """A directory on disk: run-time directories are often in memory."""
    return _temporary("s3fuse-cache")


def _temporary(name: str) -> Path:
    return Path(tempfile.gettempdir()) / f"{name}-{os.geteuid()}"


def scope(workdir: Path) -> str:
    """Name what mounts are shared within: a working directory, and a batch job if any."""
    workdir = workdir.resolve()
    digest = hashlib.sha256(f"{workdir}\0{batch_job()}".encode()).hexdigest()[:10]
    return f"{workdir.name[:40] or 'root'}-{digest}"


def secure_directory(path: Path) -> Path:
    """Make a directory that only we can write to, or make sure that it is one.

    Raises
    ------
    RunDirError
        If it is somebody else's, can be written by others, or cannot be made.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = path.lstat()
    except OSError as error:
        raise RunDirError(
            f"{path} cannot be made: {error.strerror}; set mount_root and cache_dir "
            "to places on this node where you may write."
        ) from error
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise RunDirError(
            f"{path} is not a directory of yours; remove it, "
            "or set another mount_root or cache_dir."
        )
    if status.st_mode & 0o022:
        raise RunDirError(
            f"{path} can be written by others, so they could replace your mounts; "
            f"run `chmod go-w {path}`, or set another mount_root or cache_dir."
        )
    return path


def is_ours(path: Path) -> bool:
    """Whether a directory belongs to us."""
    try:
        status = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
