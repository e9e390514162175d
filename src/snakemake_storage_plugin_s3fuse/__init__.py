"""The Snakemake storage plugin ``s3fuse``: what Snakemake looks for, by name."""

from snakemake_storage_plugin_s3fuse.provider import StorageProvider
from snakemake_storage_plugin_s3fuse.settings import StorageProviderSettings
from snakemake_storage_plugin_s3fuse.storage_object import StorageObject

__all__ = ["StorageObject", "StorageProvider", "StorageProviderSettings"]
