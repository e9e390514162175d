"""Node-local places that are ours alone: run-time directory, locks, scopes and owners."""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from s3fuse.errors import RunDirError

#: Names the process that all mounts of a run belong to, for its children.
OWNER_VARIABLE = "S3FUSE_OWNER"

#: The lock file of a directory.
LOCK = "lock"

# Where the schedulers say which batch job this is.
_BATCH_JOB_VARIABLES = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID", "OAR_JOB_ID")


@dataclass(frozen=True)
class Process:
    """A process that cannot be mistaken for a later one of the same number.

    Attributes
    ----------
    pid : int
        Its number on this node.
    started : float
        When it started, in seconds since the epoch.
    """

    pid: int
    started: float

    @classmethod
    def of(cls, pid: int) -> Process:
        """Identify a process that is running."""
        return cls(pid, psutil.Process(pid).create_time())

    @property
    def handle(self) -> psutil.Process | None:
        """The running process; None if it has ended."""
        try:
            process = psutil.Process(self.pid)
            # Recorded times are rounded differently on their way through JSON.
            same = abs(process.create_time() - self.started) < 0.1
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None


def current_owner() -> Process:
    """Find the process that this run's mounts belong to.

    That is the nearest one above us that has claimed them, such as Snakemake
    for its jobs, or else this one.  A batch job on another node inherits the
    variable but not the process, and so owns what it mounts.
    """
    me = psutil.Process()
    pid, _, started = os.environ.get(OWNER_VARIABLE, "").partition(":")
    for process in (me, *me.parents()):
        if str(process.pid) == pid and f"{process.create_time():.2f}" == started:
            return Process(process.pid, process.create_time())
    return claim_ownership()


def claim_ownership() -> Process:
    """Let what this process and its children mount be this process's."""
    me = psutil.Process()
    os.environ[OWNER_VARIABLE] = f"{me.pid}:{me.create_time():.2f}"
    return Process(me.pid, me.create_time())


def default_mount_root() -> Path:
    """The user's run-time directory, or one in the temp directory."""
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
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
    job = next((os.environ[name] for name in _BATCH_JOB_VARIABLES if os.environ.get(name)), "")
    digest = hashlib.sha256(f"{workdir}\0{job}".encode()).hexdigest()[:10]
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


@contextmanager
def locked(directory: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold the lock of a directory; the kernel frees it when its holder dies.

    Yields
    ------
    bool
        Whether it is held; always, unless `wait` is false and somebody else has it.
    """
    while True:
        with (directory / LOCK).open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
                return
            if not _is_current(file.fileno(), directory / LOCK):
                continue
            yield True
            return


def _is_current(descriptor: int, path: Path) -> bool:
    """Whether an open file is still the one at `path`, and not one removed meanwhile."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
