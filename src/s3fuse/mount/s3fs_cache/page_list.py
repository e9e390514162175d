"""What s3fs has of an object: a sparse file of its bytes, and the list of the pages that are there.

s3fs reads the list when it opens an object, keeps it in memory, and writes it
when the last program has closed the object; each time under a lock.  Format:
``PageList::Serialize`` of its source, the same from 1.86 to 1.97.
"""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import NamedTuple

from s3fuse.mount.record import Mount
from s3fuse.urls import S3Url, path_below


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
