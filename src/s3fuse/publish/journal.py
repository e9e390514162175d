"""Uploads in parts that are under way, noted on this node.

A process that is killed cannot abort its upload, and its parts would be paid
for without end.  Whoever comes next with the same connection aborts it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s3fuse.errors import ObjectNotFound, S3FuseError
from s3fuse.node.directories import UPLOADS, existing_directory, secure_directory
from s3fuse.node.processes import is_left, write_note
from s3fuse.s3.store import Store
from s3fuse.urls import S3Url

log = logging.getLogger("s3fuse")

#: Seconds by which the clock of a store may differ from ours.
CLOCKS_DIFFER = 300.0


@dataclass
class Note:
    """A note of one upload.

    Attributes
    ----------
    store : Store
        Where it goes.
    url : S3Url
        The object to be.
    path : Path
        The note itself.
    is_kept : bool
        Whether it outlives the upload, because its parts do.
    """

    store: Store
    url: S3Url
    path: Path
    is_kept: bool = False

    def write(self, upload: str | None) -> None:
        """Write it, in one step, with the number of the upload if that is known."""
        write_note(
            self.path,
            bucket=self.url.bucket,
            key=self.url.key,
            upload=upload,
            since=time.time(),
            identity=self.store.connection.identity,
        )


class Journal:
    """The uploads of this user that are under way on this node.

    Parameters
    ----------
    root : Path
        The run-time directory.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @contextmanager
    def noted(self, store: Store, url: S3Url) -> Iterator[Note]:
        """Note an upload while it lasts: first that it will be, then its number.

        Yields
        ------
        Note
            To be told the number that the store gave the upload, and whether
            its parts are still there at the end.
        """
        directory = secure_directory(secure_directory(self.root) / UPLOADS)
        note = Note(store, url, directory / f"{uuid.uuid4().hex}.json")
        note.write(None)
        try:
            yield note
        finally:
            if not note.is_kept:
                note.path.unlink(missing_ok=True)

    @property
    def has_notes(self) -> bool:
        """Whether any upload is noted."""
        return bool(self._entries())

    @property
    def abandoned(self) -> int:
        """How many uploads processes that are gone have left."""
        return len(list(self._abandoned()))

    def abort_abandoned(self, store: Store) -> int:
        """Abort what processes that are gone have left, as far as `store` may; say how many."""
        aborted = 0
        for entry, content in self._abandoned():
            with contextlib.suppress(OSError):
                if content["identity"] == store.connection.identity:
                    self._abort(store, content)
                    entry.unlink(missing_ok=True)
                    aborted += 1
        return aborted

    def _entries(self) -> list[Path]:
        """List the notes, if no other user can write any."""
        directory = self.root / UPLOADS
        if existing_directory(self.root) and existing_directory(directory):
            return list(directory.glob("*.json"))
        return []

    def _abandoned(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        for entry in self._entries():
            # One that is removed meanwhile, or that nobody of us has written.
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                content = json.loads(entry.read_text())
                named = {name: content[name] for name in ("bucket", "key", "upload", "since")}
                if is_left(content):
                    yield entry, {**named, "identity": content["identity"]}

    def _abort(self, store: Store, content: dict[str, Any]) -> None:
        url = S3Url(content["bucket"], content["key"])
        try:
            store.check(url.bucket)
            for upload in self._numbers(store, url, content):
                with contextlib.suppress(ObjectNotFound):
                    store.call(
                        *("abort_multipart_upload", url, "write"), Key=url.key, UploadId=upload
                    )
                    log.info(f"Removed the parts of an upload to {url} that was cut.")
        except S3FuseError as error:
            log.warning(f"The parts of an upload to {url} that was cut are still there: {error}")
            raise OSError(str(error)) from error

    def _numbers(self, store: Store, url: S3Url, content: dict[str, Any]) -> list[str]:
        """The number of an upload; where its process was killed before it knew, what fits."""
        if content["upload"]:
            return [content["upload"]]
        return [
            each["UploadId"]
            for each in store.uploads(url)
            if each["Key"] == url.key
            and abs(each["Initiated"].timestamp() - content["since"]) < CLOCKS_DIFFER
        ]
