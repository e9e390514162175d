"""Copying between bucket and node-local disk: whole, verified, or not at all."""

from __future__ import annotations

import logging
import mimetypes
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from s3fuse.errors import PublishError, S3FuseError
from s3fuse.publish.journal import Journal
from s3fuse.s3.etags import content_md5, holds, matches, part_size_of
from s3fuse.s3.objects import ObjectInfo
from s3fuse.s3.parts import CONCURRENCY, PART_SIZE, part_by_part
from s3fuse.s3.store import Store
from s3fuse.urls import S3Url

log = logging.getLogger("s3fuse")


#: Snakemake's own time stamp in a directory, which is no part of the result.
TIMESTAMP_FILE = ".snakemake_timestamp"


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
    if not matches(path, info):
        raise PublishError(f"{url} differs from what was uploaded; start the run again.")
    return info


def _upload(store: Store, path: Path, url: S3Url, journal: Journal | None) -> None:
    """Send a file with the MD5 of each body: the store checks it before it replaces anything."""
    size = path.stat().st_size
    # Without the lists of this machine, which take a tenth of a second to read.
    content_type, _ = mimetypes.MimeTypes().guess_type(path.name)
    options: dict[str, Any] = {"Key": url.key}
    if content_type:
        options["ContentType"] = content_type
    if size < 2 * PART_SIZE:
        body = path.read_bytes()
        store.call("put_object", url, "write", Body=body, ContentMD5=content_md5(body), **options)
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
    part_size = part_size_of(path)

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
            ContentMD5=content_md5(body),
        )
        return {"PartNumber": number, "ETag": answer["ETag"]}

    count = -(-path.stat().st_size // part_size)
    parts = part_by_part(send, range(1, count + 1))
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
        if info is None or info.size != path.stat().st_size or not matches(path, info):
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
