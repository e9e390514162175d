"""Symbolic links into mounts: made in one step, moved, and removed with their mount."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path


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
    temporary = Path(tempfile.mkdtemp(prefix=".link-", dir=path.parent))
    try:
        link = temporary / "link"
        link.symlink_to(target)
        if mtime is not None:
            os.utime(link, (mtime, mtime), follow_symlinks=False)
        link.replace(path)
    finally:
        temporary.rmdir()


def links_into(places: Collection[Path], below: Path) -> Iterator[Path]:
    """Find the links into any of some places, without following them."""
    for directory, folders, files in os.walk(below):
        for name in (*folders, *files):
            path = Path(directory, name)
            if path.is_symlink() and any(map(path.readlink().is_relative_to, places)):
                yield path


def remove_links(places: Collection[Path], below: Path) -> None:
    """Remove the links into places that are about to go."""
    for path in list(links_into(places, below)):
        with contextlib.suppress(FileNotFoundError):
            path.unlink()


def move_links(old: Path, new: Path, below: Path) -> None:
    """Let the links into one place point to the same in another."""
    for path in list(links_into([old], below)):
        with contextlib.suppress(FileNotFoundError):
            inner = path.readlink().relative_to(old)
            make_link(new / inner, path, path.lstat().st_mtime)
