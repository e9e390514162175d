"""How an input gets onto this node: as a link into a mount, or as a copy."""

from __future__ import annotations

import contextlib
import enum
import logging
import os
import shutil
import threading
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

from s3fuse.errors import MountError, MountUnavailable, ObjectChanged
from s3fuse.inputs.download import download, download_folder
from s3fuse.inputs.prefetch import Prefetcher
from s3fuse.mount.daemon import require
from s3fuse.mount.links import make_link
from s3fuse.mount.mounts import Mounts
from s3fuse.mount.options import MountOptions, Reading
from s3fuse.mount.record import Mount
from s3fuse.mount.s3fs_cache import local_files as whole
from s3fuse.mount.s3fs_cache import prefill
from s3fuse.s3.objects import ObjectInfo
from s3fuse.s3.parts import CONCURRENCY
from s3fuse.s3.store import Store
from s3fuse.s3.translate import not_found
from s3fuse.urls import S3Url, paths_below

log = logging.getLogger("s3fuse")


#: Where copies wait for their jobs: no bucket has such a name.
PREFETCHED = ".prefetched"
#: Of a mounted folder, this many of its latest objects are compared with what
#: the S3 API says: the ones that a mount may have seen before they changed.
CHECKED_IN_FOLDER = 3


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
        self._linked: dict[Path, str] = {}
        self._prefilled: set[tuple[S3Url, str]] = set()
        self._told = False
        self._prefetcher = Prefetcher(store, mounts.links / PREFETCHED)
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
        reading: Reading = Reading.UNKNOWN,
        *,
        copy: bool = False,
    ) -> ObjectInfo:
        """Make one object available at `path`, for a job that reads it in a known way or not.

        Parameters
        ----------
        url : S3Url
            The object.
        info : ObjectInfo
            The version that is wanted.
        path : Path
            Where the job expects it.
        reading : Reading
            How the job reads it.
        copy : bool
            Copy it, however large it is.

        Returns
        -------
        ObjectInfo
            The version that is there now.

        Raises
        ------
        ObjectNotFound
            If it has gone since `info` was asked for.
        ObjectChanged
            If it is replaced at this moment.
        """
        if not copy and self.is_mounted(info.size):
            options = replace(self.options, reading=reading)
            # A copy asks for the version that is wanted; a mount cannot.
            with ThreadPoolExecutor(2, thread_name_prefix="s3fuse-look") as pool:
                looking = pool.submit(self.store.head, url)
                prefilling = pool.submit(self._metadata, url, info, reading)
                try:
                    mount = self._mounted(url, options)
                finally:
                    now, pieces = looking.result(), prefilling.result()
            if now is None:
                raise not_found(url)
            if mount is not None:
                if pieces and now.etag == info.etag:
                    prefill.fill(mount, now, pieces)
                mount = self._link(mount, url, [now], path, options)
                self._read_ahead(mount, now, path, reading, pieces)
                return now
        if not self._prefetcher.take(url, info, path):
            download(self.store, url, info, path)
        return info

    def prefetch(self, objects: Iterable[tuple[S3Url, ObjectInfo]]) -> None:
        """Copy objects for later jobs beside the jobs that run, where they will be copied."""
        self._prefetcher.fetch(each for each in objects if not self.is_mounted(each[1].size))

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
        if mountable and (mount := self._mounted(url, self.options, infos)):
            self._link(mount, url, infos, path, self.options)
            return
        download_folder(self.store, url, infos, path, CONCURRENCY)

    def bucket(self, url: S3Url, path: Path) -> None:
        """Make a whole bucket available at `path`; an empty directory where nothing mounts."""
        self.store.check(url.bucket)
        if self.is_mounted(self.copy_below) and (mount := self._mounted(url, self.options)):
            self._link(mount, url, [], path, self.options)
            return
        path.mkdir(parents=True, exist_ok=True)

    def _metadata(self, url: S3Url, info: ObjectInfo, reading: Reading) -> dict[int, bytes]:
        """What every reader of a file wants first; nothing where that is all of it anyway."""
        if reading is Reading.SEQUENTIAL or (url, info.etag) in self._prefilled:
            return {}
        self._prefilled.add((url, info.etag))
        # What fails here fails again in the job, which then says what and where.
        with contextlib.suppress(Exception):
            return prefill.metadata(self.store, url, info)
        return {}

    def _mounted(
        self, url: S3Url, options: MountOptions, infos: Collection[ObjectInfo] = ()
    ) -> Mount | None:
        """A mount to link into; None if none can be had, and inputs may be copied."""
        probe = _latest(infos)[-1].key if infos else url.key
        try:
            return self.mounts.mount(url.bucket, self.store.connection, options, probe=probe)
        except MountError as error:
            if self.access is Access.MOUNT:
                raise
            with self._lock:
                self._unavailable = str(error)
            self._is_unavailable()
            return None

    def _link(
        self,
        mount: Mount,
        url: S3Url,
        infos: Collection[ObjectInfo],
        path: Path,
        options: MountOptions,
    ) -> Mount:
        """Link into a mount that shows just what the S3 API says; returns that mount."""
        latest = _latest(infos)
        if not all(self._shows(mount, info) for info in latest):
            # It remembers an object that has been replaced since.
            mount = self.mounts.mount(
                *(url.bucket, self.store.connection, options), probe=latest[-1].key, fresh=True
            )
            for info in latest:
                if not self._shows(mount, info):
                    changed = S3Url(url.bucket, info.key)
                    raise ObjectChanged(
                        f"{changed} was replaced while it was mounted; start the run again."
                    )
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        target = whole.place(mount, url.key)
        make_link(target, path, latest[-1].mtime if latest else None)
        return mount

    def _read_ahead(
        self,
        mount: Mount,
        info: ObjectInfo,
        path: Path,
        reading: Reading,
        filled: Mapping[int, bytes],
    ) -> None:
        """Let s3fs fetch what the job will read while the job starts."""
        if reading is Reading.SEQUENTIAL:
            if whole.has(mount, info.key):
                return
            if whole.has_room(mount, info.size, self.options.cache_bytes):
                through = partial(whole.let_through, mount, info.key, info.size, path)
                self.mounts.read_ahead.add(
                    mount.point, mount.path_of(info.key), range(info.size), reading, through
                )
                return
        # netCDF-C reads 4 MB to see what a file is; some have been filled in.
        first = range(len(filled.get(0, b"")), info.size)[:1]
        self.mounts.read_ahead.add(mount.point, mount.path_of(info.key), first, reading)

    def _shows(self, mount: Mount, info: ObjectInfo) -> bool:
        """Whether a mount has the version of an object that the S3 API has."""
        path = mount.path_of(info.key)
        # A file that is held open is not looked at again by s3fs.
        seen = self._linked.setdefault(path, info.etag)
        try:
            return seen == info.etag and os.stat(path).st_size == info.size
        except FileNotFoundError:
            return False

    def _is_unavailable(self) -> bool:
        with self._lock:
            if self._unavailable and not self._told:
                self._told = True
                log.warning(f"Inputs are copied instead of mounted: {self._unavailable}.")
        return self._unavailable is not None


def _latest(infos: Collection[ObjectInfo]) -> list[ObjectInfo]:
    return sorted(infos, key=lambda info: info.mtime)[-CHECKED_IN_FOLDER:]
