"""An S3 store in the memory of the test process, below the library's own client code.

A request to a server on loopback takes 6 to 16 ms, so that hundreds of random sequences
with dozens of requests each would take most of an hour. `in_memory` replaces the S3
client that `s3fuse.s3.store.Store` opens, and nothing above it: retries, conditions,
errors and their translation are those of the library. A request takes 0.2 ms.

The answers are those of AWS, as far as this project asks: conditional writes, the MD5 of
bodies, ETags of uploads in parts, and times in whole seconds.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError
from fsspec.asyn import get_loop

from bucket_requests import etag_of_parts
from s3fuse.s3.connection import Connection

#: The statuses of the errors that the store answers with.
STATUS = {
    "BadDigest": 400,
    "404": 404,
    "NoSuchBucket": 404,
    "NoSuchKey": 404,
    "NoSuchUpload": 404,
    "PreconditionFailed": 412,
}


@dataclass(frozen=True)
class _Object:
    body: bytes
    etag: str
    modified: datetime


@dataclass
class _Upload:
    bucket: str
    key: str
    initiated: datetime
    parts: dict[int, bytes] = field(default_factory=dict)


class _Body:
    """The body of an answer, as aiobotocore gives it."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    async def iter_chunks(self, size: int) -> AsyncIterator[bytes]:
        yield self._content

    def close(self) -> None:
        """Do nothing: there is no connection."""


class MemoryStore:
    """The buckets of a store, and the S3 client that uses them.

    Requests run one after the other in the event loop of fsspec, so each is atomic.

    Parameters
    ----------
    clock : callable
        Returns the time of the store in seconds since the epoch.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._numbers = itertools.count(1)
        self.buckets: dict[str, dict[str, _Object]] = {}
        self.uploads: dict[str, _Upload] = {}
        # As s3fs's file system, of which the library uses the loop and the client.
        self.loop = get_loop()

    async def set_session(self) -> MemoryStore:
        return self

    # What tests look at and do, apart from the library.

    def etags(self, bucket: str) -> dict[str, str]:
        return {key: each.etag for key, each in self.buckets[bucket].items()}

    def contents(self, bucket: str) -> dict[str, bytes]:
        return {key: each.body for key, each in self.buckets[bucket].items()}

    def put(self, bucket: str, key: str, body: bytes, etag: str | None = None) -> _Object:
        etag = etag or hashlib.md5(body).hexdigest()
        self.buckets[bucket][key] = made = _Object(body, etag, self._now())
        return made

    def remove(self, bucket: str, key: str) -> None:
        self.buckets[bucket].pop(key, None)

    # What the library asks.

    async def create_bucket(self, *, Bucket: str) -> dict[str, Any]:
        self.buckets[Bucket] = {}
        return _answer()

    async def put_object(
        self, *, Bucket: str, Key: str, Body: bytes, ContentMD5: str = "", **options: Any
    ) -> dict[str, Any]:
        self._compare(Bucket, Key, "PutObject", options)
        _check_md5(Body, ContentMD5, "PutObject")
        return _answer(ETag=f'"{self.put(Bucket, Key, Body).etag}"')

    async def head_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:
        # Answers to HEAD have no body, and so no other code than their status.
        return self._described(self._get(Bucket, Key, "HeadObject", "404"))

    async def get_object(self, *, Bucket: str, Key: str, IfMatch: str = "") -> dict[str, Any]:
        found = self._get(Bucket, Key, "GetObject")
        if IfMatch and IfMatch.strip('"') != found.etag:
            raise _error("PreconditionFailed", "GetObject")
        return self._described(found, Body=_Body(found.body))

    async def delete_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:
        self._bucket(Bucket, "DeleteObject").pop(Key, None)
        return _answer(204)

    async def copy_object(
        self,
        *,
        Bucket: str,
        Key: str,
        CopySource: dict[str, str],
        CopySourceIfMatch: str = "",
        **metadata: Any,
    ) -> dict[str, Any]:
        found = self._get(CopySource["Bucket"], CopySource["Key"], "CopyObject")
        if CopySourceIfMatch and CopySourceIfMatch.strip('"') != found.etag:
            raise _error("PreconditionFailed", "CopyObject")
        self.put(Bucket, Key, found.body)
        return _answer()

    async def list_objects_v2(
        self, *, Bucket: str, Prefix: str = "", Delimiter: str = "", MaxKeys: int = 1000
    ) -> dict[str, Any]:
        contents, prefixes = [], set()
        for key, found in sorted(self._bucket(Bucket, "ListObjectsV2").items()):
            if not key.startswith(Prefix):
                continue
            inner, slash, _ = key.removeprefix(Prefix).partition(Delimiter or "\0")
            if slash:
                prefixes.add(Prefix + inner + slash)
            else:
                entry = {"Key": key, "Size": len(found.body), "ETag": f'"{found.etag}"'}
                contents.append({**entry, "LastModified": found.modified})
        common = [{"Prefix": each} for each in sorted(prefixes)]
        # Nothing here makes enough objects for a second page.
        assert len(contents) + len(common) <= 1000
        return _answer(Contents=contents[:MaxKeys], CommonPrefixes=common, IsTruncated=False)

    async def create_multipart_upload(
        self, *, Bucket: str, Key: str, **metadata: Any
    ) -> dict[str, Any]:
        self._bucket(Bucket, "CreateMultipartUpload")
        number = f"upload-{next(self._numbers)}"
        self.uploads[number] = _Upload(Bucket, Key, self._now())
        return _answer(UploadId=number)

    async def upload_part(
        self,
        *,
        Bucket: str,
        Key: str,
        UploadId: str,
        PartNumber: int,
        Body: bytes,
        ContentMD5: str = "",
    ) -> dict[str, Any]:
        _check_md5(Body, ContentMD5, "UploadPart")
        self._upload(Bucket, Key, UploadId, "UploadPart").parts[PartNumber] = Body
        return _answer(ETag=f'"{hashlib.md5(Body).hexdigest()}"')

    async def complete_multipart_upload(
        self, *, Bucket: str, Key: str, UploadId: str, MultipartUpload: Any, **options: Any
    ) -> dict[str, Any]:
        upload = self._upload(Bucket, Key, UploadId, "CompleteMultipartUpload")
        self._compare(Bucket, Key, "CompleteMultipartUpload", options)
        parts = [upload.parts[each["PartNumber"]] for each in MultipartUpload["Parts"]]
        made = self.put(Bucket, Key, b"".join(parts), etag_of_parts(*parts))
        del self.uploads[UploadId]
        return _answer(ETag=f'"{made.etag}"')

    async def abort_multipart_upload(
        self, *, Bucket: str, Key: str, UploadId: str
    ) -> dict[str, Any]:
        self._upload(Bucket, Key, UploadId, "AbortMultipartUpload")
        del self.uploads[UploadId]
        return _answer(204)

    async def list_multipart_uploads(self, *, Bucket: str, Prefix: str = "") -> dict[str, Any]:
        found = [
            {"Key": each.key, "UploadId": number, "Initiated": each.initiated}
            for number, each in self.uploads.items()
            if each.bucket == Bucket and each.key.startswith(Prefix)
        ]
        return _answer(Uploads=found)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(int(self._clock()), UTC)

    def _bucket(self, name: str, operation: str) -> dict[str, _Object]:
        if name not in self.buckets:
            raise _error("NoSuchBucket", operation)
        return self.buckets[name]

    def _get(self, bucket: str, key: str, operation: str, missing: str = "NoSuchKey") -> _Object:
        found = self._bucket(bucket, operation).get(key)
        if found is None:
            raise _error(missing, operation)
        return found

    def _upload(self, bucket: str, key: str, number: str, operation: str) -> _Upload:
        upload = self.uploads.get(number)
        if upload is None or (upload.bucket, upload.key) != (bucket, key):
            raise _error("NoSuchUpload", operation)
        return upload

    def _compare(self, bucket: str, key: str, operation: str, options: dict[str, Any]) -> None:
        """Honour the conditions of a request that writes an object."""
        found = self._bucket(bucket, operation).get(key)
        if options.get("IfNoneMatch") == "*" and found:
            raise _error("PreconditionFailed", operation)
        if match := options.get("IfMatch"):
            if found is None:
                raise _error("NoSuchKey", operation)
            if match.strip('"') != found.etag:
                raise _error("PreconditionFailed", operation)

    @staticmethod
    def _described(found: _Object, **more: Any) -> dict[str, Any]:
        return _answer(
            ContentLength=len(found.body),
            ETag=f'"{found.etag}"',
            LastModified=found.modified,
            **more,
        )


def _answer(status: int = 200, **content: Any) -> dict[str, Any]:
    return {"ResponseMetadata": {"HTTPStatusCode": status}, **content}


def _error(code: str, operation: str) -> ClientError:
    response: Any = {"Error": {"Code": code, "Message": code}, **_answer(STATUS[code])}
    return ClientError(response, operation)


def _check_md5(body: bytes, told: str, operation: str) -> None:
    if told and told != base64.b64encode(hashlib.md5(body).digest()).decode():
        raise _error("BadDigest", operation)


@contextmanager
def in_memory(clock: Callable[[], float]) -> Iterator[Connection]:
    """Let all stores that are opened in a context be one store in memory.

    Parameters
    ----------
    clock : callable
        Returns the time of the store in seconds since the epoch.

    Yields
    ------
    Connection
        How to reach it.
    """
    memory = MemoryStore(clock)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("s3fuse.s3.client.open_filesystem", lambda *_, **__: memory)
        yield Connection("http://memory.invalid", "us-east-1", "any", "thing")
