"""Copying between bucket and node-local disk: whole, verified, or not at all."""

from __future__ import annotations

import errno
import hashlib
import logging
import mimetypes
import os
import shutil
import tempfile
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any, TypeVar

from s3fuse.errors import ObjectChanged, PublishError, S3FuseError
from s3fuse.publish.journal import Journal
from s3fuse.s3.retries import patiently
from s3fuse.s3.store import ObjectInfo, Store, explained
from s3fuse.urls import S3Url

log = logging.getLogger("s3fuse")

T = TypeVar("T")

#: Bytes of a part of a multipart upload; files below twice this go as one.
PART_SIZE = 16 * 2**20
#: Parts of one object that are on their way at the same time.
PARTS_AT_A_TIME = 4
#: S3 takes no more parts than this.
MAX_PARTS = 10_000
#: Files of a folder that are copied at the same time.
CONCURRENCY = 32
#: Without the lists of this machine, which take a tenth of a second to read.
CONTENT_TYPES = mimetypes.MimeTypes()
#: Snakemake's own time stamp in a directory, which is no part of the result.
TIMESTAMP_FILE = ".snakemake_timestamp"


def download(store: Store, url: S3Url, info: ObjectInfo, path: Path) -> None:
    """Copy an object to `path`, which appears when it is complete.

    Parameters
    ----------
    store : Store
        Where it is.
    url : S3Url
        The object.
    info : ObjectInfo
        What it is expected to be.
    path : Path
        The file to write; gets the time stamp of the object.

    Raises
    ------
    ObjectChanged
        If the object is no longer what `info` says.
    S3FuseError
        If it cannot be read, or `path` not be written.
    """
    store.check(url.bucket)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name[:100]}.", dir=path.parent)
        with open(handle, "wb") as file:
            os.truncate(handle, info.size)
            _fetch(store, url, info, file.fileno())
        if info.md5 and info.md5 != _md5(temporary):
            _explain_difference(store, url, info)
        os.utime(temporary, (info.mtime, info.mtime))
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        raise S3FuseError(f"{url} cannot be copied to {path}: {error.strerror}.") from error
    finally:
        if temporary:
            with suppress(FileNotFoundError):
                os.unlink(temporary)


def _fetch(store: Store, url: S3Url, info: ObjectInfo, descriptor: int) -> None:
    """Read all pieces of an object, several at once."""

    @patiently
    def fetch(start: int) -> None:
        size = min(PART_SIZE, info.size - start)
        try:
            store.read(url, info, start, size, write)
        except OSError as error:
            # s3fs gives errors of the store numbers, too; these are of the disk.
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG):
                raise
            raise explained(error, url, "read", store.connection) from error
        except Exception as error:
            raise explained(error, url, "read", store.connection) from error

    def write(chunk: bytes, position: int) -> None:
        while chunk:
            written = os.pwrite(descriptor, chunk, position)
            chunk, position = chunk[written:], position + written

    _part_by_part(fetch, range(0, max(info.size, 1), PART_SIZE))


def _part_by_part(move: Callable[[int], T], parts: Sequence[int]) -> list[T]:
    """Move the parts of one object, several at once; the first failure ends it."""
    if len(parts) == 1:
        return [move(parts[0])]
    with ThreadPoolExecutor(PARTS_AT_A_TIME) as pool:
        moved = [pool.submit(move, part) for part in parts]
        try:
            return [part.result() for part in moved]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def download_folder(
    store: Store, folder: S3Url, infos: Iterable[ObjectInfo], path: Path, workers: int = CONCURRENCY
) -> None:
    """Copy all objects of a folder, many at once, into a directory that appears at the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    prefix = folder.child("").key
    try:
        with ThreadPoolExecutor(workers) as pool:
            copies = [
                pool.submit(
                    download,
                    store,
                    S3Url(folder.bucket, info.key),
                    info,
                    temporary / info.key.removeprefix(prefix),
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


def publish(
    store: Store,
    path: Path,
    url: S3Url,
    journal: Journal | None = None,
    *,
    may_be_there: bool = False,
) -> ObjectInfo:
    """Upload a file as one object, and prove by another request that it is there.

    S3 replaces an object in one step when its upload completes, so a reader
    sees the old object or the new one, never a part.

    Parameters
    ----------
    store : Store
        Where to.
    path : Path
        A file.
    url : S3Url
        The object to be.
    journal : Journal, optional
        Where an upload in parts is noted while it lasts.
    may_be_there : bool
        Another process may have published the file just now; then there is nothing to do.

    Returns
    -------
    ObjectInfo
        What the store says of it.

    Raises
    ------
    PublishError
        If the store holds something else than was sent.
    S3FuseError
        If the upload failed; the old object, if any, is then unharmed.
    """
    store.check(url.bucket)
    if may_be_there:
        there = store.head(url)
        if there and holds(there, path):
            return there
    _upload(store, path, url, journal)
    info = store.head(url)
    if info is None:
        raise PublishError(f"{url} is not in the bucket after its upload; start the run again.")
    size = path.stat().st_size
    if info.size != size:
        raise PublishError(
            f"{url} has {info.size} bytes after an upload of {size}; start the run again."
        )
    if not _matches(path, info):
        raise PublishError(f"{url} differs from what was uploaded; start the run again.")
    return info


def holds(info: ObjectInfo, path: Path) -> bool:
    """Whether an object is known to have the content of a file."""
    can_tell = len(info.etag.partition("-")[0]) == 32 and not info.opaque
    return can_tell and info.size == path.stat().st_size and _matches(path, info)


def _upload(store: Store, path: Path, url: S3Url, journal: Journal | None) -> None:
    """Send a file with the MD5 of each body: the store checks it before it replaces anything."""
    size = path.stat().st_size
    content_type, _ = CONTENT_TYPES.guess_type(path.name)
    options: dict[str, Any] = {"Key": url.key}
    if content_type:
        options["ContentType"] = content_type
    if size < 2 * PART_SIZE:
        body = path.read_bytes()
        store.call("put_object", url, "write", Body=body, ContentMD5=_content_md5(body), **options)
        return
    with journal.noted(store, url) if journal else nullcontext() as note:
        upload = store.call("create_multipart_upload", url, "write", **options)["UploadId"]
        if note:
            note.write(upload)
        try:
            _upload_parts(store, path, url, upload)
        except BaseException:
            try:
                store.call("abort_multipart_upload", url, "write", Key=url.key, UploadId=upload)
            except S3FuseError as error:
                log.warning(f"The parts of the failed upload to {url} are still there: {error}")
                if note:
                    note.is_kept = True
            raise


def _upload_parts(store: Store, path: Path, url: S3Url, upload: str) -> None:
    part_size = _part_size(path)

    def send(number: int) -> dict[str, object]:
        with path.open("rb") as file:
            file.seek((number - 1) * part_size)
            body = file.read(part_size)
        answer = store.call(
            *("upload_part", url, "write"),
            Key=url.key,
            UploadId=upload,
            PartNumber=number,
            Body=body,
            ContentMD5=_content_md5(body),
        )
        return {"PartNumber": number, "ETag": answer["ETag"]}

    count = -(-path.stat().st_size // part_size)
    parts = _part_by_part(send, range(1, count + 1))
    try:
        store.call(
            *("complete_multipart_upload", url, "write"),
            Key=url.key,
            UploadId=upload,
            MultipartUpload={"Parts": parts},
        )
    except S3FuseError:
        # Its answer may have been lost, and asking again then finds no upload.
        info = store.head(url)
        if info is None or info.size != path.stat().st_size or not _matches(path, info):
            raise


def publish_folder(
    store: Store,
    path: Path,
    folder: S3Url,
    journal: Journal | None = None,
    workers: int = CONCURRENCY,
    *,
    may_be_there: bool = False,
) -> list[ObjectInfo]:
    """Upload all files below a directory, then drop the objects it no longer has."""
    files = {
        folder.child(file.relative_to(path).as_posix()): file
        for file in sorted(path.rglob("*"))
        if file.is_file() and file.name != TIMESTAMP_FILE
    }
    if not files:
        raise PublishError(
            f"{path} is empty, and an empty folder cannot be stored as {folder}; "
            "let the rule write at least one file."
        )
    before = store.list(folder.child(""), recursive=True).objects
    with ThreadPoolExecutor(workers) as pool:
        uploads = [
            pool.submit(publish, store, file, url, journal, may_be_there=may_be_there)
            for url, file in files.items()
        ]
        infos = [upload.result() for upload in uploads]
    for key in before.keys() - {url.key for url in files}:
        store.remove(S3Url(folder.bucket, key))
    return infos


def _explain_difference(store: Store, url: S3Url, info: ObjectInfo) -> None:
    """Tell a replaced object from a damaged copy, and both from an ETag that is no MD5."""
    now = store.head(url)
    if now is None or (now.etag, now.size) != (info.etag, info.size):
        raise ObjectChanged(f"{url} was replaced while it was copied; start the run again.")
    if not now.opaque:
        raise S3FuseError(f"{url} was damaged on its way here; start the run again.")


def _md5(path: str | Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _content_md5(body: bytes) -> str:
    return b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()


def _part_size(path: Path) -> int:
    return max(PART_SIZE, -(-path.stat().st_size // MAX_PARTS))


def _parts(path: Path) -> Iterator[bytes]:
    size = _part_size(path)
    with path.open("rb") as file:
        while part := file.read(size):
            yield hashlib.md5(part, usedforsecurity=False).digest()


def _matches(path: Path, info: ObjectInfo) -> bool:
    """Compare content by ETag: an MD5, or for parts an MD5 of MD5s and their number.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html
    An ETag of another form says nothing about the content (SSE-KMS, SSE-C).
    """
    digest, _, count = info.etag.partition("-")
    if len(digest) != 32 or info.opaque:
        return True
    if not count:
        return digest == _md5(path)
    parts = list(_parts(path))
    whole = hashlib.md5(b"".join(parts), usedforsecurity=False).hexdigest()
    return int(count) == len(parts) and digest == whole
