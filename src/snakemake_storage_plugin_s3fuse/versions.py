"""Which version of each object a run plans with, reads and has published."""

from __future__ import annotations

import enum
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from s3fuse.errors import ObjectChanged
from s3fuse.s3.listings import Listings
from s3fuse.s3.objects import ObjectInfo
from s3fuse.s3.parts import CONCURRENCY
from s3fuse.s3.store import Store
from s3fuse.urls import S3Url
from snakemake_storage_plugin_s3fuse.workflow_state import WorkflowState


class Source(enum.Enum):
    """Where the answer to a question about an object comes from."""

    #: This process has retrieved, published or removed the object.
    RUN = enum.auto()
    #: The folder is listed once while Snakemake plans.
    PLAN = enum.auto()
    #: The folder was listed, and no other process writes into it.
    LISTING = enum.auto()
    #: No job of this run writes the object, so the first answer of the store stays valid.
    FIRST_LOOK = enum.auto()
    #: Another process may have published the object at any moment.
    STORE = enum.auto()


class Versions:
    """The versions of objects in one run.  Safe to share by threads.

    Parameters
    ----------
    store : Store
        Is asked where nothing else can tell.
    listings : Listings
        What the store held when it was first asked.
    workflow : WorkflowState
        Tells whether Snakemake plans, and which rules write what.
    """

    def __init__(self, store: Store, listings: Listings, workflow: WorkflowState) -> None:
        self._store, self._listings, self._workflow = store, listings, workflow
        self._lock = threading.Lock()
        self._current: dict[S3Url, ObjectInfo | None] = {}
        self._linked: dict[S3Url, ObjectInfo] = {}
        self._superseded: set[S3Url] = set()
        self._created: set[S3Url] = set()

    # What is asked.

    def current(self, url: S3Url, path: Path) -> ObjectInfo | None:
        """Return the version of an object that a job of this run would get now.

        Parameters
        ----------
        url : S3Url
            An object; folders have no version.
        path : Path
            Its local path, by which rules name it.

        Returns
        -------
        ObjectInfo, optional
            None if there is no such object.
        """
        if url.is_folder:
            return None
        match self._source(url, path):
            case Source.RUN:
                return self._current[url]
            case Source.PLAN:
                return self._listings.object(url)
            case Source.LISTING:
                return self._listings.remembered(url)
            case Source.FIRST_LOOK:
                return self._listings.look(url)
            case Source.STORE:
                return self._store.head(url)

    def answers_at_once(self, url: S3Url, path: Path) -> bool:
        """Tell whether `current` knows an object without a request."""
        if url.is_folder or self.is_superseded(url):
            return False
        match self._source(url, path):
            case Source.RUN:
                return self._current[url] is not None
            case Source.LISTING | Source.FIRST_LOOK:
                return self._listings.remembered(url) is not None
            case _:
                return False

    def contents(self, url: S3Url) -> list[ObjectInfo]:
        """Return the objects below a folder, at any depth."""
        folder = url.child("")
        if self._workflow.is_planning:
            listing = self._listings.tree(folder)
        else:
            listing = self._store.list(folder, recursive=True)
        return list(listing.objects.values())

    def has_contents(self, url: S3Url) -> bool:
        """Tell whether there is an object below a folder."""
        if self._workflow.is_planning:
            return self._listings.is_folder(url)
        return self._store.has_objects(url.child(""))

    def planned(self, url: S3Url) -> ObjectInfo | None:
        """Return the version that Snakemake planned with; None where it did not ask."""
        return self._listings.remembered(url)

    def is_superseded(self, url: S3Url) -> bool:
        """Tell whether a job of this run is about to replace an object or folder."""
        with self._lock:
            return url in self._superseded

    def is_created(self, url: S3Url) -> bool:
        """Tell whether this process has published an object where there was none."""
        with self._lock:
            return url in self._created

    # What is told.

    def retrieved(self, url: S3Url, info: ObjectInfo, *, linked: bool) -> None:
        """Note the version that a job was given, as a link into a mount or as a copy."""
        with self._lock:
            self._current[url] = info
            if linked:
                self._linked[url] = info

    def supersede(self, url: S3Url) -> None:
        """Note that a job is about to replace an object or folder."""
        with self._lock:
            self._superseded.add(url)

    def published(self, url: S3Url, infos: list[ObjectInfo]) -> None:
        """Note that an object or folder was published, and what it holds now."""
        with self._lock:
            seen = (url, url.child(""))
            replaces = url in self._superseded or any(map(self._listings.has_seen, seen))
            self._superseded.discard(url)
            if not replaces:
                self._created.add(url)
            if [info.key for info in infos] == [url.key]:
                self._current[url] = infos[0]

    def removed(self, url: S3Url) -> None:
        """Note that an object or folder was removed."""
        with self._lock:
            self._current[url] = None
            self._created.discard(url)

    # What is refused.

    def refuse_if_changed(self, url: S3Url, path: Path, info: ObjectInfo) -> None:
        """Notice an input that was replaced since Snakemake planned with it.

        Raises
        ------
        ObjectChanged
            If it was, and no rule writes it.
        """
        planned = self.planned(url)
        if planned is None or planned.etag == info.etag:
            return
        # What a rule writes changes while a workflow runs.
        if not self._workflow.is_output(path):
            raise ObjectChanged(
                f"{url} was replaced after this run was planned; start the run again."
            )

    def refuse_if_inputs_changed(self, output: S3Url, inputs: Iterable[tuple[S3Url, Path]]) -> None:
        """Notice inputs that were replaced while the job read them through a mount.

        A mount reads a file in pieces, so a result may mix two versions.

        Parameters
        ----------
        output : S3Url
            What the job has written.
        inputs : iterable of (S3Url, Path)
            The inputs of the job and their local paths.

        Raises
        ------
        ObjectChanged
            If one of the inputs is no longer the version that was linked.
        """
        versions = self._linked_versions(inputs)
        if not versions:
            return
        with ThreadPoolExecutor(min(len(versions), CONCURRENCY)) as pool:
            now = pool.map(self._store.head, versions)
        for (url, version), found in zip(versions.items(), now, strict=True):
            if found is None or version is None or found.etag != version.etag:
                raise ObjectChanged(
                    f"{url} was replaced while a job read it, so {output} was not "
                    "published; start the run again."
                )

    def _linked_versions(
        self, inputs: Iterable[tuple[S3Url, Path]]
    ) -> dict[S3Url, ObjectInfo | None]:
        """Return the versions of the inputs that are links; None for one that is not known.

        In a step of a batch job, the process around it has made the links, with the
        times of the objects, and this one has looked the objects up when it started:
        if these differ, no version is known.
        """
        versions: dict[S3Url, ObjectInfo | None] = {}
        for url, link in inputs:
            if url in self._linked:
                versions[url] = self._linked[url]
            elif url.key and not url.is_folder and link.is_symlink():
                seen = self.planned(url)
                is_linked = seen and int(seen.mtime) == int(link.lstat().st_mtime)
                versions[url] = seen if is_linked else None
        return versions

    def _source(self, url: S3Url, path: Path) -> Source:
        """Decide where the answer about an object comes from."""
        if url in self._current:
            return Source.RUN
        if self._workflow.is_planning:
            return Source.PLAN
        if not self._workflow.may_change(path):
            return Source.FIRST_LOOK
        # Where all jobs run under this process, it knows of all that they have published.
        if self._workflow.runs_here and self._listings.has_listed(url.parent):
            return Source.LISTING
        return Source.STORE
