"""The Snakemake storage plugin ``s3fuse``: what Snakemake looks for, by name."""

from typing import Any

from snakemake_storage_plugin_s3fuse.provider import StorageProvider
from snakemake_storage_plugin_s3fuse.settings import StorageProviderSettings
from snakemake_storage_plugin_s3fuse.storage_object import StorageObject
from snakemake_storage_plugin_s3fuse.workflow_state import provider_of

__all__ = ["StorageObject", "StorageProvider", "StorageProviderSettings", "unmount"]


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
