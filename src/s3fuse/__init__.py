"""S3 buckets as files on this node: mounted or copied on demand, published verified.

The library behind the Snakemake storage plugin of the same name.  It knows
no Snakemake.  Two planes are kept apart: what is in a bucket is asked through
the S3 API (`s3fuse.s3.store`); bytes come through read-only mounts
(`s3fuse.mount.mounts`) or copies, and go back by verified uploads
(`s3fuse.publish.upload`).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from s3fuse.errors import S3FuseError
    from s3fuse.interactive import mounted
    from s3fuse.mount.mounts import Mounts
    from s3fuse.s3.connection import Connection
    from s3fuse.s3.store import Store
    from s3fuse.urls import S3Url

__all__ = ["Connection", "Mounts", "S3FuseError", "S3Url", "Store", "__version__", "mounted"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import what is asked for, so that who uses one module does not wait for all of them."""
    match name:
        case "Connection":
            module = "s3fuse.s3.connection"
        case "Mounts":
            module = "s3fuse.mount.mounts"
        case "S3FuseError":
            module = "s3fuse.errors"
        case "S3Url":
            module = "s3fuse.urls"
        case "Store":
            module = "s3fuse.s3.store"
        case "mounted":
            module = "s3fuse.interactive"
        case _:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(module), name)
