"""Node-local places that are ours alone: run-time directory, locks, scopes and owners."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import socket
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from s3fuse.errors import RunDirError

#: Names the process that all mounts of a run belong to, for its children.
OWNER_VARIABLE = "S3FUSE_OWNER"

#: The lock file of a directory.
LOCK = "lock"
#: Beside the scopes: notes on uploads that are under way, and on folders of batch jobs.
UPLOADS, SCRATCH = "uploads", "scratch"

# Where the schedulers say which batch job this is.
_BATCH_JOB_VARIABLES = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID", "OAR_JOB_ID")


@dataclass(frozen=True)
class Node:
    """Where the number of a process means that process, and a path that mount.

    Attributes
    ----------
    host : str
        Name of the machine, or of the container.
    boot : str
        The kernel's name for this boot.
    namespaces : str
        Of process numbers and of mounts.
    """

    host: str
    boot: str
    namespaces: str

    @classmethod
    def here(cls) -> Node:
        """Say where we are."""
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        spaces = [os.readlink(f"/proc/self/ns/{kind}") for kind in ("pid", "mnt")]
        return cls(socket.gethostname(), boot, " ".join(spaces))

    @property
    def is_elsewhere(self) -> bool:
        """Whether it may live on where we cannot see it: another machine, another container."""
        here = Node.here()
        if self.host != here.host:
            return True
        return self.boot == here.boot and self.namespaces != here.namespaces

    def has_lost(self, process: Process) -> bool:
        """Whether a process of this node is known to have ended."""
        if self.is_elsewhere:
            return False
        return self.boot != Node.here().boot or process.handle is None


@dataclass(frozen=True)
class Process:
    """A process that cannot be mistaken for a later one of the same number.

    Attributes
    ----------
    pid : int
        Its number.
    started : int
        When it started, in clock ticks since the boot: exact, where a time of
        day would move with the clock.
    """

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> Process:
        """Identify a process that is running.

        Raises
        ------
        ProcessLookupError
            If it is not.
        """
        try:
            # The name, in parentheses, may contain anything.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            raise ProcessLookupError(pid) from None
        return cls(pid, int(fields[19]))

    @property
    def handle(self) -> psutil.Process | None:
        """The running process; None if it has ended."""
        try:
            if Process.of(self.pid) != self:
                return None
            process = psutil.Process(self.pid)
            return process if process.status() != psutil.STATUS_ZOMBIE else None
        except (ProcessLookupError, psutil.NoSuchProcess):
            return None


def current_owner() -> Process:
    """Find the process that this run's mounts belong to.

    That is the nearest one above us that has claimed them, such as Snakemake
    for its jobs, or else this one.  A batch job on another node inherits the
    variable but not the process, and so owns what it mounts.
    """
    claimed = os.environ.get(OWNER_VARIABLE, "")
    for process in (psutil.Process(), *psutil.Process().parents()):
        if str(process.pid) == claimed.partition(":")[0]:
            owner = Process.of(process.pid)
            if f"{owner.pid}:{owner.started}" == claimed:
                return owner
    return claim_ownership()


def claim_ownership() -> Process:
    """Let what this process and its children mount be this process's."""
    me = Process.of(os.getpid())
    os.environ[OWNER_VARIABLE] = f"{me.pid}:{me.started}"
    return me


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


def write_note(path: Path, /, **content: Any) -> None:
    """Note, in one step, what this process is doing on this node."""
    content |= {"node": asdict(Node.here()), "process": asdict(Process.of(os.getpid()))}
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps(content))
    temporary.replace(path)


def is_left(content: Mapping[str, Any]) -> bool:
    """Whether the process that wrote a note is known to have ended."""
    return Node(**content["node"]).has_lost(Process(**content["process"]))


def batch_job() -> str:
    """The number of the batch job that this process belongs to; empty without one."""
    return next((os.environ[name] for name in _BATCH_JOB_VARIABLES if os.environ.get(name)), "")


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


@contextmanager
def locked(directory: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold the lock of a directory; the kernel frees it when its holder dies.

    A directory that somebody has just removed is made again, unless `wait` is false.

    Yields
    ------
    bool
        Whether it is held; always, unless `wait` is false and somebody else has it.
    """
    while True:
        if wait:
            # Not exist_ok, which fails where somebody removes it at this moment.
            with suppress(FileExistsError):
                directory.mkdir(mode=0o700)
        try:
            opened = (directory / LOCK).open("a")
        except FileNotFoundError:
            if wait:
                continue
            yield False
            return
        with opened as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
                return
            if not _is_current(file.fileno(), directory / LOCK):
                continue
            try:
                yield True
            finally:
                # Children that were forked meanwhile have the file open, too.
                fcntl.flock(file, fcntl.LOCK_UN)
            return


def _is_current(descriptor: int, path: Path) -> bool:
    """Whether an open file is still the one at `path`, and not one removed meanwhile."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
