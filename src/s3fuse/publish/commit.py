"""Commit records: what is about to change in a bucket, until all of it has.

S3 replaces one object in one step, and has no step for several.  So before the
outputs of a job become visible, a record of the changes is written into each
folder that they lie in, and removed when all of them are verified.  A run that
finds a record compares it with the bucket: where some objects are as before and
others are not, a publication was cut, and all of its outputs are made again.
The record lies where Snakemake's plan lists objects anyway, so that looking for
one costs no request.
"""

from __future__ import annotations

import enum
import json
import uuid
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from s3fuse.errors import AccessDenied, ObjectChanged, ObjectNotFound, PublishError
from s3fuse.node.processes import this_process
from s3fuse.s3.objects import INTERNAL, ObjectInfo
from s3fuse.s3.store import Store
from s3fuse.urls import S3Url

#: How the last part of the key of a record begins.
NAME = f"{INTERNAL}commit-"


class State(enum.Enum):
    """How an object is, compared with a change."""

    OLD = enum.auto()
    NEW = enum.auto()
    OTHER = enum.auto()


@dataclass(frozen=True)
class Change:
    """One object that is replaced, made or deleted.

    Attributes
    ----------
    url : S3Url
        The object.
    old : str, optional
        Its ETag before; None if there was no object.
    new : tuple of (str or None)
        What its ETag may be afterwards, as stores differ in that of an upload in
        parts; None for an object that is deleted.
    """

    url: S3Url
    old: str | None
    new: tuple[str | None, ...]

    def state(self, now: str | None) -> State:
        """Compare the ETag that an object has now with those of the change."""
        if now == self.old and now not in self.new:
            return State.OLD
        return State.NEW if now in self.new else State.OTHER


@dataclass(frozen=True)
class CommitRecord:
    """The changes of one commit.

    Attributes
    ----------
    outputs : tuple of S3Url
        The objects and folders that a job has written.
    folders : tuple of S3Url
        Where the record is written: the folder of each object, and each folder itself.
    changes : tuple of Change
        The objects that change.
    name : str
        The last part of its key in each folder.
    writer : dict
        The node and the process that commit, for people who look at the record.
    """

    outputs: tuple[S3Url, ...]
    folders: tuple[S3Url, ...]
    changes: tuple[Change, ...]
    name: str = field(default_factory=lambda: f"{NAME}{uuid.uuid4().hex}.json")
    writer: dict[str, Any] = field(default_factory=this_process)

    def is_mixed(self, now: Callable[[S3Url], str | None]) -> bool:
        """Tell whether some of the objects have changed and others have not.

        Parameters
        ----------
        now : callable
            Returns the ETag that an object has; None if there is none.
        """
        # An object whose content stays the same tells nothing.
        telling = (change for change in self.changes if change.old not in change.new)
        return len({change.state(now(change.url)) for change in telling}) > 1

    def is_outdated(self, url: S3Url, etag: str | None) -> bool:
        """Tell whether an object has been published anew since, and is no part of this commit."""
        return any(each.url == url and each.state(etag) is State.OTHER for each in self.changes)

    def write(self, store: Store) -> None:
        """Write the record into each folder."""
        content = {
            "version": 1,
            "outputs": [str(url) for url in self.outputs],
            "folders": [str(url) for url in self.folders],
            "changes": [
                {"object": str(each.url), "old": each.old, "new": each.new} for each in self.changes
            ],
            "writer": self.writer,
        }
        body = json.dumps(content, indent=1).encode()
        for folder in self.folders:
            url = folder.child(self.name)
            store.call("put_object", url, "write", Key=url.key, Body=body)

    def remove(self, store: Store) -> None:
        """Remove the record from each folder; where that is forbidden, empty it."""
        for folder in self.folders:
            url = folder.child(self.name)
            try:
                store.call("delete_object", url, "delete", Key=url.key)
            except ObjectNotFound:
                continue
            except AccessDenied:
                replace(self, outputs=(), folders=(folder,), changes=()).write(store)

    @classmethod
    def parse(cls, text: bytes, url: S3Url) -> CommitRecord:
        """Read a record.

        Raises
        ------
        PublishError
            If it is none.
        """
        try:
            content = json.loads(text)
            outputs = tuple(map(S3Url.parse, content["outputs"]))
            folders = tuple(map(S3Url.parse, content["folders"]))
            changes = tuple(
                Change(S3Url.parse(each["object"]), each["old"], tuple(each["new"]))
                for each in content["changes"]
            )
            writer = dict(content["writer"])
        except (ValueError, TypeError, KeyError, AttributeError):
            raise PublishError(
                f"{url} is no record of a publication; delete it, and start the run again."
            ) from None
        return cls(outputs, folders, changes, url.key.rpartition("/")[2], writer)


def records(store: Store, bucket: str, internal: Collection[ObjectInfo]) -> list[CommitRecord]:
    """Read the commit records among this project's own objects of a listing.

    Raises
    ------
    PublishError
        If one of them cannot be read.
    """
    found = []
    for info in internal:
        if info.key.rpartition("/")[2].startswith(NAME):
            url = S3Url(bucket, info.key)
            # One that goes meanwhile is of a commit that has come to its end.
            with suppress(ObjectNotFound, ObjectChanged):
                found.append(CommitRecord.parse(store.get(url, info), url))
    return found


def records_beside(store: Store, folder: S3Url) -> list[CommitRecord]:
    """Read the commit records in a folder, by one small listing.

    Where listing is forbidden, none are known.
    """
    try:
        listing = store.list(S3Url(folder.bucket, f"{folder.key}{NAME}"))
    except AccessDenied:
        return []
    return records(store, folder.bucket, listing.internal.values())
