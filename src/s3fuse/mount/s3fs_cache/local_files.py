"""Objects that a mount's cache has from end to end, and that are read as local files.

Each read through a mount takes the kernel to s3fs and back, which costs
several times what reading a local file does.  Once s3fs has fetched all of an
object, its file in the cache is that object; it is taken out of there, so that
s3fs can neither change nor drop it, and belongs to the jobs.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from s3fuse.mount.links import links_into, make_link
from s3fuse.mount.record import Mount
from s3fuse.mount.s3fs_cache.page_list import content_file
from s3fuse.urls import S3Url, path_below


def let_through(mount: Mount, key: str, size: int, link: Path) -> bool:
    """Turn a link into a mount to the object itself, if all of it is in the cache.

    Parameters
    ----------
    mount : Mount
        The mount.
    key : str
        The object, which has been read to its end.
    size : int
        Its bytes.
    link : Path
        The link; left alone if it points elsewhere by now.

    Returns
    -------
    bool
        Whether the object can be had without the mount from now on.
    """
    content = content_file(mount, key)
    if not _tells_holes(mount.cache) or _first_hole(content) != size:
        return False
    whole = _file(mount, key)
    whole.parent.mkdir(parents=True, exist_ok=True)
    content.replace(whole)
    if link.is_symlink() and link.readlink() == mount.path_of(key):
        make_link(whole, link, link.lstat().st_mtime)
    return True


def has(mount: Mount, key: str) -> bool:
    """Whether an object can be had without the mount."""
    return _file(mount, key).is_file()


def place(mount: Mount, key: str) -> Path:
    """Return where an object of a mount, a folder or the whole bucket is read best."""
    if not key:
        return mount.point
    if key.endswith("/"):
        return mount.path_of(key.removesuffix("/"))
    return _file(mount, key) if has(mount, key) else mount.path_of(key)


def has_room(mount: Mount, size: int, bound: int | None) -> bool:
    """Whether half of the cache can hold one more object; the other half is s3fs's.

    Parameters
    ----------
    mount : Mount
        The mount.
    size : int
        Bytes of the object.
    bound : int, optional
        Bytes of the cache; what the disk has free if left out.
    """
    if _room(mount, bound) >= size:
        return True
    # What no link leads to any more has been read by all who wanted it.
    wanted = {path.readlink() for path in links_into([mount.whole], mount.links)}
    for path in list(_files(mount)):
        if path not in wanted:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
    return _room(mount, bound) >= size


def _file(mount: Mount, key: str) -> Path:
    """Return where an object lies that has been fetched from end to end."""
    return path_below(mount.whole, S3Url(mount.bucket), key)


def _room(mount: Mount, bound: int | None) -> int:
    taken = sum(path.stat().st_size for path in _files(mount))
    if bound is None:
        bound = shutil.disk_usage(mount.cache).free + taken
    return bound // 2 - taken


def _files(mount: Mount) -> Iterator[Path]:
    return (path for path in mount.whole.rglob("*") if path.is_file())


def _tells_holes(directory: Path) -> bool:
    """Whether the file system tells which parts of a file have been written."""
    with tempfile.NamedTemporaryFile(dir=directory) as file:
        os.truncate(file.fileno(), 2**20)
        return _first_hole(Path(file.name)) == 0


def _first_hole(path: Path) -> int:
    with path.open("rb") as file:
        return os.lseek(file.fileno(), 0, os.SEEK_HOLE)
