"""What programs have written through a mount and s3fs could not upload.

s3fs uploads a file when it is closed.  Where that fails, the program that
closes it is told, if it listens, and the file stays in the cache, marked in
the list of its pages (`s3fuse.mount.s3fs_cache.page_list`).  Nobody else looks at that mark.  The
list is written at the close: of a file that was open when s3fs died, there is
only the second link that s3fs gives to the content of open files.
"""

from __future__ import annotations

import contextlib
import logging
import shlex
from collections.abc import Iterator
from pathlib import Path

from s3fuse.errors import NotUploaded, S3FuseError
from s3fuse.mount.record import Mount
from s3fuse.mount.s3fs_cache.page_list import (
    Page,
    content_file,
    contents,
    list_file,
    lists,
    pages,
)
from s3fuse.publish.journal import Journal
from s3fuse.publish.publisher import publish_file
from s3fuse.s3.connection import Connection
from s3fuse.s3.etags import holds
from s3fuse.s3.store import Store
from s3fuse.urls import S3Url

log = logging.getLogger("s3fuse")

#: Files that a message names.
NAMED = 5


def unsent(mount: Mount) -> list[str]:
    """The keys of the files that are in the cache of a mount and perhaps not in its bucket."""
    if not mount.read_write:
        return []
    return sorted({*_marked(mount), *_cut_off(mount)})


def _marked(mount: Mount) -> Iterator[str]:
    root = lists(mount)
    for path in root.rglob("*"):
        # One that goes meanwhile is of a file that went.
        with contextlib.suppress(FileNotFoundError, IsADirectoryError):
            if any(page.is_modified for page in _pages(path)):
                yield path.relative_to(root).as_posix()


def _cut_off(mount: Mount) -> Iterator[str]:
    """Files that were open when s3fs died."""
    if mount.daemon is None or mount.daemon.handle is not None:
        return
    root = contents(mount)
    for path in root.rglob("*"):
        if path.is_file() and _was_open(path):
            yield path.relative_to(root).as_posix()


def _was_open(content: Path) -> bool:
    """Whether s3fs, which has ended, had a file open."""
    return content.stat().st_nlink > 1


def _pages(path: Path) -> list[Page]:
    """The list of a file; of one that cannot be read, that all of the file is modified."""
    try:
        return pages(path)
    except (ValueError, IndexError):
        return [Page(0, 1, False, True)]


def send(mount: Mount, connection: Connection | None) -> None:
    """Upload what s3fs could not, verified; what is uploaded is marked no more.

    Parameters
    ----------
    mount : Mount
        A mount whose daemon has ended.
    connection : Connection, optional
        How to reach its bucket.

    Raises
    ------
    NotUploaded
        If the store cannot be reached, or does not take them; they are kept.
    """
    if connection is None or not mount.identity.startswith(connection.identity):
        raise not_uploaded(mount, "Whoever unmounts needs the endpoint and keys of who mounted.")
    store = Store(connection)
    for key in unsent(mount):
        try:
            _send(mount, store, S3Url(mount.bucket, key))
        except S3FuseError as error:
            raise not_uploaded(mount, str(error)) from error
        except OSError as error:
            raise not_uploaded(mount, f"{key} cannot be read: {error.strerror}.") from error


def _send(mount: Mount, store: Store, url: S3Url) -> None:
    content, listing = content_file(mount, url.key), list_file(mount, url.key)
    there = store.head(url)
    if there is None or not holds(there, content):
        if _was_open(content):
            raise S3FuseError(f"s3fs died while {url.key} was open, so it may be incomplete.")
        found = _pages(listing)
        # A hole that a program has left is modified, and is not there; one at the end
        # may be what s3fs adds to a file that is shorter than its object.
        if not all(p.is_there or p.is_modified for p in found) or not found[-1].is_there:
            raise S3FuseError(f"Parts of {url.key} were never read from the bucket.")
        if there and there.mtime > content.stat().st_mtime:
            raise S3FuseError(f"{url} was replaced since {url.key} was written here.")
        log.info(f"Uploading {url.key} to s3://{mount.bucket}.")
        publish_file(store, Journal(mount.directory.parent.parent), content, url, there)
    listing.unlink(missing_ok=True)
    content.unlink()


def not_uploaded(mount: Mount, reason: str) -> NotUploaded:
    """Say what is not in the bucket yet, and where it is."""
    keys = unsent(mount)
    names = ", ".join(keys[:NAMED])
    if len(keys) > NAMED:
        names += f" and {len(keys) - NAMED} more"
    return NotUploaded(
        f"Not uploaded to s3://{mount.bucket} yet: {names}. {reason} They are kept in "
        f"{contents(mount)}; to upload them, run: "
        f"s3fuse unmount {shlex.quote(str(mount.point))}"
    )
