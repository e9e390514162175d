"""One object on its way to the store: sent first, made visible later, and compared."""

from __future__ import annotations

import logging
import mimetypes
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import IO, Any

from s3fuse.errors import ObjectNotFound, PublishError, S3FuseError
from s3fuse.publish.commit import Change
from s3fuse.publish.journal import Journal, Note
from s3fuse.s3.etags import (
    content_md5,
    digests_of_parts,
    etag_of_digests,
    md5,
    md5_of,
    part_size_of,
)
from s3fuse.s3.objects import ObjectInfo
from s3fuse.s3.parts import PART_SIZE, part_by_part
from s3fuse.s3.store import Store
from s3fuse.s3.translate import store_code
from s3fuse.urls import S3Url

log = logging.getLogger("s3fuse")

#: Answers that tell that the object is not what the condition says.
LOST = ("412", "PreconditionFailed", "404", "NoSuchKey", "NotFound")
#: Answers that ask for the upload to be sent again.
CONFLICT = ("409", "ConditionalRequestConflict", "OperationAborted")
#: Answers of a store that knows no conditions, and refuses what it does not know.
UNKNOWN_CONDITION = ("501", "NotImplemented")
#: Bytes of bodies that a session has in memory at the same time.
MOST_IN_MEMORY = 16 * PART_SIZE
#: Seconds before an upload that was in conflict is sent again.
CONFLICT_PAUSE = 0.5
#: How often one object is tried to be made visible.
ATTEMPTS = 6


class Sender:
    """What all uploads of a session share.

    Parameters
    ----------
    store : Store
        Where to.
    journal : Journal
        Where uploads in parts are noted while they last.
    """

    def __init__(self, store: Store, journal: Journal) -> None:
        self.store, self.journal = store, journal
        self._left = MOST_IN_MEMORY
        self._changed = threading.Condition()
        # ETags of what may be visible though its publication failed.
        self._unconfirmed: dict[S3Url, set[str]] = {}

    @contextmanager
    def room_for(self, size: int) -> Iterator[None]:
        """Wait until so many bytes may be in memory, and hold them for a while."""
        size = min(size, MOST_IN_MEMORY)
        with self._changed:
            self._changed.wait_for(lambda: self._left >= size)
            self._left -= size
        try:
            yield
        finally:
            with self._changed:
                self._left += size
                self._changed.notify_all()

    def note(self, upload: Upload) -> None:
        """Note an upload that may be visible, though its publication may fail."""
        self._unconfirmed.setdefault(upload.url, set()).update(upload.possible_etags)

    def confirm(self, url: S3Url) -> None:
        """Forget what was noted of an object, as it is published."""
        self._unconfirmed.pop(url, None)

    def left_by_a_failure(self, url: S3Url) -> ObjectInfo | None:
        """Return an object that a failed publication of this session has made visible."""
        etags = self._unconfirmed.get(url)
        now = self.store.head(url) if etags else None
        return now if etags and now and now.etag in etags else None


class Upload:
    """A file that becomes an object.

    `stage` sends the file; as long as it is not completed, the store shows what was
    there before.  `complete` makes it visible in one step, if the object is still
    the one that the run was planned with.

    Parameters
    ----------
    sender : Sender
        What it shares with other uploads.
    path : Path
        The file.
    url : S3Url
        The object to be.
    replaces : ObjectInfo, optional
        The version that was there when the run was planned.
    """

    def __init__(self, sender: Sender, path: Path, url: S3Url, replaces: ObjectInfo | None) -> None:
        self.path, self.url, self.replaces = path, url, replaces
        self._status = path.stat()
        self._sender, self._store = sender, sender.store
        self._noted = ExitStack()
        self._note: Note | None = None
        self._id: str | None = None
        self._parts: list[dict[str, object]] = []
        self._answered, self._is_completed = "", False

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self._status.st_size

    @cached_property
    def _part_digests(self) -> list[bytes]:
        """The MD5 of each part; known without reading once they were sent."""
        return digests_of_parts(self.path)

    @cached_property
    def _digest(self) -> bytes:
        """The MD5 of the file; known without reading once it was sent in one piece."""
        digests = self._part_digests
        return digests[0] if len(digests) == 1 else bytes.fromhex(md5_of(self.path))

    @property
    def etags(self) -> tuple[str, str]:
        """What the ETag of the object may be, by the content of the file.

        An upload in one piece has the MD5 of the content, one in parts an MD5 of MD5s and
        their number; some stores give the MD5 of the content to both.
        https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html
        """
        return self._digest.hex(), etag_of_digests(self._part_digests)

    @property
    def possible_etags(self) -> set[str]:
        """What the ETag of the object may be, by the file and by the answer of the store."""
        return {*self.etags, self._answered} - {""}

    @property
    def change(self) -> Change:
        """What becomes of the object, for the record of a commit."""
        return Change(self.url, self.old_etag, self.etags)

    @property
    def old_etag(self) -> str | None:
        """The ETag of the version that is replaced; None if there is none."""
        return self.replaces.etag if self.replaces else None

    def publish(self) -> ObjectInfo:
        """Publish the file alone, which S3 does in one step; see `complete` and `verify`."""
        try:
            self.stage(invisibly=False)
            self.complete()
        except BaseException:
            self.abort()
            raise
        return self.verify(self._store.head(self.url))

    def stage(self, *, invisibly: bool) -> None:
        """Send the file, as far as that can be done before it becomes visible.

        Parameters
        ----------
        invisibly : bool
            Send small files, too, and not only at the end.
        """
        if not invisibly and self.size < 2 * PART_SIZE:
            return
        self._note = self._noted.enter_context(self._sender.journal.noted(self._store, self.url))
        answer = self._call("create_multipart_upload", **_content_type(self.url))
        self._id = answer["UploadId"]
        self._note.write(self._id)
        part_size = part_size_of(self.path)
        count = max(1, -(-self.size // part_size))
        sent = part_by_part(self._send_part, range(1, count + 1))
        self._parts = [part for part, _ in sent]
        self._part_digests = [digest for _, digest in sent]

    def complete(self) -> None:
        """Make the object visible, if it is still what it was.

        Raises
        ------
        PublishError
            If somebody else has replaced it.
        S3FuseError
            If the store refuses it; the old object is then unharmed.
        """
        # Conditions with a quoted ETag, as S3 gives it; without quotes, as Ceph 16
        # understands it; and none, for stores that refuse what is there.
        forms = [f'"{self.old_etag}"', self.old_etag, None] if self.replaces else ["*", None]
        for _ in range(ATTEMPTS):
            try:
                self._answered = self._make_visible(forms[0])
                self._is_completed = True
                break
            except S3FuseError as error:
                code, last = store_code(error), error
                now = self._look(error)
                if self._is_visible(now):
                    # The answer to a request before was lost, and the upload is no more; or
                    # another run has published the same, and the parts are still there.
                    self.abort()
                    return
                if code in CONFLICT:
                    time.sleep(CONFLICT_PAUSE)
                    self._restage()
                elif code in UNKNOWN_CONDITION and len(forms) > 1:
                    forms.pop(0)
                elif code not in LOST:
                    raise
                elif now is None and forms[0] != "*":
                    # Somebody has deleted what was there, so nobody loses anything.
                    forms = ["*", None]
                elif (now.etag if now else None) == self.old_etag and len(forms) > 1:
                    forms.pop(0)
                else:
                    raise PublishError(
                        f"{self.url} was replaced since this run was planned, so it was not "
                        "published; start the run again."
                    ) from error
        else:
            raise last
        self._id = None
        self._noted.close()

    def abort(self) -> None:
        """Drop what was sent and is not visible."""
        if self._id is not None:
            try:
                self._call("abort_multipart_upload", UploadId=self._id)
            except ObjectNotFound:
                pass
            except S3FuseError as error:
                log.warning(
                    f"The parts of the failed upload to {self.url} are still there: {error}"
                )
                if self._note:
                    self._note.is_kept = True
            self._id = None
        self._noted.close()

    def verify(self, info: ObjectInfo | None) -> ObjectInfo:
        """Compare what the store has with what was sent.

        Raises
        ------
        PublishError
            If they differ.
        """
        if _identity(self.path.stat()) != _identity(self._status):
            raise PublishError(
                f"{self.path} was changed while it was uploaded to {self.url}; let no process "
                "write to an output when its job has ended."
            )
        if info is None:
            raise PublishError(
                f"{self.url} is not in the bucket after its upload; start the run again."
            )
        if info.size != self.size:
            raise PublishError(
                f"{self.url} has {info.size} bytes after an upload of {self.size}; "
                "start the run again."
            )
        if not self.is_in(info):
            raise PublishError(f"{self.url} differs from what was uploaded; start the run again.")
        return info

    def is_in(self, info: ObjectInfo) -> bool:
        """Tell whether a version of the object is known to be the file."""
        if info.size != self.size:
            return False
        if info.tells_content:
            if "-" in info.etag:
                return info.etag == etag_of_digests(self._part_digests)
            return info.etag == self._digest.hex()
        if info.etag in self.etags:
            return True
        # Under SSE-KMS and SSE-C only the answer to the upload tells the ETag; Ceph 16 gives
        # none at the end of an upload in parts.
        if self._answered:
            return info.etag == self._answered
        return self._is_completed and info.etag != self.old_etag

    def _is_visible(self, now: ObjectInfo | None) -> bool:
        """Tell whether the object is the file, and not by having been the same before."""
        if now is None or not self.is_in(now):
            return False
        before = self.replaces
        return before is None or now.etag != before.etag or now.mtime > before.mtime

    def _send_part(self, number: int) -> tuple[dict[str, object], bytes]:
        """Send a part; return how it is named when all are put together, and its MD5."""
        part_size = part_size_of(self.path)
        with self._sender.room_for(part_size), self.path.open("rb") as file:
            file.seek((number - 1) * part_size)
            body = file.read(part_size)
            digest = md5(body)
            answer = self._call(
                "upload_part",
                UploadId=self._id,
                PartNumber=number,
                Body=body,
                ContentMD5=content_md5(digest),
            )
        return {"PartNumber": number, "ETag": answer["ETag"]}, digest

    def _make_visible(self, expected: str | None) -> str:
        """Send the request that makes the object visible; return the ETag of its answer."""
        options: dict[str, Any] = {}
        if expected:
            options["IfNoneMatch" if expected == "*" else "IfMatch"] = expected
        if self._id is None:
            with self._sender.room_for(self.size):
                # The store compares the MD5 before it replaces anything.
                body = self.path.read_bytes()
                self._digest = md5(body)
                options |= {"Body": body, "ContentMD5": content_md5(self._digest)}
                answer = self._call("put_object", **options, **_content_type(self.url))
        else:
            options |= {"UploadId": self._id, "MultipartUpload": {"Parts": self._parts}}
            answer = self._call("complete_multipart_upload", **options)
        return str(answer.get("ETag") or "").strip('"')

    def _restage(self) -> None:
        if self._id is not None:
            self.abort()
            self.stage(invisibly=True)

    def _look(self, error: S3FuseError) -> ObjectInfo | None:
        with suppress(S3FuseError):
            return self._store.head(self.url)
        raise error

    def _call(self, method: str, **options: Any) -> dict[str, Any]:
        return self._store.call(method, self.url, "write", Key=self.url.key, **options)


@contextmanager
def nameless_file() -> Iterator[tuple[IO[bytes], Path]]:
    """Open a temporary file that goes with its process, however that ends.

    Yields
    ------
    file
        The file, to be written.
    Path
        Where this process can read it.
    """
    with tempfile.TemporaryFile() as file:
        yield file, Path(f"/proc/self/fd/{file.fileno()}")


def _identity(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_size, status.st_mtime_ns


def _content_type(url: S3Url) -> dict[str, str]:
    # Without the lists of this machine, which take a tenth of a second to read.
    content_type, _ = mimetypes.MimeTypes().guess_type(url.key)
    return {"ContentType": content_type} if content_type else {}
