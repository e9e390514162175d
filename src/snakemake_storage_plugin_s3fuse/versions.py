"""Which version of each object a run plans with, reads and has published."""

from __future__ import annotations

import enum
import logging
import shutil
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from s3fuse.errors import ObjectChanged, PublishError
from s3fuse.publish.commit import CommitRecord, records
from s3fuse.publish.manifest import Manifest, manifest_url, read_manifest
from s3fuse.s3.listings import Listings
from s3fuse.s3.objects import Listing, ObjectInfo
from s3fuse.s3.parts import CONCURRENCY
from s3fuse.s3.store import Store
from s3fuse.urls import S3Url, path_below
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
    """

    infos: list[ObjectInfo]
    mtime: float


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
    """

    def __init__(
        self, store: Store, listings: Listings, workflow: WorkflowState, local_prefix: Path
    ) -> None:
        self._store, self._listings, self._workflow = store, listings, workflow
        self._prefix = local_prefix
        self._lock = threading.Lock()
        self._current: dict[S3Url, ObjectInfo | None] = {}
        self._linked: dict[S3Url, ObjectInfo] = {}
        # Folders that were copied, and the files that are in their local paths since.
        self._copied_folders: dict[S3Url, dict[Path, ObjectInfo]] = {}
        # Outputs that a job is about to replace, and their ETags.
        self._superseded: dict[S3Url, str | None] = {}
        self._created: set[S3Url] = set()
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
        match self._source(url, path):
            case Source.RUN:
                return self._current[url]
            case Source.PLAN:
                if self._is_cut(url, path):
                    return None
                return self._answered(url, self._listings.object(url))
            case Source.LISTING:
                return self._listings.remembered(url)
            case Source.FIRST_LOOK:
                return self._answered(url, self._listings.look(url))
            case Source.STORE:
                return self._answered(url, self._store.head(url))

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
        if self._workflow.is_planning:
            listing = self._listings.tree(folder)
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
        return Folder(found, info.mtime if manifest.adopted is None else manifest.adopted)

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
        if self._workflow.is_output(path):
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

    def retrieved_folder(self, url: S3Url, infos: list[ObjectInfo], path: Path) -> None:
        """Note the versions of the objects of a folder that were copied for a job."""
        with self._lock:
            self._copied_folders[url] = {path_below(path, url, i.key): i for i in infos}

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
            self._copied_folders.pop(url, None)
            if not replaces:
                self._created.add(url)
            self._current[S3Url(url.bucket, infos[-1].key)] = infos[-1]

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
        """Notice inputs that are not what they were when the job got them.

        A mount reads a file in pieces, so a result may mix two versions of an object.
        A job that writes to a local copy changes the input of others.

        Parameters
        ----------
        output : S3Url
            What the job has written.
        inputs : iterable of (S3Url, Path)
            The inputs of the job and their local paths.

        Raises
        ------
        ObjectChanged
            If one of the inputs is no longer the version that was linked or copied.
        """
        inputs = list(inputs)
        for url, path in inputs:
            self._refuse_if_edited(output, url, path)
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

    def _refuse_if_edited(self, output: S3Url, url: S3Url, path: Path) -> None:
        """Notice a local copy that a job has written to: a copy has the time of its object."""
        copies = self._copies(url, path)
        if not copies:
            return
        is_same = all(_is_copy(file, info) for file, info in copies.items())
        if is_same and _files(path) == copies.keys():
            return
        # Not for the next job, either.
        _remove(path)
        raise ObjectChanged(
            f"The local copy of {url} was changed while a job ran, so {output} was not "
            "published; let the rule write to another file than its input."
        )

    def _copies(self, url: S3Url, path: Path) -> dict[Path, ObjectInfo]:
        """Return the local files of an input, and what they are copies of; of links, nothing."""
        if path.is_symlink() or not path.exists():
            return {}
        if path.is_dir():
            return self._copied_folders.get(url, {})
        info = self._current.get(url) or self.planned(url)
        return {path: info} if info else {}

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


def _is_copy(file: Path, info: ObjectInfo) -> bool:
    """Tell whether a file has the size and the time of an object."""
    try:
        status = file.stat()
    except FileNotFoundError:
        return False
    return (status.st_size, int(status.st_mtime)) == (info.size, int(info.mtime))


def _files(path: Path) -> set[Path]:
    """Return a file, or all files of a directory."""
    return {each for each in path.rglob("*") if not each.is_dir()} if path.is_dir() else {path}


def _remove(path: Path) -> None:
    """Remove a file or a directory."""
    shutil.rmtree(path) if path.is_dir() else path.unlink()
