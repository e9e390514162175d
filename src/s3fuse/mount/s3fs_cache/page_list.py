"""What s3fs has of an object: a sparse file of its bytes, and the list of the pages that are there.

s3fs reads the list when it opens an object, keeps it in memory, and writes it
when the last program has closed the object; each time under a lock.  Format:
``PageList::Serialize`` of its source, the same from 1.86 to 1.97.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from s3fuse.mount.record import Mount
from s3fuse.urls import S3Url, path_below

#: First byte, and the one behind the last.
Span = tuple[int, int]


class Page(NamedTuple):
    """A part of a file.

    Attributes
    ----------
    start, length : int
        Bytes.
    is_there : bool
        Whether the cache has it.
    is_modified : bool
        Whether the bucket does not have it yet.
    """

    start: int
    length: int
    is_there: bool
    is_modified: bool


def contents(mount: Mount) -> Path:
    """Return the directory below which s3fs keeps the bytes of objects."""
    return mount.cache / mount.bucket


def lists(mount: Mount) -> Path:
    """Return the directory below which s3fs keeps the page lists of objects."""
    return mount.cache / f".{mount.bucket}.stat"


def content_file(mount: Mount, key: str) -> Path:
    """Return where the bytes of an object are kept.

    Raises
    ------
    QueryError
        If the key cannot be a path in the cache.
    """
    return path_below(contents(mount), S3Url(mount.bucket), key)


def list_file(mount: Mount, key: str) -> Path:
    """Return where the page list of an object is kept.

    Raises
    ------
    QueryError
        If the key cannot be a path in the cache.
    """
    return path_below(lists(mount), S3Url(mount.bucket), key)


def pages(path: Path) -> list[Page]:
    """Read the list of a file."""
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        return _parsed(file.read())


def _parsed(text: str) -> list[Page]:
    rows = [[int(number) for number in line.split(":")] for line in text.splitlines()[1:]]
    # Before 1.86 there was no mark of what is modified.
    return [Page(row[0], row[1], bool(row[2]), any(row[3:])) for row in rows]


def listed(inode: int, size: int, spans: Iterable[Span]) -> str:
    """Write down which parts of a file of `size` bytes are there."""
    lines, position = [f"{inode}:{size}"], 0
    for start, end in joined(spans):
        if position < start:
            lines.append(f"{position}:{start - position}:0:0")
        lines.append(f"{start}:{end - start}:1:0")
        position = end
    if position < size:
        lines.append(f"{position}:{size - position}:0:0")
    return "\n".join(lines)


def moved(path: Path) -> int:
    """How much of an object has come to this node for those who read it at `path`.

    Parameters
    ----------
    path : Path
        What a job was given: a link into a mount, or a copy.

    Returns
    -------
    int
        Bytes.
    """
    if path.is_symlink():
        target = path.readlink()
        for directory in target.parents:
            if mount := Mount.load(directory):
                content = content_file(mount, target.relative_to(mount.point).as_posix())
                status = content.stat()
                # What was not read is a hole.
                return min(status.st_size, status.st_blocks * 512)
    return path.stat().st_size


def joined(spans: Iterable[Span]) -> list[Span]:
    """Sort parts, and make one of those that touch or overlap."""
    result: list[Span] = []
    for start, end in sorted(spans):
        if result and start <= result[-1][1]:
            result[-1] = (result[-1][0], max(end, result[-1][1]))
        else:
            result.append((start, end))
    return result
