"""Answers for planning: one listing for a folder instead of a request for an object."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass

from s3fuse.errors import AccessDenied
from s3fuse.s3.objects import Listing, ObjectInfo, is_internal
from s3fuse.s3.parts import all_at_once
from s3fuse.s3.store import Store
from s3fuse.urls import S3Url


@dataclass(frozen=True)
class Answer:
    """What is known of an object.

    Attributes
    ----------
    info : ObjectInfo, optional
        Its version; None if there was no object.
    """

    info: ObjectInfo | None


class Listings:
    """What the store held when it was first asked about each folder.

    Good for planning, when thousands of questions are asked within seconds
    and nothing is changing yet.  Once jobs run, ask the store itself.

    Parameters
    ----------
    store : Store
        Where to look.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._folders: dict[S3Url, Listing | None] = {}
        self._trees: dict[S3Url, Listing] = {}
        self._objects: dict[S3Url, ObjectInfo] = {}
        self._given: dict[S3Url, ObjectInfo] = {}

    def give(self, url: S3Url, infos: Iterable[ObjectInfo]) -> None:
        """Take what another process was told of an object or a whole folder, and ask no more."""
        infos = list(infos)
        if url.is_folder:
            internal = {info.key: info for info in infos if is_internal(info.key)}
            objects = {info.key: info for info in infos if not is_internal(info.key)}
            self._trees[url] = Listing(objects, frozenset(), internal)
        else:
            self._given[url] = infos[0]

    def listing(self, folder: S3Url) -> Listing | None:
        """What lies directly in a folder; None where listing is forbidden."""
        with self._lock:
            if folder not in self._folders:
                try:
                    self._folders[folder] = self._store.list(folder)
                except AccessDenied:
                    self._folders[folder] = None
            return self._folders[folder]

    def all(self, folders: Iterable[S3Url]) -> list[Listing]:
        """List folders, many at the same time.

        Raises
        ------
        AccessDenied
            If one of them may not be listed.
        """
        folders = list(folders)

        def ask(folder: S3Url) -> None:
            listing = self._store.list(folder)
            with self._lock:
                self._folders[folder] = listing

        all_at_once(ask, [each for each in folders if not self.has_listed(each)])
        return [self._folders[folder] or self._store.list(folder) for folder in folders]

    def object(self, url: S3Url) -> ObjectInfo | None:
        """Look up one object."""
        if given := self._given.get(url):
            return given
        listing = self.listing(url.parent)
        if listing is None:
            return self._store.head(url)
        return listing.objects.get(url.key)

    def look(self, url: S3Url) -> ObjectInfo | None:
        """Look up one object without listing its folder; what is there is asked for once."""
        found = self.remembered(url) or self._store.head(url)
        if found is not None:
            self._objects[url] = found
        return found

    def is_folder(self, url: S3Url) -> bool:
        """Whether objects lie below ``url/``."""
        prefix = url.key if url.is_folder else f"{url.key}/"
        listing = self.listing(url.parent)
        return listing is not None and prefix in listing.folders

    def has_listed(self, folder: S3Url) -> bool:
        """Whether a folder was listed so far; asks nothing."""
        return self._remembered(folder) is not None

    def remembered(self, url: S3Url) -> ObjectInfo | None:
        """What an object was when it or its folder was first asked for; asks nothing."""
        if given := self._given.get(url):
            return given
        listing = self._remembered(url.parent)
        listed = listing.objects.get(url.key) if listing else None
        return listed or self._objects.get(url)

    def planned(self, url: S3Url) -> Answer | None:
        """Return what is known of an object since it or its folder was asked for; asks nothing.

        Returns
        -------
        Answer, optional
            None if nothing is known.
        """
        if info := self.remembered(url):
            return Answer(info)
        listing = self._remembered(url.parent)
        trees = (tree for folder, tree in self._trees.items() if url.is_below(folder))
        for found in (listing, *trees):
            if found is not None:
                return Answer(found.internal.get(url.key) or found.objects.get(url.key))
        # A folder that the listing around it lacks has nothing in it.
        folder = url.parent
        while folder.key:
            around = self._remembered(folder.parent)
            if around is not None:
                return None if folder.key in around.folders else Answer(None)
            folder = folder.parent
        return None

    def has_seen(self, url: S3Url) -> bool:
        """Whether an object or folder was in a listing so far; asks nothing."""
        listing = self._remembered(url.parent)
        return listing is not None and (url.key in listing.objects or url.key in listing.folders)

    def _remembered(self, folder: S3Url) -> Listing | None:
        with self._lock:
            return self._folders.get(folder)

    def tree(self, folder: S3Url) -> Listing:
        """Everything below a folder, at any depth."""
        with self._lock:
            if folder not in self._trees:
                self._trees[folder] = self._store.list(folder, recursive=True)
            return self._trees[folder]
