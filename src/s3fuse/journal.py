"""Uploads in parts that are under way, noted on this node.

A process that is killed cannot abort its upload, and its parts would be paid
for without end.  Whoever comes next with the same connection aborts it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from s3fuse.errors import ObjectNotFound, S3FuseError
from s3fuse.rundir import UPLOADS, Node, Process, secure_directory
from s3fuse.store import Store
from s3fuse.urls import S3Url

log = logging.getLogger("s3fuse")

#: Seconds by which the clock of a store may differ from ours.
CLOCKS_DIFFER = 300.0


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
    def noted(self, store: Store, url: S3Url) -> Iterator[Callable[[str], None]]:
        """Note an upload while it lasts: first that it will be, then its number.

        Yields
        ------
        callable
            To be told the number that the store gave the upload.
        """
        directory = secure_directory(secure_directory(self.root) / UPLOADS)
        entry = directory / f"{uuid.uuid4().hex}.json"

        def note(upload: str | None) -> None:
            content = {
                "bucket": url.bucket,
                "key": url.key,
                "upload": upload,
                "since": time.time(),
                "identity": store.connection.identity,
                "node": asdict(Node.here()),
                "process": asdict(Process.of(os.getpid())),
            }
            temporary = entry.with_suffix(".new")
            temporary.write_text(json.dumps(content))
            temporary.replace(entry)

        note(None)
        try:
            yield note
        finally:
            entry.unlink(missing_ok=True)

    def abort_abandoned(self, store: Store) -> None:
        """Abort what processes that are gone have left, as far as `store` may."""
        for entry in self.root.glob(f"{UPLOADS}/*.json"):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                content = json.loads(entry.read_text())
                if self._is_abandoned(content) and content["identity"] == store.connection.identity:
                    self._abort(store, content)
                    entry.unlink(missing_ok=True)

    def _is_abandoned(self, content: dict[str, Any]) -> bool:
        node = Node(**content["node"])
        if node.is_elsewhere:
            return False
        process = Process(**content["process"])
        return node.boot != Node.here().boot or process.handle is None

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
        answer = store.call("list_multipart_uploads", url, "list", Prefix=url.key)
        return [
            each["UploadId"]
            for each in answer.get("Uploads", ())
            if each["Key"] == url.key
            and abs(each["Initiated"].timestamp() - content["since"]) < CLOCKS_DIFFER
        ]
