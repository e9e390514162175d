"""Node-local directories: where they are, and how they are opened and emptied securely.

Other users of the node can create any name in the temp directory, and can guess the
names that are used here.  So a directory is checked before anything in it is read:

- it belongs to this user, is no symbolic link, and other users cannot write in it;
- other users cannot replace it or a directory above it.

Deleting starts at a descriptor of such a directory and follows no link, so it cannot
reach a path outside, whatever a record or a link in it says.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from s3fuse.errors import RunDirError
from s3fuse.node.schedulers import batch_job

#: Next to the scopes: notes on uploads that are under way.
UPLOADS = "uploads"

#: Characters of a working directory's name that its scope does without: the scope is
#: part of options of s3fs and of the kernel's table of mounts, which give them a meaning.
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

#: Symbolic links that the kernel follows in one path (``MAXSYMLINKS``).
_MOST_LINKS = 40

_OTHER_PLACES = "set mount_root and cache_dir to directories of yours"
_OTHER_PREFIX = (
    "set local-storage-prefix, or remote-job-local-storage-prefix for jobs on other nodes, "
    "to a directory of yours"
)


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
    digest = hashlib.sha256(os.fsencode(f"{workdir}\0{batch_job()}")).hexdigest()[:10]
    return f"{_UNSAFE.sub('_', workdir.name)[:40] or 'root'}-{digest}"


def secure_directory(path: Path) -> Path:
    """Create a directory that only this user can write to, or check that it is one.

    Raises
    ------
    RunDirError
        If it belongs to another user, other users can write in it or replace it, or it
        cannot be created.
    """
    _refuse_if_replaceable(path, _OTHER_PLACES)
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError:
        pass
    except OSError as error:
        raise RunDirError(
            f"{path} cannot be made: {error.strerror}; set mount_root and cache_dir "
            "to places on this node where you may write."
        ) from error
    _refuse_if_insecure(path)
    return path


def existing_directory(path: Path) -> bool:
    """Tell whether a directory exists that only this user can write to.

    Whatever reads or deletes in a node-local directory asks this first.

    Raises
    ------
    RunDirError
        If it belongs to another user, or other users can write in it or replace it.
    """
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        # Unreadable, so not ours.
        pass
    _refuse_if_replaceable(path, _OTHER_PLACES)
    _refuse_if_insecure(path)
    return True


def is_secure(path: Path) -> bool:
    """Tell whether a directory exists that only this user can write to or replace."""
    try:
        return existing_directory(path)
    except RunDirError:
        return False


def secure_prefix(path: Path) -> Path:
    """Open the directory for local copies and outputs, or create it.

    Its group may write in it, as with the umask 002.  The working directory and those
    above it are accepted as they are: who can replace them can replace the workflow.

    Parameters
    ----------
    path : Path
        The local storage prefix.

    Returns
    -------
    Path
        The same.

    Raises
    ------
    RunDirError
        If it belongs to another user, is a symbolic link, other users can write in it or
        replace it, or it cannot be created.
    """
    _refuse_if_replaceable(path, _OTHER_PREFIX, Path.cwd())
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError:
        pass
    except OSError as error:
        raise RunDirError(f"{path} cannot be made: {error.strerror}; {_OTHER_PREFIX}.") from error
    # Another user may have created a directory above it since.
    _refuse_if_replaceable(path, _OTHER_PREFIX, Path.cwd())
    if not is_ours(path):
        raise RunDirError(f"{path} is not a directory of yours; remove it, or {_OTHER_PREFIX}.")
    if path.lstat().st_mode & stat.S_IWOTH:
        raise RunDirError(
            f"{path} can be written by others, so they could replace your results; "
            f"run `chmod o-w {path}`, or {_OTHER_PREFIX}."
        )
    return path


def is_ours(path: Path) -> bool:
    """Tell whether a path is a directory, and no link to one, that belongs to this user."""
    try:
        status = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()


@contextlib.contextmanager
def open_directory(path: Path | str, parent: int | None = None) -> Iterator[int]:
    """Open a directory, and no link to one.

    Parameters
    ----------
    path : Path or str
        A path, or a name in `parent`.
    parent : int, optional
        Descriptor of the directory that it is in.

    Yields
    ------
    int
        A descriptor, for the argument ``dir_fd`` of functions of `os`.
    """
    descriptor = os.open(path, _OPEN_DIRECTORY, dir_fd=parent)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def remove_tree(directory: Path, name: str) -> None:
    """Remove a tree from a directory; links in it are removed and not followed.

    Parameters
    ----------
    directory : Path
        A directory that only this user can write to.
    name : str
        What to remove from it.  What cannot be removed stays.

    Raises
    ------
    RunDirError
        If other users can write in `directory` or replace it.
    """
    if name in ("", ".", "..") or "/" in name:
        raise ValueError(name)
    if existing_directory(directory):
        with open_directory(directory) as descriptor:
            shutil.rmtree(name, ignore_errors=True, dir_fd=descriptor)


def _refuse_if_insecure(path: Path) -> None:
    if not is_ours(path):
        raise RunDirError(
            f"{path} is not a directory of yours; remove it, "
            "or set another mount_root or cache_dir."
        )
    if path.lstat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise RunDirError(
            f"{path} can be written by others, so they could replace your mounts; "
            f"run `chmod go-w {path}`, or set another mount_root or cache_dir."
        )


def _refuse_if_replaceable(path: Path, advice: str, trusted: Path | None = None) -> None:
    """Refuse a path if another user could rename it or a directory above it.

    Parameters
    ----------
    path : Path
        May not exist yet.
    advice : str
        What to do, for the message.
    trusted : Path, optional
        This directory and those above it may be replaced.
    """
    accepted = {trusted, *trusted.parents} if trusted else set()
    entries = list(_entries_on_the_way(path))
    last = entries[-1]
    for entry in entries:
        if entry in accepted:
            continue
        with contextlib.suppress(OSError):
            mode = entry.parent.stat().st_mode
            if not mode & stat.S_IWOTH:
                continue
            if not mode & stat.S_ISVTX:
                if entry.parent in accepted:
                    continue
                weak = entry.parent
            elif entry.lstat().st_uid in (0, os.geteuid()) or entry == last:
                # In a sticky directory, an entry can be renamed by its owner only; the owner
                # of the path itself is checked when it is opened.
                continue
            else:
                weak = entry
            raise RunDirError(
                f"Others could replace {path}, because {weak} belongs to them or can be written "
                f"by them; {advice}."
            )


def _entries_on_the_way(path: Path) -> Iterator[Path]:
    """Walk to a path, and yield each directory entry on the way, links included.

    The directory of each entry has no link in its own path.  The last entry is not followed.
    """
    directory = Path("/")
    names = list(reversed(path.absolute().parts[1:]))
    links = 0
    while names:
        name = names.pop()
        if name == "..":
            directory = directory.parent
            continue
        entry = directory / name
        yield entry
        target = _link_target(entry) if names and links < _MOST_LINKS else None
        if target is None:
            directory = entry
            continue
        links += 1
        if target.is_absolute():
            directory = Path("/")
        names += [part for part in reversed(target.parts) if part != "/"]


def _link_target(entry: Path) -> Path | None:
    """Read a link; None for anything else, and for what cannot be read."""
    try:
        return entry.readlink()
    except OSError:
        return None
