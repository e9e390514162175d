"""How a bucket is mounted."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from s3fuse.errors import SettingsError


class Reading(enum.Enum):
    """How the files of a mount are read.

    The value is how s3fs reads ahead on each miss: so many pieces at once,
    each of so many MB, of which 5 is the least that it takes.
    """

    UNKNOWN = (3, 5)
    RANDOM = (1, 5)
    SEQUENTIAL = (10, 10)

    @property
    def pieces(self) -> int:
        """Pieces that are read at the same time."""
        return self.value[0]

    @property
    def piece_mb(self) -> int:
        """MB of a piece."""
        return self.value[1]

    @property
    def wording(self) -> str:
        """How a rule asks for it, for messages."""
        match self:
            case Reading.RANDOM:
                return "access.random()"
            case Reading.SEQUENTIAL:
                return "access.sequential()"
            case Reading.UNKNOWN:
                return "files of which no rule says how they are read"

    @property
    def ahead(self) -> int:
        """Bytes that are read on each miss."""
        return self.pieces * self.piece_mb * 2**20


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
    reading : Reading
        How files will be read.

    Raises
    ------
    SettingsError
        If the cache has no room for what s3fs reads at once; it does not start then.
    """

    read_write: bool = False
    cache_bytes: int | None = None
    extra: str = ""
    reading: Reading = Reading.UNKNOWN

    def __post_init__(self) -> None:
        if self.cache_bytes is not None and self.cache_bytes < self.least_cache:
            raise SettingsError(
                f"cache_size is {self.cache_bytes / 2**20:.4g} MiB, and must be at least "
                f"{self.least_cache // 2**20} MiB for {self.reading.wording}."
            )

    @property
    def least_cache(self) -> int:
        """Bytes of cache without which s3fs does not start."""
        return self.reading.ahead + 2**20

    @property
    def identity(self) -> str:
        """What tells two ways of mounting apart."""
        return f"{self.read_write}-{self.reading.name}-{self.extra}"
