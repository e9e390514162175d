"""Publish files as a run does that was planned just now."""

from __future__ import annotations

import tempfile
from pathlib import Path

from s3fuse.publish.journal import Journal
from s3fuse.publish.manifest import manifest_url
from s3fuse.publish.output import Output
from s3fuse.publish.publisher import Publisher, publish_file
from s3fuse.s3.objects import ObjectInfo
from s3fuse.s3.store import Store
from s3fuse.traffic import Traffic
from s3fuse.urls import S3Url


def publish(store: Store, path: Path, url: S3Url, journal: Journal | None = None) -> ObjectInfo:
    """Publish a file in place of what is there now."""
    return publish_file(store, journal or _journal(), path, url, store.head(url))


def publisher_of(store: Store, journal: Journal | None = None) -> Publisher:
    return Publisher(store, journal or _journal(), Traffic())


def publish_folder(store: Store, path: Path, folder: S3Url) -> list[ObjectInfo]:
    """Publish a directory in place of the folder that is there now."""
    output = Output(path, folder, store.head(manifest_url(folder)))
    (infos,) = publisher_of(store).publish([output]).values()
    return infos


def _journal() -> Journal:
    # Its own: a test may leave notes of a process that was killed, and is not.
    return Journal(Path(tempfile.mkdtemp()) / "s3fuse")
