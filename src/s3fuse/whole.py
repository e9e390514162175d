"""Objects that lie in a mount's cache from end to end, and can be read there as local files.

Each read through a mount takes the kernel to s3fs and back, which costs
several times what reading a local file does.  Once s3fs has fetched all of an
object, its file in the cache is that object.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from s3fuse.links import make_link
from s3fuse.record import Mount


def let_through(mount: Mount, key: str, size: int, link: Path) -> None:
    """Turn a link into a mount to the object in its cache, if all of it is there.

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
    """
    content = mount.cache / mount.bucket / key
    if not _tells_holes(mount.cache) or _first_hole(content) != size:
        return
    whole = mount.whole / key
    whole.parent.mkdir(parents=True, exist_ok=True)
    # A name of our own: s3fs may drop its one when it wants space.
    with contextlib.suppress(FileExistsError):
        os.link(content, whole)
    if link.is_symlink() and link.readlink() == mount.point / key:
        make_link(whole, link, link.lstat().st_mtime)


def place(mount: Mount, key: str) -> Path:
    """Where an object of a mount is read best."""
    whole = mount.whole / key
    return whole if key and whole.is_file() else mount.point / key


def _tells_holes(directory: Path) -> bool:
    """Whether the file system tells which parts of a file have been written."""
    with tempfile.NamedTemporaryFile(dir=directory) as file:
        os.truncate(file.fileno(), 2**20)
        return _first_hole(Path(file.name)) == 0


def _first_hole(path: Path) -> int:
    with path.open("rb") as file:
        return os.lseek(file.fileno(), 0, os.SEEK_HOLE)
