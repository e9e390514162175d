"""Requests to one bucket whose answers are compared by HTTP status and error code."""

from __future__ import annotations

import functools
import hashlib
import uuid
from dataclasses import dataclass, replace
from typing import Any

from s3fuse.s3.connection import Connection
from s3fuse.s3.store import Store
from s3fuse.urls import S3Url

#: An ETag that no object has.
OTHER_ETAG = f'"{"0" * 32}"'
#: Content of the only part of the uploads that `BucketRequests.upload` makes.
PART = b"part"
#: Answers as `BucketRequests.status` returns them.
DONE = (200, "")
REFUSED = (412, "PreconditionFailed")


def etag_of_parts(*parts: bytes) -> str:
    """Return the ETag of an object that was uploaded in these parts, without quotes."""
    digests = b"".join(hashlib.md5(part).digest() for part in parts)
    return f"{hashlib.md5(digests).hexdigest()}-{len(parts)}"


@dataclass(frozen=True)
class BucketRequests:
    """A bucket, and requests to it that are sent once.

    Attributes
    ----------
    store : Store
        The store, without retries.
    url : S3Url
        The bucket.
    """

    store: Store
    url: S3Url

    @classmethod
    def new_bucket(cls, connection: Connection) -> BucketRequests:
        """Create an empty bucket with a random name."""
        made = cls(_store_without_retries(connection), S3Url(f"bucket-{uuid.uuid4().hex[:8]}"))
        made.call("create_bucket")
        return made

    def call(self, method: str, **kwargs: Any) -> dict[str, Any]:
        return self.store.call(method, self.url, "use", timeout=30, **kwargs)

    def status(self, method: str, **kwargs: Any) -> tuple[int, str]:
        """Return the HTTP status of the answer, and the code of the error if it is one."""
        try:
            answer = self.call(method, **kwargs)
        except Exception as error:
            answer, code = _error_answer(error)
            return answer["HTTPStatusCode"], code
        return answer["ResponseMetadata"]["HTTPStatusCode"], ""

    def put(self, key: str, body: bytes = b"new", **conditions: str) -> tuple[int, str]:
        return self.status("put_object", Key=key, Body=body, **conditions)

    def body(self, key: str) -> bytes:
        url = self.url.child(key)
        info = self.store.head(url)
        assert info is not None
        received = bytearray(info.size)

        def write(chunk: bytes, position: int) -> None:
            received[position : position + len(chunk)] = chunk

        self.store.read(url, info, 0, info.size, write)
        return bytes(received)

    def etag(self, key: str) -> str:
        """The ETag of an object, with its quotes."""
        etag = self.call("head_object", Key=key)["ETag"]
        assert isinstance(etag, str)
        return etag

    def versioning(self, status: str) -> None:
        self.call("put_bucket_versioning", VersioningConfiguration={"Status": status})

    def upload(self, key: str, *parts: bytes) -> dict[str, Any]:
        """Upload the parts of an object, and return the arguments that complete it."""
        upload = self.call("create_multipart_upload", Key=key)["UploadId"]
        uploaded = []
        for number, body in enumerate(parts or (PART,), 1):
            which = {"Key": key, "UploadId": upload, "PartNumber": number}
            etag = self.call("upload_part", **which, Body=body)["ETag"]
            uploaded.append({"PartNumber": number, "ETag": etag})
        return {"Key": key, "UploadId": upload, "MultipartUpload": {"Parts": uploaded}}

    def complete(self, upload: dict[str, Any], **conditions: str) -> tuple[int, str]:
        return self.status("complete_multipart_upload", **upload, **conditions)

    def abort(self, upload: dict[str, Any]) -> tuple[int, str]:
        which = {name: upload[name] for name in ("Key", "UploadId")}
        return self.status("abort_multipart_upload", **which)


@functools.cache
def _store_without_retries(connection: Connection) -> Store:
    """Open a store once, as that takes longer than most tests."""
    return Store(replace(connection, retries=1))


def _error_answer(error: BaseException) -> tuple[dict[str, Any], str]:
    """Find the store's answer among the causes of an error."""
    cause: BaseException | None = error
    while cause is not None:
        if response := getattr(cause, "response", None):
            return response["ResponseMetadata"], response["Error"]["Code"]
        cause = cause.__cause__
    raise error
