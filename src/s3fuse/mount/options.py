"""How a bucket is mounted."""

from __future__ import annotations

from dataclasses import dataclass

from s3fuse.errors import SettingsError

#: Bytes of cache that a mount needs: what is read at once, and the parts of an upload.
LEAST_CACHE = 16 * 2**20


@dataclass(frozen=True)
class MountOptions:
    """How a bucket is mounted.

    Attributes
    ----------
    read_write : bool
        Let programs write through the mount.
    cache_bytes : int, optional
        Bound of the cache on disk; as much as the disk has free if left out.
    extra : str
        More options for s3fs, separated by commas.

    Raises
    ------
    SettingsError
        If the cache has no room for what is read at once.
    """

    read_write: bool = False
    cache_bytes: int | None = None
    extra: str = ""

    def __post_init__(self) -> None:
        if self.cache_bytes is not None and self.cache_bytes < LEAST_CACHE:
            raise SettingsError(
                f"cache_size is {self.cache_bytes / 2**20:.4g} MiB, and must be at least "
                f"{LEAST_CACHE // 2**20} MiB."
            )

    @property
    def node_bytes(self) -> int | None:
        """Bound of the cache of the node; the other half is for files that are open."""
        return None if self.cache_bytes is None else self.cache_bytes // 2

    @property
    def identity(self) -> str:
        """What tells two ways of mounting apart."""
        return f"{self.read_write}-{self.extra}"
