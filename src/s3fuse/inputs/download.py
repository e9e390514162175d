"""Copying objects to this node: whole and verified, or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from s3fuse.cache.place import entry_of
from s3fuse.cache.room import Room
from s3fuse.errors import ObjectChanged, QueryError, S3FuseError
from s3fuse.inputs.cached import CachedCopy, Fetch
from s3fuse.s3.etags import damaged, may_hold
from s3fuse.s3.objects import ObjectInfo
from s3fuse.s3.parts import CONCURRENCY, PART_SIZE, part_by_part
from s3fuse.s3.retries import patiently
from s3fuse.s3.store import Store
from s3fuse.s3.translate import explained
from s3fuse.urls import S3Url, path_below, paths_below

#: Numbers of errors of a disk.
DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG})


@dataclass(frozen=True)
class Copier:
    """Copies objects to this node.

    Parameters
    ----------
    store : Store
        Where they are.
    room : Room, optional
        The cache of this node, by way of which they are copied where it has room.
    """

    store: Store
    room: Room | None = None

    def object(self, url: S3Url, info: ObjectInfo, path: Path, *, parents: bool = True) -> None:
        """Copy an object to `path`, which appears when it is complete.

        Parameters
        ----------
        url : S3Url
            The object.
        info : ObjectInfo
            What it is expected to be.
        path : Path
            The file to write; gets the time stamp of the object.
        parents : bool
            Whether a directory that is missing is made; an error if not.

        Raises
        ------
        ObjectChanged
            If the object is no longer what `info` says.
        ObjectDamaged
            If what came is not what its checksum says.
        QueryError
            If `path` is no name that a file can have beside what is there.
        S3FuseError
            If it cannot be read, or `path` not be written.
        """
        self.store.check(url.bucket)
        temporary = None
        try:
            if parents:
                path.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(prefix=f".{path.name[:100]}.", dir=path.parent)
            with open(handle, "w+b") as file:
                if not self._by_cache(url, info, file):
                    _write_to(self.store, url, info, file)
            os.utime(temporary, (info.mtime, info.mtime))
            # A job that edits its input would change it for the next one.
            os.chmod(temporary, 0o444)
            os.replace(temporary, path)
        except OSError as error:
            raise no_place(url, path, error) from error
        finally:
            if temporary:
                with suppress(FileNotFoundError):
                    os.unlink(temporary)

    def folder(
        self,
        folder: S3Url,
        infos: Iterable[ObjectInfo],
        path: Path,
        workers: int = CONCURRENCY,
    ) -> None:
        """Copy all objects of a folder, many at once, into a directory that appears at the end.

        Parameters
        ----------
        folder : S3Url
            The folder.
        infos : iterable of ObjectInfo
            The objects in it.
        path : Path
            The directory to make.
        workers : int
            Objects that are copied at the same time.

        Raises
        ------
        QueryError
            If a key cannot be a path below the directory; nothing is copied then.
        ObjectChanged
            If an object is no longer what its `info` says.
        S3FuseError
            If an object cannot be read, or `path` not be written.
        """
        infos = list(infos)
        paths_below(path, folder, (info.key for info in infos))
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        try:
            with ThreadPoolExecutor(workers) as pool:
                copies = [
                    pool.submit(
                        self.object,
                        S3Url(folder.bucket, info.key),
                        info,
                        path_below(temporary, folder, info.key),
                    )
                    for info in infos
                ]
                for copy in copies:
                    copy.result()
            temporary.chmod(0o755)
            if path.is_dir():
                shutil.rmtree(path)
            temporary.replace(path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _by_cache(self, url: S3Url, info: ObjectInfo, file: IO[bytes]) -> bool:
        """Write an object by way of the cache; returns whether it had room."""
        if self.room is None:
            return False
        endpoint = self.store.connection.endpoint_url
        place = entry_of(self.room.folder, endpoint, url.bucket, info)
        fetch = _reader(self.store, url, info)
        check = partial(_check, self.store, url, info)
        try:
            return CachedCopy(self.room, place, fetch, check).write_to(file)
        except OSError as error:
            if error.errno in DISK:
                # That may be the disk of the cache only.
                return False
            raise


def no_place(url: S3Url, path: Path, error: OSError) -> S3FuseError:
    """The error for an input that cannot be where its job expects it."""
    if isinstance(error, FileExistsError | NotADirectoryError | IsADirectoryError):
        return QueryError(
            f"{url} cannot be at {path}: in the bucket one name is an object and a folder, and "
            "on a disk it cannot be both. Rename one of them, or read them in different runs."
        )
    if error.errno == errno.ENAMETOOLONG:
        return QueryError(
            f"{url} cannot be at {path}: names on this disk have at most 255 bytes between two "
            "slashes; give it another key."
        )
    return S3FuseError(f"{url} cannot be put at {path}: {error.strerror}.")


def _write_to(store: Store, url: S3Url, info: ObjectInfo, file: IO[bytes]) -> None:
    """Read all pieces of an object, several at once."""
    os.truncate(file.fileno(), info.size)
    read = _reader(store, url, info)

    def fetch(start: int) -> None:
        read(start, min(PART_SIZE, info.size - start), write)

    def write(chunk: bytes, position: int) -> None:
        while chunk:
            written = os.pwrite(file.fileno(), chunk, position)
            chunk, position = chunk[written:], position + written

    part_by_part(fetch, range(0, max(info.size, 1), PART_SIZE))
    _check(store, url, info, file)


def _reader(store: Store, url: S3Url, info: ObjectInfo) -> Fetch:
    """Return what reads pieces of one version of an object."""

    @patiently()
    def read(start: int, size: int, write: Callable[[bytes, int], None]) -> None:
        try:
            store.read(url, info, start, size, write)
        except OSError as error:
            # s3fs gives errors of the store numbers, too; these are of the disk.
            if error.errno in DISK:
                raise
            raise explained(error, url, "read", store.connection) from error
        except Exception as error:
            raise explained(error, url, "read", store.connection) from error

    return read


def _check(store: Store, url: S3Url, info: ObjectInfo, file: IO[bytes]) -> None:
    """Compare a whole copy with what is known of the object."""
    if not may_hold(info, file, lambda number: store.part_size(url, info, number)):
        _explain_difference(store, url, info)


def _explain_difference(store: Store, url: S3Url, info: ObjectInfo) -> None:
    """Tell a replaced object from a damaged copy, and both from an ETag that is no MD5."""
    now = store.head(url)
    if now is None or (now.etag, now.size) != (info.etag, info.size):
        raise ObjectChanged(f"{url} was replaced while it was copied; start the run again.")
    if not now.opaque:
        raise damaged(url)
