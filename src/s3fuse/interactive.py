"""Mounts for notebooks and scripts, without Snakemake."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from s3fuse.mount.mounts import NO_LINKS, Mounts
from s3fuse.mount.options import MountOptions
from s3fuse.mount.sweep import sweep
from s3fuse.s3.connection import Connection
from s3fuse.s3.store import Store
from s3fuse.urls import S3Url

#: Seconds to wait for files that are still open at the end; most are open in this process.
UNMOUNT_TIMEOUT = 10.0


@contextmanager
def mounted(
    url: str,
    *,
    read_write: bool = False,
    connection: Connection | None = None,
    unmount_timeout: float = UNMOUNT_TIMEOUT,
) -> Iterator[Path]:
    """Have a bucket, or a folder of it, as a directory while a ``with`` block lasts.

    Whoever mounts the same bucket for the same working directory at the same
    time, here or in another process, shares the mount; the last to leave
    unmounts it, also after an exception.  What a killed process leaves, the
    next one takes down.

    Parameters
    ----------
    url : str
        ``s3://bucket`` or ``s3://bucket/folder/``.
    read_write : bool
        Let programs write through the mount.  When the block ends, all that was
        written is in the bucket, or an exception says what is not.
    connection : Connection, optional
        Where the store is and who asks; by default what the environment says:
        the variables of the plugin, then those and the files of AWS.
    unmount_timeout : float
        Seconds to wait at the end for files that are still open.

    Yields
    ------
    pathlib.Path
        The directory.

    Raises
    ------
    QueryError
        If the URL names neither a bucket nor a folder.
    EndpointError, CredentialsError, AccessDenied, BucketNotFound
        Whichever keeps the bucket from answering.
    MountUnavailable, MountError
        If nothing can be mounted on this machine, or the mount did not come up.
    MountBusy
        If a file of a mount that may be written through is still open at the end.
    NotUploaded
        If something that was written is not in the bucket; it is kept on this node.

    Examples
    --------
    >>> import iris, s3fuse
    >>> with s3fuse.mounted("s3://my-bucket/tas/") as folder:
    ...     cubes = iris.load(folder / "*.nc")
    ...     mean = cubes[0].collapsed("time", iris.analysis.MEAN)
    ...     mean.data  # lazy data must be had before the block ends
    """
    parsed = S3Url.parse_folder(url)
    connection = connection or Connection.from_environment()
    mounts = Mounts(NO_LINKS, unmount_timeout=unmount_timeout)
    sweep(mounts.root, mounts.cache_dir)
    Store(connection).check(parsed.bucket)
    with mounts.shared(parsed.bucket, connection, MountOptions(read_write)) as mount:
        yield mount.point / parsed.key
