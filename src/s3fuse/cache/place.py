"""Where the cache of a node lies: on a disk of this machine, until it is started again."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from s3fuse.cache.entries import Entry, Gone, Usage, entries
from s3fuse.cache.room import NoRoom
from s3fuse.errors import RunDirError
from s3fuse.node.directories import existing_directory, remove_tree, secure_directory
from s3fuse.node.mount_table import file_system
from s3fuse.s3.objects import ObjectInfo, version_name

#: File systems that several machines share: their locks and their free space are not of one.
SHARED = frozenset(
    (
        *("9p", "afs", "beegfs", "ceph", "cifs", "fhgfs", "gpfs", "lustre", "nfs", "nfs4"),
        *("pvfs2", "smb3", "smbfs", "wekafs"),
        *("fuse.ceph", "fuse.glusterfs", "fuse.juicefs", "fuse.s3fs", "fuse.sshfs"),
    )
)

#: How the directory of the entries of a node begins, with the version of what is in it.
ENTRIES = "objects-1"
#: How often an entry is opened that others make or remove at the same moment.
_OPENINGS = 100


@dataclass(frozen=True)
class EntryPlace:
    """Where an entry is.

    Attributes
    ----------
    path : Path
        Its directory.
    size : int
        Bytes of the object.
    url : str
        The object, for people.
    """

    path: Path
    size: int
    url: str

    def open(self) -> Entry:
        """Open the entry, or make it.

        Raises
        ------
        NoRoom
            If others make and remove it all the time.
        OSError
            If the disk is full.
        """
        for _ in range(_OPENINGS):
            with contextlib.suppress(Gone):
                return Entry(self.path, self.size, self.url)
            time.sleep(0.001)
        raise NoRoom


def open_node_cache(cache_dir: Path) -> Path:
    """Return the directory of the entries of this node, and remove what an earlier boot has left.

    A file that was just written can be lost when a machine stops, and a mark of it not.

    Parameters
    ----------
    cache_dir : Path
        Where this user's caches are.

    Raises
    ------
    RunDirError
        If others can write there, or it is on a file system that several machines share.
    """
    secure_directory(cache_dir)
    kind = file_system(cache_dir)
    if kind in SHARED:
        raise RunDirError(
            f"{cache_dir} is on a file system that machines share ({kind}); set cache_dir to a "
            "directory on a disk of this node."
        )
    place = _place(cache_dir)
    for other in cache_dir.glob(f"{place.name.rpartition('-')[0]}-*"):
        if other != place:
            remove_tree(cache_dir, other.name)
    return secure_directory(place)


def entry_of(folder: Path, endpoint_url: str | None, bucket: str, info: ObjectInfo) -> EntryPlace:
    """Say where the entry of a version of an object is, or will be.

    Parameters
    ----------
    folder : Path
        The entries of this node.
    endpoint_url : str, optional
        The store; AWS if left out.
    bucket : str
        The bucket.
    info : ObjectInfo
        The version.
    """
    place = f"{(endpoint_url or 's3:/').rstrip('/')}/{bucket}/"
    name = f"{place}{version_name(info)}".encode(errors="surrogateescape")
    path = folder / hashlib.sha256(name).hexdigest()[:40]
    return EntryPlace(path, info.size, f"{place}{info.key}")


def kept(cache_dir: Path) -> list[Usage]:
    """Return the entries of this node; none if nothing was ever read here."""
    place = _place(cache_dir)
    return list(entries(place)) if existing_directory(cache_dir) and place.is_dir() else []


def _place(cache_dir: Path) -> Path:
    machine, boot = _here()
    return cache_dir / f"{ENTRIES}-{machine}-{boot}"


def _here() -> tuple[str, str]:
    """Name this machine and this boot of it, briefly."""
    machine = socket.gethostname()
    with contextlib.suppress(OSError):
        # Machines may have the same name, and containers are no machines.
        machine = Path("/etc/machine-id").read_text() or machine
    boot = Path("/proc/sys/kernel/random/boot_id").read_text()
    return _digest(machine), _digest(boot)


def _digest(text: str) -> str:
    return hashlib.sha256(os.fsencode(text.strip())).hexdigest()[:8]
