"""What programs have written through a mount and s3fs could not upload.

s3fs uploads a file when it is closed.  Where that fails, the program that
closes it is told, if it listens, and the file stays in the cache, marked in
the list of its pages (`s3fuse.pages`).  Nobody else looks at that mark.
"""

from __future__ import annotations

import logging

from s3fuse.connection import Connection
from s3fuse.errors import NotUploaded, S3FuseError
from s3fuse.pages import content_file, list_file, pages
from s3fuse.record import Mount
from s3fuse.store import Store
from s3fuse.transfer import publish
from s3fuse.urls import S3Url

log = logging.getLogger("s3fuse")

#: Files that a message names.
NAMED = 5


def unsent(mount: Mount) -> list[str]:
    """The keys of the files that are in the cache of a mount and not in its bucket."""
    if not mount.read_write:
        return []
    lists = list_file(mount, "")
    return sorted(
        path.relative_to(lists).as_posix()
        for path in lists.rglob("*")
        if path.is_file() and any(page.is_modified for page in pages(path))
    )


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
        content, listing = content_file(mount, key), list_file(mount, key)
        try:
            if not all(page.is_there for page in pages(listing)):
                raise S3FuseError(f"Parts of {key} were never read from the bucket.")
            log.info(f"Uploading {key} to s3://{mount.bucket}.")
            publish(store, content, S3Url(mount.bucket, key))
        except S3FuseError as error:
            raise not_uploaded(mount, str(error)) from error
        listing.unlink()


def not_uploaded(mount: Mount, reason: str = "Its mount is gone.") -> NotUploaded:
    """Say what is not in the bucket yet, and where it is."""
    keys = unsent(mount)
    names = ", ".join(keys[:NAMED])
    if len(keys) > NAMED:
        names += f" and {len(keys) - NAMED} more"
    return NotUploaded(
        f"Not uploaded to s3://{mount.bucket} yet: {names}. {reason} They are kept in "
        f"{content_file(mount, '')}; to upload them, run: s3fuse unmount {mount.point}"
    )
