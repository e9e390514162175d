"""The control plane: what is in a bucket, by the S3 API and never a mount."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from s3fuse.errors import (
    AccessDenied,
    BucketNotFound,
    CredentialsError,
    EndpointError,
    ObjectChanged,
    ObjectNotFound,
    S3FuseError,
)
from s3fuse.s3.connection import Connection, is_passing, no_credentials
from s3fuse.s3.retries import patiently
from s3fuse.urls import S3Url

if TYPE_CHECKING:
    from s3fs import S3FileSystem

log = logging.getLogger("s3fuse")

T = TypeVar("T")

#: Seconds within which a bucket must answer the first request to it.
FIRST_ANSWER = 10.0
#: Bytes of a body that are handed on at a time.
CHUNK = 256 * 1024
#: What a store answers when a session token is too old.
EXPIRED = ("ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired")


@dataclass(frozen=True)
class ObjectInfo:
    """What S3 says of one object.

    Attributes
    ----------
    key : str
        Its key.
    size : int
        Bytes.
    mtime : float
        Seconds since the epoch, whole: HEAD and LIST of S3 agree on no more, and
        those of some stores only to the time that the upload took.
    etag : str
        Without quotes.
    opaque : bool
        Whether a HEAD request told that the ETag says nothing about the
        content, as under SSE-KMS and SSE-C
        (https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html).
    """

    key: str
    size: int
    mtime: float
    etag: str
    opaque: bool = False

    @property
    def md5(self) -> str | None:
        """The MD5 of the content where the ETag is one: after an upload in one piece."""
        return self.etag if len(self.etag) == 32 and not self.opaque else None

    @classmethod
    def from_answer(cls, key: str, answer: dict[str, Any], size: str) -> ObjectInfo:
        """Read an entry of a listing, or the answer to a HEAD request."""
        return cls(
            key=key,
            size=int(answer[size]),
            mtime=float(int(answer["LastModified"].timestamp())),
            etag=answer.get("ETag", "").strip('"'),
            opaque=str(answer.get("ServerSideEncryption", "")).startswith("aws:kms")
            or "SSECustomerAlgorithm" in answer,
        )


@dataclass(frozen=True)
class Listing:
    """Objects and folders directly below a folder, or all objects at any depth.

    Attributes
    ----------
    objects : dict of str to ObjectInfo
        By key.  Placeholders of folders (keys that end with a slash) are left out.
    folders : frozenset of str
        Prefixes, each with its slash; empty in a listing at any depth.
    """

    objects: dict[str, ObjectInfo]
    folders: frozenset[str]


class Store:
    """One S3 store, seen with one set of credentials.  Safe to share by threads.

    Parameters
    ----------
    connection : Connection
        Where it is and who asks.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._lock = threading.Lock()
        self._reopening = threading.Lock()
        self._checked: set[str] = set()
        self._unreachable: EndpointError | None = None

    @cached_property
    def filesystem(self) -> S3FileSystem:
        """The s3fs filesystem beneath, opened when it is first needed."""
        filesystem = self.connection.filesystem()
        filesystem.loop.call_soon_threadsafe(filesystem.loop.set_exception_handler, _quietly)
        return filesystem

    def check(self, bucket: str) -> None:
        """Ask a bucket for an answer, once; quickly, so that mistakes show early.

        Raises
        ------
        EndpointError, CredentialsError, BucketNotFound
            Whichever it is that keeps the bucket from answering.
        """
        # Who may read an object may still be forbidden to list its bucket.
        with contextlib.suppress(AccessDenied):
            self._first_page(S3Url(bucket), MaxKeys=1)

    def _first_page(self, url: S3Url, **query: Any) -> dict[str, Any] | None:
        """List a page of a bucket that nothing was asked of yet; of others, nothing."""
        with self._lock:
            if url.bucket in self._checked:
                return None
            if self._unreachable:
                # Thousands of objects may be asked for; one wait is enough.
                raise self._unreachable
            try:
                page = self._page(url, timeout=FIRST_ANSWER, **query)
            except AccessDenied:
                self._checked.add(url.bucket)
                raise
            except EndpointError as error:
                self._unreachable = error
                raise
            self._checked.add(url.bucket)
            return page

    def _page(self, url: S3Url, **query: Any) -> dict[str, Any]:
        return self.call("list_objects_v2", url, "list", **query)

    def head(self, url: S3Url) -> ObjectInfo | None:
        """Look at one object by one request; None if it is not there."""
        self.check(url.bucket)
        try:
            answer = self.call("head_object", url, "look at", Key=url.key)
        except ObjectNotFound:
            return None
        return ObjectInfo.from_answer(url.key, answer, "ContentLength")

    def pages(self, url: S3Url, *, recursive: bool, **limits: Any) -> Iterator[dict[str, Any]]:
        """List what lies below a folder, a page of up to 1,000 keys at a time."""
        query: dict[str, Any] = {"Prefix": url.key, **limits}
        if not recursive:
            query["Delimiter"] = "/"
        while True:
            page = self._first_page(url, **query) or self._page(url, **query)
            yield page
            if not page.get("IsTruncated") or "MaxKeys" in limits:
                return
            query["ContinuationToken"] = page["NextContinuationToken"]

    def list(self, url: S3Url, *, recursive: bool = False) -> Listing:
        """List a folder or bucket, directly below it or at any depth."""
        objects: dict[str, ObjectInfo] = {}
        folders: set[str] = set()
        for page in self.pages(url, recursive=recursive):
            for entry in page.get("Contents", ()):
                if not entry["Key"].endswith("/"):
                    info = ObjectInfo.from_answer(entry["Key"], entry, "Size")
                    objects[info.key] = info
            folders.update(prefix["Prefix"] for prefix in page.get("CommonPrefixes", ()))
        return Listing(objects, frozenset(folders))

    def has_objects(self, url: S3Url) -> bool:
        """Whether anything lies below a folder, by one request."""
        page = next(self.pages(url, recursive=True, MaxKeys=2))
        return any(not entry["Key"].endswith("/") for entry in page.get("Contents", ()))

    def remove(self, url: S3Url) -> None:
        """Delete an object, or all objects below a folder; never a bucket."""
        self.check(url.bucket)
        if not url.is_folder:
            self.call("delete_object", url, "delete", Key=url.key)
            return
        for key in self.list(url, recursive=True).objects:
            self.call("delete_object", url, "delete", Key=key)

    def uploads(self, url: S3Url) -> Sequence[dict[str, Any]]:
        """The uploads in parts that are under way below a folder or bucket, or for an object."""
        try:
            answer = self.call("list_multipart_uploads", url, "list", Prefix=url.key)
        except ObjectNotFound:
            # rclone's answer where there has never been one.
            return ()
        return tuple(answer.get("Uploads", ()))

    def call(
        self, method: str, url: S3Url, action: str, *, timeout: float | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """Send one request about `url`, and turn what goes wrong into a sentence.

        Parameters
        ----------
        method : str
            A method of the S3 client, such as ``head_object``.
        url : S3Url
            What it is about.
        action : str
            The verb for messages, as in "Not allowed to *list* s3://…".
        timeout : float, optional
            Seconds for the whole of it, retries included; without it, a store
            that does not answer is asked again for a while.
        """
        send = self._send if timeout else patiently(self._send)
        return send(method, url, action, timeout, **kwargs)

    def read(
        self,
        url: S3Url,
        info: ObjectInfo,
        start: int,
        size: int,
        write: Callable[[bytes, int], Any],
    ) -> None:
        """Read a piece of one version of an object; raises what s3fs raises.

        Parameters
        ----------
        url : S3Url
            The object.
        info : ObjectInfo
            The version.
        start, size : int
            Bytes.
        write : callable
            Is given each chunk as it comes, and its position in the object.
        """
        from fsspec.asyn import sync

        span = {"IfMatch": f'"{info.etag}"'}
        if size < info.size:
            span["Range"] = f"bytes={start}-{start + size - 1}"

        async def copy(files: S3FileSystem) -> None:
            answer = await files._call_s3("get_object", Bucket=url.bucket, Key=url.key, **span)
            # Some servers ignore the condition.
            if answer.get("ETag", "").strip('"') != info.etag:
                raise ObjectChanged(f"{url} was replaced while it was in use; start the run again.")
            position = start
            with contextlib.closing(answer["Body"]) as body:
                async for chunk in body.iter_chunks(CHUNK):
                    write(chunk, position)
                    position += len(chunk)
            if position != start + size:
                raise ConnectionError(f"{position - start} bytes came instead of {size}")

        self._renewing(lambda files: sync(files.loop, copy, files))

    def _send(
        self, method: str, url: S3Url, action: str, timeout: float | None, **kwargs: Any
    ) -> dict[str, Any]:
        from fsspec.asyn import sync

        def send(files: S3FileSystem) -> dict[str, Any]:
            answer: dict[str, Any] = sync(
                *(files.loop, files._call_s3, method), Bucket=url.bucket, timeout=timeout, **kwargs
            )
            return answer

        try:
            return self._renewing(send)
        except Exception as error:
            raise explained(error, url, action, self.connection) from error

    def _renewing(self, ask: Callable[[S3FileSystem], T]) -> T:
        """Ask, and once more with what the AWS provider chain gives now if a token has expired."""
        files = self.filesystem
        try:
            return ask(files)
        except Exception as error:
            # A HEAD request is answered without a code.
            may_be_expired = _code(error) in (*EXPIRED, "400")
            if not may_be_expired or self.connection.is_fixed:
                raise
        with self._reopening:
            if self.filesystem is files:
                del self.filesystem
        return ask(self.filesystem)


def _quietly(_: object, context: dict[str, Any]) -> None:
    """Keep what breaks behind a request that is repeated anyway out of the user's terminal."""
    log.debug(f"{context.get('message')}: {context.get('exception')!r}")


def _origin(error: Exception) -> Exception:
    """What s3fs was told; it hides the answer of the store in the cause."""
    return error.__cause__ if isinstance(error.__cause__, Exception) else error


def _code(error: Exception) -> str:
    response = getattr(_origin(error), "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def not_found(url: S3Url) -> ObjectNotFound:
    """The error for an object that should be in its bucket."""
    return ObjectNotFound(f"{url} is not in the bucket; check the name and its spelling.")


def explained(error: Exception, url: S3Url, action: str, connection: Connection) -> S3FuseError:
    """Find the sentence for what the S3 client raised.

    Parameters
    ----------
    error : Exception
        From s3fs.
    url : S3Url
        What was asked for.
    action : str
        A verb, as in "Not allowed to *list* s3://…".
    connection : Connection
        Who asked, and where.
    """
    import aiohttp
    import botocore.exceptions as boto
    from fsspec.exceptions import FSTimeoutError

    if isinstance(error, S3FuseError):
        return error
    origin = _origin(error)
    place = connection.place
    code = _code(error)

    match code:
        case "NoSuchBucket":
            return BucketNotFound(
                f"There is no bucket s3://{url.bucket} at {place}; check its name, or create it."
            )
        case "NoSuchKey" | "NoSuchUpload" | "404" | "NotFound":
            return not_found(url)
        case "412" | "PreconditionFailed":
            return ObjectChanged(f"{url} was replaced while it was in use; start the run again.")
        case "InvalidAccessKeyId":
            return CredentialsError(
                f"{place} does not know the access key used for s3://{url.bucket}; check "
                "the access key in your settings, environment or AWS profile."
            )
        case "SignatureDoesNotMatch":
            return CredentialsError(
                f"{place} rejects the secret key used for s3://{url.bucket}; check "
                "the secret key in your settings, environment or AWS profile."
            )
        case _ if code in EXPIRED:
            return CredentialsError(
                f"The session token used for s3://{url.bucket} has expired; sign in again."
            )
        case "RequestTimeTooSkewed":
            return CredentialsError(
                f"The clock of this machine differs too much from that of {place}, so "
                f"s3://{url.bucket} cannot be used; set the clock."
            )
        case "AccessDenied" | "403" | "Forbidden" | "AllAccessDisabled":
            return AccessDenied(
                f"Not allowed to {action} {url}; ask the owner of s3://{url.bucket} for "
                "the permission, or use other credentials."
            )
        case "PermanentRedirect" | "301" | "AuthorizationHeaderMalformed":
            return EndpointError(
                f"s3://{url.bucket} is in another region or at another endpoint than {place}; "
                "set region or endpoint_url."
            )
    if isinstance(origin, boto.ClientError) and is_passing(origin):
        return EndpointError(
            f"{place} keeps answering {code} when asked to {action} {url}; try again later."
        )
    if isinstance(origin, boto.NoCredentialsError | boto.PartialCredentialsError):
        return no_credentials(f"s3://{url.bucket}")
    if isinstance(origin, boto.ProfileNotFound):
        profile = connection.profile or os.environ.get("AWS_PROFILE")
        return CredentialsError(
            f"The AWS profile {profile!r} does not exist, so s3://{url.bucket} cannot "
            "be used; see `aws configure list-profiles`."
        )
    timeouts = (TimeoutError, FSTimeoutError, boto.ConnectTimeoutError, boto.ReadTimeoutError)
    if isinstance(origin, timeouts) or isinstance(error, timeouts):
        return EndpointError(
            f"{place} did not answer in time when asked to {action} {url}; "
            "check endpoint_url, the network and proxies."
        )
    broken = (boto.ConnectionError, boto.HTTPClientError, ConnectionError, aiohttp.ClientError)
    if isinstance(origin, broken) or isinstance(error, broken):
        return EndpointError(
            f"{place} cannot be reached, so s3://{url.bucket} cannot be used; "
            "check endpoint_url and that the service is up."
        )
    if isinstance(origin, PermissionError):
        return AccessDenied(f"Not allowed to {action} {url}: {origin}.")
    return S3FuseError(f"Could not {action} {url} at {place}: {error}.")
