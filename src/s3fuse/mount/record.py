"""The record of a mount, which outlives the process that made it.

Every mount has a directory of its own below the run-time directory::

    <mount_root>/<scope>/lock
    <mount_root>/<scope>/<bucket>-<random>/mount        the mount point
                                           record.json  what it is, and whose
                                           s3fs.log     what the daemon said
                                           gateway.log  what its gateway said
                                           control      where that takes orders
                                           catalogue.jsonl  what it shows
                                           failures.jsonl  what it could not
                                           users        locked by those who share it
    <cache_dir>/<scope>/<bucket>-<random>/             what the daemon has read or not yet sent
                                          record.json  the same, where a restart leaves it
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from s3fuse.errors import QueryError
from s3fuse.gateway.catalogue import CATALOGUE
from s3fuse.gateway.failures import FAILURES
from s3fuse.gateway.options import CONTROL, LOG
from s3fuse.mount.leases import is_leased
from s3fuse.node.directories import existing_directory, is_ours, is_secure
from s3fuse.node.mount_table import mount_points
from s3fuse.node.processes import Node, Process
from s3fuse.urls import SCHEME, S3Url, path_below

RECORD = "record.json"


@dataclass(frozen=True)
class Mount:
    """One mounted bucket.

    Attributes
    ----------
    bucket : str
        What is mounted.
    directory : Path
        Where mount point, record and log lie.
    cache : Path
        Where the daemon keeps what it has read.
    identity : str
        Digest of the connection and options.
    read_write : bool
        Whether programs may write through it.
    links : Path
        Symbolic links into the mount lie below this directory.
    workdir : Path
        The working directory for which it was made.
    node : Node
        Where it is.
    owner : Process, optional
        Whose it is; a mount without an owner stays until it is unmounted.
    shared : bool
        Whether it belongs to all who hold its lock of users, and goes with the last.
    daemon : Process, optional
        The s3fs process.
    keeper : Process, optional
        The process that keeps it and its gateway; see `s3fuse.gateway.keeper`.
    session : str
        The session that made it; see `s3fuse.mount.mounts.Mounts`.
    """

    bucket: str
    directory: Path
    cache: Path
    identity: str
    read_write: bool
    links: Path
    workdir: Path
    node: Node
    owner: Process | None
    shared: bool = False
    daemon: Process | None = None
    keeper: Process | None = None
    session: str = ""

    @property
    def point(self) -> Path:
        """The mount point."""
        return self.directory / "mount"

    def path_of(self, key: str) -> Path:
        """Return the path of an object, or of a folder without its slash, in the mount.

        Raises
        ------
        QueryError
            If the key cannot be a path below the mount point.
        """
        return path_below(self.point, S3Url(self.bucket), key)

    @property
    def places(self) -> tuple[Path, ...]:
        """Where links of jobs may lead."""
        return self.point, self.cache

    @property
    def log_file(self) -> Path:
        """What the daemon said."""
        return self.directory / "s3fs.log"

    @property
    def gateway_log(self) -> Path:
        """What its gateway said."""
        return self.directory / LOG

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that may be in its directory."""
        names = (RECORD, f"{RECORD}.new", CONTROL, CATALOGUE, FAILURES)
        found = (self.directory / name for name in names)
        return self.log_file, self.gateway_log, self.lease_file, *found

    @property
    def lease_file(self) -> Path:
        """What those who share it hold the lock of; see `s3fuse.mount.leases`."""
        return self.directory / "users"

    @property
    def is_mounted(self) -> bool:
        """Whether the mount point is in the kernel's table of mounts, dead or alive."""
        # Not psutil.disk_partitions, nor os.path.ismount: they stat the mount
        # point, which hangs where the daemon does.
        return self.point in mount_points()

    @property
    def is_healthy(self) -> bool:
        """Whether it is mounted and its processes live."""
        processes = [each for each in (self.daemon, self.keeper) if each]
        is_alive = bool(processes) and all(each.handle for each in processes)
        return is_alive and self.is_mounted

    @property
    def is_abandoned(self) -> bool:
        """Whether its owner, its users, or without either its daemon, are known to have ended."""
        if self.shared and not self.node.is_elsewhere:
            return not is_leased(self.lease_file)
        process = self.owner or self.daemon
        if process is None:
            return not self.node.is_elsewhere
        return self.node.has_lost(process)

    def save(self) -> None:
        """Write the record, in one step, and a second one that outlives a restart."""
        text = json.dumps(asdict(self), default=str, indent=1)
        _write(self.directory, text)
        # A disk that is full keeps nobody from reading.
        with contextlib.suppress(OSError):
            _write(self.cache, text)

    @classmethod
    def load(cls, directory: Path) -> Mount | None:
        """Read the record of a mount.

        The record is read only where no other user can write, and is believed only where
        it names the directory that it was found in.  The places that it names have the
        layout that the top of this module shows, so that nothing else is ever removed
        as the cache of a mount.

        Parameters
        ----------
        directory : Path
            The directory of a mount, or its cache.

        Returns
        -------
        Mount or None
            None if there is no record, or none that can be believed.
        """
        try:
            record = directory / RECORD
            # The answer for most directories, at the cost of one look.
            record.lstat()
            if not all(map(is_secure, (directory.parent.parent, directory.parent, directory))):
                return None
            values: dict[str, Any] = json.loads(_read(record))
            values["node"] = Node(**values["node"])
            # Of before there was one.
            values.setdefault("workdir", "/")
            for name in ("owner", "daemon", "keeper"):
                values[name] = Process(**values[name]) if values.get(name) else None
            for name in ("keys", "credentials_digest"):
                values.pop(name, None)
            for name in ("directory", "cache", "links", "workdir"):
                values[name] = Path(values[name])
            mount = cls(**values)
            return mount if mount._is_recorded_in(directory) else None
        except (OSError, ValueError, TypeError, KeyError, QueryError):
            return None

    def _is_recorded_in(self, directory: Path) -> bool:
        """Whether the places of a record are those that its own place allows."""
        names = directory.parts[-2:]
        places = self.directory, self.cache
        return (
            S3Url.parse(f"{SCHEME}{self.bucket}").bucket == self.bucket
            and all(path.is_absolute() for path in (*places, self.links))
            and all(path.parts[-2:] == names and len(path.parts) > 3 for path in places)
            and ".." not in names
            and any(_is_same(directory, path) for path in places)
        )


def _read(path: Path) -> str:
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW)) as file:
        return file.read()


def _is_same(one: Path, other: Path) -> bool:
    with contextlib.suppress(OSError):
        return one == other or os.path.samefile(one, other)
    return False


def _write(directory: Path, text: str) -> None:
    temporary = directory / f"{RECORD}.new"
    temporary.write_text(text)
    temporary.replace(directory / RECORD)


def mounts_below(directory: Path) -> Iterator[Mount]:
    """Find the recorded mounts of a scope, as far as they are on this node.

    Raises
    ------
    RunDirError
        If the directory of the scope, or the one above it, is not this user's alone.
    """
    if not (existing_directory(directory.parent) and existing_directory(directory)):
        return
    for record in sorted(directory.glob(f"*/{RECORD}")):
        mount = Mount.load(record.parent)
        if mount and not mount.node.is_elsewhere and _is_same(mount.directory, record.parent):
            yield mount


def mounts_of_node(root: Path) -> Iterator[Mount]:
    """Find the recorded mounts of all scopes, as far as they are on this node.

    Raises
    ------
    RunDirError
        If the run-time directory is not this user's alone.
    """
    if existing_directory(root):
        for scope in sorted(filter(is_ours, root.iterdir())):
            yield from mounts_below(scope)
