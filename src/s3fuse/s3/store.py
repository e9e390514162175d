"""The control plane: what is in a bucket, by the S3 API and never a mount."""

from __future__ import annotations

import contextlib
import io
import logging
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import IO, TYPE_CHECKING, Any, TypeVar

from s3fuse.errors import (
    AccessDenied,
    CredentialsError,
    EndpointError,
    ObjectNotFound,
    S3FuseError,
)
from s3fuse.s3.client import Client
from s3fuse.s3.connection import Connection
from s3fuse.s3.objects import Listing, ObjectInfo, is_internal
from s3fuse.s3.retries import patiently
from s3fuse.s3.translate import code_of, endless, explained, incomplete, unfinished
from s3fuse.urls import S3Url

if TYPE_CHECKING:
    from s3fs import S3FileSystem

log = logging.getLogger("s3fuse")

T = TypeVar("T")

#: Seconds within which a bucket must answer the first request to it.
FIRST_ANSWER = 10.0
#: Codes of answers to HEAD, which have no body, behind which any refusal may be.
WITHOUT_REASON = ("400", "403")
#: Keys among which one of an object is looked for.
FEW = 10


class Store:
    """One S3 store, seen with one set of credentials.  Safe to share by threads.

    Parameters
    ----------
    connection : Connection
        Where it is and who asks.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._client = Client(connection)
        self._lock = threading.Lock()
        self._checked: set[str] = set()
        self._unreachable: EndpointError | None = None

    @property
    def filesystem(self) -> S3FileSystem:
        """The s3fs filesystem beneath, opened when it is first needed."""
        return self._client.filesystem

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

    def has_answered(self, bucket: str) -> bool:
        """Tell whether a bucket has given an answer so far; asks nothing."""
        with self._lock:
            return bucket in self._checked

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

    def part_size(self, url: S3Url, info: ObjectInfo, number: int) -> int | None:
        """Return the bytes of a part, from 1 on, of an upload; None if the store says none.

        Raises
        ------
        EndpointError
            If the store does not answer.
        """
        asked: dict[str, Any] = {"Key": url.key, "PartNumber": number, "IfMatch": f'"{info.etag}"'}
        try:
            return int(self.call("head_object", url, "look at", **asked)["ContentLength"])
        except EndpointError:
            raise
        except S3FuseError:
            return None

    def pages(self, url: S3Url, *, recursive: bool, **limits: Any) -> Iterator[dict[str, Any]]:
        """List what lies below a folder, a page of up to 1,000 keys at a time.

        Raises
        ------
        ListingError
            If the store says that more follows, and does not tell how to go on.
        """
        query: dict[str, Any] = {"Prefix": url.key, **limits}
        if not recursive:
            query["Delimiter"] = "/"
        used: set[str] = set()
        empty = 0
        while True:
            page = self._first_page(url, **query) or self._page(url, **query)
            yield page
            if not page.get("IsTruncated") or "MaxKeys" in limits:
                return
            empty = 0 if page.get("Contents") or page.get("CommonPrefixes") else empty + 1
            token = str(page.get("NextContinuationToken") or "")
            if reason := endless(token, used, empty):
                raise unfinished(url, reason, self.connection)
            used.add(token)
            query["ContinuationToken"] = token

    def list(self, url: S3Url, *, recursive: bool = False) -> Listing:
        """List a folder or bucket, directly below it or at any depth."""
        objects: dict[str, ObjectInfo] = {}
        internal: dict[str, ObjectInfo] = {}
        folders: set[str] = set()
        for page in self.pages(url, recursive=recursive):
            for entry in page.get("Contents", ()):
                if not entry["Key"].endswith("/"):
                    info = ObjectInfo.from_answer(entry["Key"], entry, "Size")
                    (internal if is_internal(info.key) else objects)[info.key] = info
            folders.update(prefix["Prefix"] for prefix in page.get("CommonPrefixes", ()))
        return Listing(objects, frozenset(folders), internal)

    def has_objects(self, url: S3Url) -> bool:
        """Whether anything lies below a folder, by one request."""
        page = next(self.pages(url, recursive=True, MaxKeys=FEW))
        keys = [entry["Key"] for entry in page.get("Contents", ())]
        return any(not key.endswith("/") and not is_internal(key) for key in keys)

    def remove(self, url: S3Url) -> None:
        """Delete an object, or all objects below a folder; never a bucket."""
        self.check(url.bucket)
        if not url.is_folder:
            self.call("delete_object", url, "delete", Key=url.key)
            return
        listing = self.list(url, recursive=True)
        for key in (*listing.objects, *listing.internal):
            self.call("delete_object", url, "delete", Key=key)

    def get(self, url: S3Url, info: ObjectInfo) -> bytes:
        """Read one version of a small object, whole; see `get_into`."""
        content = io.BytesIO()
        self.get_into(url, info, content)
        return content.getvalue()

    def get_into(self, url: S3Url, info: ObjectInfo, file: IO[bytes]) -> None:
        """Read one version of an object into a file, in one request.

        Raises
        ------
        ObjectChanged
            If it was replaced.
        S3FuseError
            If it cannot be read.
        """

        def write(chunk: bytes, position: int) -> None:
            file.seek(position)
            file.write(chunk)

        try:
            self.read(url, info, 0, info.size, write)
        except Exception as error:
            raise explained(error, url, "read", self.connection) from error

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
        send = self._send if timeout else patiently()(self._send)
        return send(method, url, action, timeout, **kwargs)

    def read(
        self,
        url: S3Url,
        info: ObjectInfo,
        start: int,
        size: int,
        write: Callable[[bytes, int], Any],
    ) -> None:
        """Read a piece of one version of an object; see `s3fuse.s3.client.Client.read`."""
        self._wait(self._client.read, None, url, info, start, size, write)

    def _send(
        self, method: str, url: S3Url, action: str, timeout: float | None, **kwargs: Any
    ) -> dict[str, Any]:
        try:
            answer = self._wait(self._client.request, timeout, method, Bucket=url.bucket, **kwargs)
        except Exception as error:
            if method == "head_object" and code_of(error) in WITHOUT_REASON:
                self._refuse_credentials(url)
            raise explained(error, url, action, self.connection) from error
        if wrong := incomplete(method, answer, url, action, self.connection):
            raise wrong
        return answer

    def _refuse_credentials(self, url: S3Url) -> None:
        """Raise what is wrong with the credentials, by a request whose answer has a body.

        Raises
        ------
        CredentialsError
            If it is they that the store refuses.
        """
        try:
            self._page(url, MaxKeys=1)
        except CredentialsError:
            raise
        except S3FuseError:
            # The request before had another reason, which is said of that.
            return

    def _wait(
        self,
        ask: Callable[..., Coroutine[Any, Any, T]],
        timeout: float | None,
        *args: Any,
        **kwargs: Any,
    ) -> T:
        """Run a coroutine of the client in fsspec's event loop."""
        from fsspec.asyn import sync

        answer: T = sync(self.filesystem.loop, ask, *args, timeout=timeout, **kwargs)
        return answer
