"""Which version of each object a run plans with, reads and has published."""

from __future__ import annotations

import enum
import logging
import threading
from dataclasses import dataclass
from pathlib import Path

from s3fuse.errors import ObjectChanged, PublishError
from s3fuse.publish.commit import CommitRecord, records
from s3fuse.publish.manifest import Manifest, manifest_url, read_manifest
from s3fuse.s3.listings import Listings
from s3fuse.s3.objects import Listing, ObjectInfo
from s3fuse.s3.store import Store
from s3fuse.urls import S3Url
from snakemake_storage_plugin_s3fuse.plan import Plan
from snakemake_storage_plugin_s3fuse.workflow_state import WorkflowState

log = logging.getLogger("s3fuse")


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


@dataclass(frozen=True)
class Folder:
    """A folder that is there.

    Attributes
    ----------
    infos : list of ObjectInfo
        Its objects.
    mtime : float
        When it was published: the time of its manifest, or of its latest object.
    manifest : ObjectInfo, optional
        Its manifest; None if others wrote the folder.
    """

    infos: list[ObjectInfo]
    mtime: float
    manifest: ObjectInfo | None = None

    def is_other_than(self, manifest: ObjectInfo | None) -> bool:
        """Tell whether the folder was published anew since its manifest was this one."""
        known = manifest.etag if manifest else None
        return self.manifest is not None and self.manifest.etag != known


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
    local_prefix : Path
        Below which the local paths of objects lie.
    plan : Plan
        What the run has planned with, for its jobs on other nodes.
    """

    def __init__(
        self,
        store: Store,
        listings: Listings,
        workflow: WorkflowState,
        local_prefix: Path,
        plan: Plan,
    ) -> None:
        self._store, self._listings, self._workflow = store, listings, workflow
        self._prefix, self._plan = local_prefix, plan
        self._is_told = False
        self._lock = threading.Lock()
        self._current: dict[S3Url, ObjectInfo | None] = {}
        # Outputs that a job is about to replace, and their ETags.
        self._superseded: dict[S3Url, str | None] = {}
        self._created: set[S3Url] = set()
        # What this process has published or removed.
        self._own: set[S3Url] = set()
        # The first answer about an object that is in no listing.
        self._answers: dict[S3Url, ObjectInfo | None] = {}
        self._records: dict[str, CommitRecord] = {}
        self._told: set[S3Url] = set()
        self._manifests: dict[tuple[S3Url, str], Manifest] = {}

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
        self._take_plan()
        match self._source(url, path):
            case Source.RUN:
                return self._current[url]
            case Source.PLAN:
                if self._is_cut(url, path):
                    return None
                info = self._listings.object(url)
                if self._is_for_jobs(path) and info:
                    self._plan.write(url, [info])
                return self._answered(url, info)
            case Source.LISTING:
                return self._listings.remembered(url)
            case Source.FIRST_LOOK:
                return self._answered(url, self._listings.look(url))
            case Source.STORE:
                return self._answered(url, self._store.head(url))

    def at_once(self, url: S3Url, path: Path) -> ObjectInfo | None:
        """Return what `current` knows of an object without a request; None if it would ask."""
        if url.is_folder or self.is_superseded(url):
            return None
        match self._source(url, path):
            case Source.RUN:
                return self._current[url]
            case Source.LISTING | Source.FIRST_LOOK:
                return self._listings.remembered(url)
            case _:
                return None

    def folder(self, url: S3Url, path: Path) -> Folder | None:
        """Return the objects of a folder; None if it is not there.

        A folder that a rule writes is there if its manifest is, and if the listing
        agrees with it.  A folder that others wrote needs no manifest.

        Raises
        ------
        PublishError
            If no rule writes the folder, and its manifest disagrees with the listing.
        """
        folder = url.child("")
        self._take_plan()
        if self._workflow.is_planning or not self._workflow.may_change(path):
            tree = self._listings.tree(folder)
            if self._is_for_jobs(path) and self._may_plan_folder(folder):
                self._plan.write(folder, [*tree.objects.values(), *tree.internal.values()])
            listing = self._with_own(folder, tree)
        else:
            listing = self._store.list(folder, recursive=True)
        is_output = self._workflow.is_output(path)
        info = listing.internal.get(manifest_url(folder).key)
        if info is None:
            infos = [] if is_output else list(listing.objects.values())
            if is_output and listing.objects:
                self._tell_without_manifest(url)
            return Folder(infos, max(each.mtime for each in infos)) if infos else None
        manifest = self._manifest(folder, info)
        found = manifest.selected(folder, listing)
        if found is None or self._is_mixed(url, listing):
            if is_output:
                return None
            raise PublishError(
                f"{url} is incomplete: objects that its manifest lists are missing or were "
                "replaced; run the workflow that writes it again."
            )
        mtime = info.mtime if manifest.adopted is None else manifest.adopted
        return Folder(found, mtime, info)

    def exists(self, url: S3Url, path: Path) -> bool:
        """Tell whether an object or folder is there, and no job is about to replace it."""
        if self.is_superseded(url):
            return not self._workflow.runs_here and self._is_replaced(url)
        if self.current(url, path) is not None:
            return True
        # Only a folder is left, which may be named without its slash.
        is_object = not url.is_folder and self._workflow.is_file_output(path)
        return not is_object and self.has_contents(url, path)

    def has_contents(self, url: S3Url, path: Path) -> bool:
        """Tell whether a folder is there."""
        # Most objects that are asked for are no folders, which their own listing tells.
        if self._workflow.is_planning and not self._listings.is_folder(url):
            return False
        if self._workflow.is_output(path) or self._is_for_jobs(path):
            return self.folder(url, path) is not None
        return self._workflow.is_planning or self._store.has_objects(url.child(""))

    def expected(self, url: S3Url) -> ObjectInfo | None:
        """Return the version of an object that this run may replace; None if there is none."""
        with self._lock:
            if url in self._current:
                return self._current[url]
        planned = self._listings.planned(url)
        if planned is not None:
            return planned.info
        if url in self._answers:
            return self._answers[url]
        return self._answered(url, self._store.head(url))

    def known(self, url: S3Url) -> ObjectInfo | None:
        """Return the version that this run knows of, without asking; None if it knows none."""
        return self._current.get(url) or self.planned(url)

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

    def retrieved(self, url: S3Url, info: ObjectInfo) -> None:
        """Note the version that a job was given."""
        with self._lock:
            self._current[url] = info

    def supersede(self, url: S3Url, etag: str | None) -> None:
        """Note that a job is about to replace a version of an object, or of a manifest."""
        with self._lock:
            self._superseded[url] = etag

    def published(self, url: S3Url, infos: list[ObjectInfo]) -> None:
        """Note that an object or folder was published, and what it holds now.

        Parameters
        ----------
        url : S3Url
            The object or folder.
        infos : list of ObjectInfo
            The object; or those of the folder, its manifest last.
        """
        with self._lock:
            seen = (url, url.child(""))
            replaces = url in self._superseded or any(map(self._listings.has_seen, seen))
            self._superseded.pop(url, None)
            if not replaces:
                self._created.add(url)
            self._own.add(url)
            self._current[S3Url(url.bucket, infos[-1].key)] = infos[-1]

    def removed(self, url: S3Url) -> None:
        """Note that an object or folder was removed."""
        with self._lock:
            self._current[url] = None
            self._created.discard(url)
            self._own.add(url)

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

    def _take_plan(self) -> None:
        """Go on with what the run has planned with, where this process is for a job of it."""
        with self._lock:
            if self._workflow.is_remote and not self._is_told:
                self._plan.give_to(self._listings)
                self._is_told = True

    def _is_for_jobs(self, path: Path) -> bool:
        """Tell whether jobs of this run on other nodes must know the version of an input."""
        workflow = self._workflow
        if not (workflow.is_planning and workflow.sends_jobs):
            return False
        self._plan.name()
        return not workflow.may_change(path)

    def _may_plan_folder(self, folder: S3Url) -> bool:
        """Tell whether a folder stays as it is, as no rule writes into it."""
        below = f"{self._prefix / folder.bucket}/{folder.key}"
        return not self._workflow.writes_below(below)

    def _with_own(self, folder: S3Url, planned: Listing) -> Listing:
        """Return a folder as it was planned, with what this process has changed in it since."""
        with self._lock:
            own = [url for url in self._own if url.is_below(folder)]
        if not own:
            return planned

        def is_own(key: str) -> bool:
            url = S3Url(folder.bucket, key)
            return any(url == each or url.is_below(each.child("")) for each in own)

        now = self._store.list(folder, recursive=True)
        objects, internal = (
            {key: info for key, info in before.items() if not is_own(key)}
            | {key: info for key, info in after.items() if is_own(key)}
            for before, after in (
                (planned.objects, now.objects),
                (planned.internal, now.internal),
            )
        )
        return Listing(objects, frozenset(), internal)

    def _is_replaced(self, url: S3Url) -> bool:
        """Tell whether a job on another node has replaced a superseded output by now."""
        for target in (url, manifest_url(url)):
            now = None if target.is_folder else self._store.head(target)
            if now is not None:
                return now.etag != self._superseded[url]
        return False

    def _answered(self, url: S3Url, info: ObjectInfo | None) -> ObjectInfo | None:
        """Keep the first answer of the store about an object."""
        with self._lock:
            self._answers.setdefault(url, info)
        return info

    def _is_cut(self, url: S3Url, path: Path) -> bool:
        """Tell whether an output belongs to a publication that was cut, and must be made again.

        Raises
        ------
        PublishError
            If it does, and no rule of this workflow makes it.
        """
        listing = self._listings.listing(url.parent)
        if listing is None or not listing.internal or not self._is_mixed(url, listing):
            return False
        if self._workflow.is_output(path):
            return True
        raise PublishError(
            f"{url} belongs to a publication that was cut, so it may not fit its siblings; run "
            "the workflow that writes it again."
        )

    def _is_mixed(self, url: S3Url, listing: Listing) -> bool:
        """Look for commit records in a listing, of which one says that an output is mixed."""
        # Once jobs run, what was planned is no longer what is there.
        if not self._workflow.is_planning:
            return False
        self._read_records(url.bucket, listing)
        with self._lock:
            found = [record for record in self._records.values() if url in record.outputs]
        return any(
            not record.is_outdated(url, self._etag(url))
            and record.is_mixed(self._etag)
            and self._workflow.are_siblings(self._prefix / u.local_suffix() for u in record.outputs)
            for record in found
        )

    def _read_records(self, bucket: str, listing: Listing) -> None:
        """Read the commit records of a listing that were not read before."""
        internal = listing.internal.values()
        unread = [info for info in internal if info.key.rpartition("/")[2] not in self._records]
        found = records(self._store, bucket, unread)
        with self._lock:
            self._records.update({record.name: record for record in found})

    def _etag(self, url: S3Url) -> str | None:
        info = self._listings.object(url)
        return info.etag if info else None

    def _manifest(self, folder: S3Url, info: ObjectInfo) -> Manifest:
        """Read a version of a manifest, once."""
        key = (folder, info.etag)
        if key not in self._manifests:
            self._manifests[key] = read_manifest(self._store, folder, info)
        return self._manifests[key]

    def _tell_without_manifest(self, url: S3Url) -> None:
        with self._lock:
            is_told = url in self._told
            self._told.add(url)
        if not is_told:
            log.warning(
                f"{url} has objects and no manifest, so nobody knows whether it is complete, and "
                f"it is made again. If it is, run: s3fuse adopt {url.child('')}"
            )

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
