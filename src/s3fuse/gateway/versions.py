"""Which version of each key a mount shows."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from s3fuse.gateway.answers import Page
from s3fuse.gateway.catalogue import VIEWS, Catalogue, Seen
from s3fuse.gateway.upstream import MOST_KEYS, Upstream
from s3fuse.s3.objects import ObjectInfo, is_internal

#: Seconds after a look at a file within which it may be opened by whoever has looked.
OPENING = 0.5
#: Seconds for which that may put off a new version.
MOST_OPENING = 5.0


class Versions:
    """The versions that a mount shows: planned ones in views, of other keys the pinned or newest.

    Parameters
    ----------
    catalogue : Catalogue
        Views and pins.
    upstream : Upstream
        The bucket.
    is_open : callable
        Tells whether anybody has the file of a key open.
    """

    def __init__(
        self, catalogue: Catalogue, upstream: Upstream, is_open: Callable[[str], bool]
    ) -> None:
        self._catalogue, self._upstream, self._is_open = catalogue, upstream, is_open
        # When a key was shown last; those of a gateway before this one, just now.
        self._looked = dict.fromkeys(catalogue.seen, time.monotonic())
        # Since when another version is there.
        self._replaced: dict[str, float] = {}

    async def look(self, path: str) -> ObjectInfo | None:
        """Return the version of a path as it is to be shown now; None if there is none.

        Parameters
        ----------
        path : str
            A key of the bucket, or the path of an object in a view.
        """
        if path.startswith(VIEWS):
            return self._catalogue.entry(path)
        # What has an empty name is no file.
        if is_internal(path.removesuffix("/")) or path.startswith("/") or "//" in path:
            return None
        if pinned := self._catalogue.pinned(path):
            return pinned
        now = await self._upstream.head(path)
        if self._catalogue.revalidating:
            return self._revalidated(path, now)
        return self._catalogue.pin(path, now) if now else None

    async def shown(self, path: str) -> ObjectInfo | None:
        """Return the version of a path that was shown last, for whoever reads it."""
        seen = self._catalogue.seen.get(path)
        return seen.info if seen else await self.look(path)

    def is_folder(self, path: str) -> bool:
        """Tell whether a path, with its slash, is a directory of views; asks nothing."""
        return VIEWS.startswith(path) or (
            path.startswith(VIEWS) and self._catalogue.is_folder(path)
        )

    async def list(self, query: dict[str, str]) -> Page:
        """List a page; what is pinned is shown as it is pinned.

        Parameters
        ----------
        query : dict of str to str
            What was asked for, in the first or the second form of the request.
        """
        prefix = query.get("prefix", "")
        if prefix.startswith(VIEWS):
            after = query.get("continuation-token") or query.get("start-after")
            most = query.get("max-keys", "")
            return self._catalogue.page(
                prefix,
                query.get("delimiter", ""),
                after or query.get("marker", ""),
                min(int(most), MOST_KEYS) if most.isdecimal() else MOST_KEYS,
            )
        if is_internal(prefix.removesuffix("/")):
            return Page([], [])
        page = await self._upstream.list(query)
        if self._catalogue.revalidating:
            return page
        return replace(page, objects=[self._catalogue.pin(e.key, e) for e in page.objects])

    def _revalidated(self, path: str, now: ObjectInfo | None) -> ObjectInfo | None:
        """Decide between the version that was shown and the one that is there now.

        s3fs reads a file in pieces, and cannot be told that it is another one by now.  So
        a version stays as long as somebody has it open, or may be about to.
        """
        shown = self._catalogue.seen.get(path)
        moment = time.monotonic()
        if shown is None:
            if now is None:
                return None
            shown = Seen(now, now.mtime)
            self._catalogue.see(path, shown)
        elif now != shown.info and not self._may_be_open(path, moment):
            # s3fs drops what it has of a file if its time is newer by a second.
            if now is None:
                self._catalogue.see(path, None)
                return None
            shown = Seen(now, max(now.mtime, shown.mtime + 1))
            self._catalogue.see(path, shown)
        self._looked[path] = moment
        return replace(shown.info, mtime=shown.mtime)

    def _may_be_open(self, path: str, moment: float) -> bool:
        # Who looks all the time shall see the new one, too.
        is_new = moment - self._replaced.setdefault(path, moment) < MOST_OPENING
        was_looked_at = moment - self._looked.get(path, moment) < OPENING
        if (is_new and was_looked_at) or self._is_open(path):
            return True
        del self._replaced[path]
        return False
