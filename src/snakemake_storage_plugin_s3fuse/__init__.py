"""The Snakemake storage plugin ``s3fuse``: what Snakemake looks for, by name."""

from collections.abc import Sequence
from typing import Any

from s3fuse.archives import Entries
from snakemake_storage_plugin_s3fuse.provider import StorageProvider
from snakemake_storage_plugin_s3fuse.settings import StorageProviderSettings
from snakemake_storage_plugin_s3fuse.storage_object import StorageObject
from snakemake_storage_plugin_s3fuse.workflow_state import provider_of

__all__ = ["StorageObject", "StorageProvider", "StorageProviderSettings", "listed", "unmount"]


def unmount(storage: Any) -> None:
    """Unmount everything that this run has mounted, waiting for programs that still read.

    Parameters
    ----------
    storage
        ``storage.TAG`` of a Snakefile, where TAG is the tag of a ``storage`` block, or
        ``storage.s3fuse`` where the block has none.

    Raises
    ------
    StorageError
        If a read-write mount is still in use at the deadline.

    Examples
    --------
    In a Snakefile::

        from snakemake_storage_plugin_s3fuse import unmount

        onsuccess:
            unmount(storage.s3)

        onerror:
            unmount(storage.s3)
    """
    provider_of(storage).unmount()


def listed(storage: Any, folders: Sequence[str]) -> list[Entries]:
    """List folders of buckets, many at the same time; what it finds is known to planning.

    Parameters
    ----------
    storage
        As for `unmount`.
    folders : sequence of str
        URLs of folders or buckets, with a slash at the end.

    Returns
    -------
    list of Entries
        The names in each; none where there is no such folder.

    Raises
    ------
    StorageError
        If a bucket is not there or may not be listed.

    Examples
    --------
    In a Snakefile, all years of a model, whatever its folders are called::

        from s3fuse.archives import find
        from snakemake_storage_plugin_s3fuse import listed

        FILES = find(
            "s3://cmip6/{model}/{version}/tas_*.nc",
            lambda folders: listed(storage.s3, folders),
            {"model": ["UKESM1-0-LL"]},
        )
    """
    found: list[Entries] = provider_of(storage).listed(folders)
    return found
