"""Symbolic links into mounts: made in one step, moved, and removed with their mount."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path

from s3fuse.node.directories import is_ours, open_directory


def make_link(target: Path, path: Path, mtime: float | None = None) -> None:
    """Make a link, or replace one, in one step.

    Parameters
    ----------
    target : Path
        What it points to.
    path : Path
        Where it is.
    mtime : float, optional
        Its time stamp, in seconds since the epoch.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".link-", dir=path.parent) as temporary:
        link = Path(temporary, "link")
        link.symlink_to(target)
        if mtime is not None:
            os.utime(link, (mtime, mtime), follow_symlinks=False)
        link.replace(path)


def links_into(places: Collection[Path], below: Path) -> Iterator[tuple[Path, Path]]:
    """Find the links into any of some places, without a look at what they lead to.

    That may be in a mount, whose gateway asks this and would wait for itself.

    Yields
    ------
    Path, Path
        The link, and where it leads.
    """
    folders = [str(below)]
    while folders:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            with os.scandir(folders.pop()) as entries:
                found = list(entries)
            folders += [each.path for each in found if each.is_dir(follow_symlinks=False)]
            for path in (Path(each.path) for each in found if each.is_symlink()):
                target = _target(path)
                if target and any(map(target.is_relative_to, places)):
                    yield path, target


def _target(path: Path) -> Path | None:
    """Read a link; None if it has gone."""
    with contextlib.suppress(OSError):
        return path.readlink()
    return None


def remove_links(places: Collection[Path], below: Path) -> None:
    """Remove the links into places that are about to go, and follow none of them.

    Parameters
    ----------
    places : collection of Path
        Where the links lead.
    below : Path
        The directory to look in; ignored if it does not belong to this user.
    """
    if is_ours(below):
        with contextlib.suppress(FileNotFoundError), open_directory(below) as descriptor:
            _remove_links(places, descriptor)


def _remove_links(places: Collection[Path], directory: int) -> None:
    with os.scandir(directory) as entries:
        found = list(entries)
    for entry in found:
        # What others remove at this moment is no loss.
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            if entry.is_symlink():
                target = Path(os.readlink(entry.name, dir_fd=directory))
                if any(map(target.is_relative_to, places)):
                    os.unlink(entry.name, dir_fd=directory)
            elif entry.is_dir(follow_symlinks=False):
                with (
                    contextlib.suppress(PermissionError),
                    open_directory(entry.name, directory) as inner,
                ):
                    _remove_links(places, inner)


def move_links(old: Path, new: Path, below: Path) -> None:
    """Let the links into one place point to the same in another."""
    for path, target in list(links_into([old], below)):
        with contextlib.suppress(FileNotFoundError):
            make_link(new / target.relative_to(old), path, path.lstat().st_mtime)
