"""What jobs were given to read, and whether it is still that when they end."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterable
from pathlib import Path

from s3fuse.errors import ObjectChanged
from s3fuse.gateway.failures import Failure
from s3fuse.mount.mounts import Mounts
from s3fuse.s3.objects import ObjectInfo, version_name
from s3fuse.urls import S3Url, path_below
from snakemake_storage_plugin_s3fuse.versions import Versions


class JobInputs:
    """The links and copies that the jobs of a run read.  Safe to share by threads.

    Parameters
    ----------
    mounts : Mounts
        Is asked what could not be had of mounted inputs.
    versions : Versions
        Tells which version of an object this run knows.
    """

    def __init__(self, mounts: Mounts, versions: Versions) -> None:
        self._mounts, self._versions = mounts, versions
        self._lock = threading.Lock()
        self._linked: dict[S3Url, ObjectInfo] = {}
        # Folders that were copied, and the files that are in their local paths since.
        self._folders: dict[S3Url, dict[Path, ObjectInfo]] = {}
        self._refused: set[tuple[S3Url, Failure]] = set()

    def given(self, url: S3Url, info: ObjectInfo, path: Path) -> None:
        """Note the version of an object that a job was given at a local path."""
        if path.is_symlink():
            with self._lock:
                self._linked[url] = info

    def given_folder(self, url: S3Url, infos: list[ObjectInfo], path: Path) -> None:
        """Note the versions of the objects of a folder that a job was given."""
        copies = {path_below(path, url, info.key): info for info in infos}
        with self._lock:
            self._folders[url] = {} if path.is_symlink() else copies

    def refuse_if_changed(self, output: S3Url, inputs: Iterable[tuple[S3Url, Path]]) -> None:
        """Notice inputs that are not what they were when the job got them.

        A mount shows the version that was planned, or an error.  A job that writes to a
        local copy changes the input of others.

        Parameters
        ----------
        output : S3Url
            What the job has written.
        inputs : iterable of (S3Url, Path)
            The inputs of the job and their local paths.

        Raises
        ------
        ObjectChanged
            If a planned version could not be had, or a copy was changed.
        """
        linked: list[S3Url] = []
        for url, path in inputs:
            self._refuse_if_edited(output, url, path)
            if path.is_symlink():
                linked.append(url)
        for bucket in {url.bucket for url in linked}:
            here = [url for url in linked if url.bucket == bucket]
            for failure in self._mounts.failures(bucket, [url.key for url in here]):
                # A program that reads it gets an error, which it may ignore.
                if any(self._concerns(url, failure) for url in here):
                    self._refuse(output, failure)

    def _concerns(self, url: S3Url, failure: Failure) -> bool:
        """Tell whether something that could not be had belongs to a mounted input."""
        if wanted := self._linked.get(url):
            # Not whether the one or the other was told that the ETag is no checksum.
            info = failure.info
            return info is not None and version_name(info) == version_name(wanted)
        if failure.is_end:
            # A whole bucket is an input of each job that needs its mount, whatever it reads.
            return bool(url.key)
        is_in_it = failure.key == url.key or failure.key.startswith(url.child("").key)
        # A listing, of all that a folder lies in, too.
        return is_in_it or (failure.info is None and url.key.startswith(failure.key))

    def _refuse(self, output: S3Url, failure: Failure) -> None:
        """Refuse an output; for what may be had later, only once, as the job may run again."""
        with self._lock:
            is_known = (output, failure) in self._refused
            self._refused.add((output, failure))
        if failure.is_final or not is_known:
            raise ObjectChanged(f"{output} was not published: {failure.sentence}")

    def _refuse_if_edited(self, output: S3Url, url: S3Url, path: Path) -> None:
        """Notice a local copy that a job has written to: a copy has the time of its object."""
        copies = self._copies(url, path)
        if not copies:
            return
        is_same = all(_is_copy(file, info) for file, info in copies.items())
        if is_same and _files(path) == copies.keys():
            return
        # Not for the next job, either.
        remove_local(path)
        raise ObjectChanged(
            f"The local copy of {url} was changed while a job ran, so {output} was not "
            "published; let the rule write to another file than its input."
        )

    def _copies(self, url: S3Url, path: Path) -> dict[Path, ObjectInfo]:
        """Return the local files of an input, and what they are copies of; of links, nothing."""
        if path.is_symlink() or not path.exists():
            return {}
        if path.is_dir():
            return self._folders.get(url, {})
        info = self._versions.known(url)
        return {path: info} if info else {}


def _is_copy(file: Path, info: ObjectInfo) -> bool:
    """Tell whether a file has the size and the time of an object."""
    try:
        status = file.stat()
    except FileNotFoundError:
        return False
    return (status.st_size, int(status.st_mtime)) == (info.size, int(info.mtime))


def _files(path: Path) -> set[Path]:
    """Return a file, or all files of a directory."""
    return {each for each in path.rglob("*") if not each.is_dir()} if path.is_dir() else {path}


def remove_local(path: Path) -> None:
    """Remove a file, a link or a directory, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
