"""Objects and bytes that a process has read and published."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import humanfriendly

from s3fuse.s3.objects import ObjectInfo
from s3fuse.urls import S3Url

#: Names the folder in which each process of a run saves its counts.
TRAFFIC_VARIABLE = "S3FUSE_TRAFFIC"


@dataclass
class Counts:
    """What was done.

    Attributes
    ----------
    objects_read, bytes_available : int
        Objects that jobs were given, and their sizes.
    bytes_moved : int
        What came through the network of them.
    objects_published, bytes_published : int
        Outputs.
    """

    objects_read: int = 0
    bytes_available: int = 0
    bytes_moved: int = 0
    objects_published: int = 0
    bytes_published: int = 0

    def __add__(self, other: Counts) -> Counts:
        """Sum up two processes."""
        names = [each.name for each in fields(self)]
        return Counts(**{name: getattr(self, name) + getattr(other, name) for name in names})

    def __str__(self) -> str:
        """One line for people."""
        moved, available, published = (
            humanfriendly.format_size(size)
            for size in (self.bytes_moved, self.bytes_available, self.bytes_published)
        )
        read = humanfriendly.pluralize(self.objects_read, "object")
        return (
            f"{read} read, {moved} moved of {available}; "
            f"{self.objects_published} published, {published}"
        )


class Traffic:
    """The counts of a session.  Safe to share by threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._read: dict[S3Url, int] = {}
        self._counts = Counts()

    def adds_read(self, bucket: str, infos: Iterable[ObjectInfo], *, copied: bool) -> None:
        """Count objects that a job is given; each once, however many jobs read it."""
        with self._lock:
            for info in infos:
                url = S3Url(bucket, info.key)
                if url not in self._read or copied:
                    self._counts.bytes_moved += info.size if copied else 0
                self._read[url] = info.size

    def adds_moved(self, size: int) -> None:
        """Count bytes that a mount has read."""
        with self._lock:
            self._counts.bytes_moved += size

    def adds_published(self, sizes: Iterable[int]) -> None:
        """Count outputs."""
        with self._lock:
            for size in sizes:
                self._counts.objects_published += 1
                self._counts.bytes_published += size

    @property
    def counts(self) -> Counts:
        """All of it."""
        with self._lock:
            read = Counts(len(self._read), sum(self._read.values()))
            return self._counts + read

    def save(self) -> None:
        """Write the counts to the folder that `TRAFFIC_VARIABLE` names, if any."""
        folder, counts = os.environ.get(TRAFFIC_VARIABLE), self.counts
        if folder and counts != Counts():
            path = Path(folder, f"{socket.gethostname()}-{os.getpid()}-{id(self)}.json")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(asdict(counts)))


def total(folder: Path) -> Counts:
    """Sum up what the processes of a run have saved."""
    return sum((Counts(**json.loads(path.read_text())) for path in folder.glob("*.json")), Counts())
