"""How an input gets onto this node: as a link into a mount, or as a copy."""

from __future__ import annotations

import enum
import logging
import shutil
import threading
from collections.abc import Iterable
from pathlib import Path

from s3fuse.cache.place import open_node_cache
from s3fuse.cache.room import Room
from s3fuse.errors import MountError, MountUnavailable, RunDirError
from s3fuse.gateway.catalogue import View
from s3fuse.inputs.download import Copier, no_place
from s3fuse.inputs.prefetch import Prefetcher
from s3fuse.mount.daemon import require
from s3fuse.mount.mounts import Mounts
from s3fuse.mount.options import MountOptions
from s3fuse.mount.record import Mount
from s3fuse.node.links import make_link
from s3fuse.s3.objects import ObjectInfo
from s3fuse.s3.store import Store
from s3fuse.urls import S3Url, paths_below

log = logging.getLogger("s3fuse")


#: Where copies wait for their jobs: no bucket has such a name.
PREFETCHED = ".prefetched"


class Access(enum.Enum):
    """How inputs reach this node."""

    AUTO = "auto"
    MOUNT = "mount"
    COPY = "copy"


class Placement:
    """Puts objects, folders and buckets where rules expect them.

    Parameters
    ----------
    store : Store
        Where they are.
    mounts : Mounts
        Makes the mounts.
    access : Access
        Mount or copy, or whichever suits.
    copy_below : int
        With ``Access.AUTO``, inputs of fewer bytes are copied.
    options : MountOptions
        How buckets are mounted.
    """

    def __init__(
        self,
        store: Store,
        mounts: Mounts,
        access: Access,
        copy_below: int,
        options: MountOptions,
    ) -> None:
        self.store = store
        self.mounts = mounts
        self.access = access
        self.copy_below = copy_below
        self.options = options
        self._lock = threading.Lock()
        self._told = False
        self._cache: Room | None = None
        self._is_cache_known = False
        self._prefetcher = Prefetcher(store, mounts.links / PREFETCHED, self._room)
        self._unavailable: str | None = None
        if access is not Access.COPY:
            try:
                require()
            except MountUnavailable as reason:
                self._unavailable = str(reason)

    def is_mounted(self, size: int) -> bool:
        """Whether an input of `size` bytes comes as a link and takes no space.

        Raises
        ------
        MountUnavailable
            If only a mount will do, and nothing can be mounted here.
        """
        match self.access:
            case Access.COPY:
                return False
            case Access.MOUNT:
                if self._unavailable:
                    raise MountUnavailable(
                        f"Nothing can be mounted here: {self._unavailable}. "
                        "Set access to auto or copy to work without."
                    )
                return True
            case _:
                return size >= self.copy_below and not self._is_unavailable()

    def object(
        self,
        url: S3Url,
        info: ObjectInfo,
        path: Path,
        *,
        sequential: bool = False,
        copy: bool = False,
    ) -> None:
        """Make one object available at `path`.

        Parameters
        ----------
        url : S3Url
            The object.
        info : ObjectInfo
            The version that is wanted.
        path : Path
            Where the job expects it.
        sequential : bool
            Whether the job reads it from end to end.
        copy : bool
            Copy it, however large it is.

        Raises
        ------
        ObjectChanged
            If it is copied, and was replaced since `info` was asked for.
        """
        if not copy and self.is_mounted(info.size) and (mount := self._mounted(url)):
            self._link(mount, View.of_object(info, sequential=sequential), url, path, info.mtime)
            return
        # Where the first input is copied, most are.
        self.mounts.end_waiting()
        if not self._prefetcher.take(url, info, path):
            room = self._room() if info.size < self.copy_below else None
            Copier(self.store, room).object(url, info, path)

    def prefetch(self, objects: Iterable[tuple[S3Url, ObjectInfo]]) -> None:
        """Copy objects for later jobs beside the jobs that run, where they will be copied."""
        self._prefetcher.fetch(each for each in objects if not self.is_mounted(each[1].size))

    def prepare(self) -> None:
        """Start ahead what a mount needs, where inputs may be mounted."""
        if self.access is not Access.COPY and not self._unavailable:
            self.mounts.prepare()

    def close(self) -> None:
        """Stop prefetching."""
        self._prefetcher.close()

    def folder(
        self, url: S3Url, infos: list[ObjectInfo], path: Path, *, copy: bool = False
    ) -> None:
        """Make the objects of a folder available in the directory `path`.

        Raises
        ------
        QueryError
            If a key cannot be a path below the directory, or is also the folder of another.
        """
        paths_below(path, url, (info.key for info in infos))
        mountable = url.is_folder and not copy and self.is_mounted(sum(info.size for info in infos))
        if mountable and (mount := self._mounted(url)):
            newest = max(info.mtime for info in infos)
            self._link(mount, View.of_folder(url.key, infos), url, path, newest)
            return
        size = sum(info.size for info in infos)
        room = self._room() if size < self.copy_below else None
        Copier(self.store, room).folder(url, infos, path)

    def bucket(self, url: S3Url, path: Path) -> None:
        """Make a whole bucket available at `path`; an empty directory where nothing mounts."""
        self.store.check(url.bucket)
        if self.is_mounted(self.copy_below) and (mount := self._mounted(url)):
            _replace(path, mount.point, None)
            return
        path.mkdir(parents=True, exist_ok=True)

    def _mounted(self, url: S3Url) -> Mount | None:
        """A mount to link into; None if none can be had, and inputs may be copied."""
        try:
            return self.mounts.mount(url.bucket, self.store.connection, self.options)
        except MountError as error:
            if self.access is Access.MOUNT:
                raise
            with self._lock:
                self._unavailable = str(error)
            self._is_unavailable()
            return None

    def _link(self, mount: Mount, view: View, url: S3Url, path: Path, mtime: float) -> None:
        target = self.mounts.show(mount, view)
        try:
            if view.single:
                # A directory in its place holds inputs of other jobs.
                make_link(target, path, mtime)
            else:
                _replace(path, target, mtime)
        except OSError as error:
            raise no_place(url, path, error) from error

    def _room(self) -> Room | None:
        """Return the cache of this node, for small inputs; large ones would take twice the disk."""
        with self._lock:
            if not self._is_cache_known:
                self._cache, self._is_cache_known = self._open_cache(), True
            return self._cache

    def _open_cache(self) -> Room | None:
        if self.store.connection.sse_customer_key:
            # What only its owner can decrypt in the store does not stay on this disk.
            return None
        try:
            folder = open_node_cache(self.mounts.cache_dir)
        except RunDirError as error:
            log.warning(f"Copies of inputs are not kept for later runs: {error}")
            return None
        return Room(folder, self.options.node_bytes)

    def _is_unavailable(self) -> bool:
        with self._lock:
            if self._unavailable and not self._told:
                self._told = True
                log.warning(f"Inputs are copied instead of mounted: {self._unavailable}.")
        return self._unavailable is not None


def _replace(path: Path, target: Path, mtime: float | None) -> None:
    """Make a link where there may be a directory of before."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    make_link(target, path, mtime)
