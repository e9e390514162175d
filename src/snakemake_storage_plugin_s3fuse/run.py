"""What all objects of one ``storage`` block share while a workflow runs."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from s3fuse.archives import Entries
from s3fuse.errors import PublishError, QueryError
from s3fuse.publish.manifest import manifest_url
from s3fuse.publish.output import Output
from s3fuse.s3.connection import Connection
from s3fuse.s3.translate import not_found
from s3fuse.session import Session, SessionOptions
from s3fuse.urls import S3Url
from snakemake_storage_plugin_s3fuse.garbage import RelaxedCollector
from snakemake_storage_plugin_s3fuse.job_inputs import JobInputs, remove_local
from snakemake_storage_plugin_s3fuse.plan import Plan
from snakemake_storage_plugin_s3fuse.termination import Termination
from snakemake_storage_plugin_s3fuse.versions import Versions
from snakemake_storage_plugin_s3fuse.workflow_state import WorkflowState

log = logging.getLogger("s3fuse")

T = TypeVar("T")

#: A bucket is older than anything, so it never makes a job run.
BUCKET_MTIME = 0.0


@dataclass(frozen=True)
class JobOutputs:
    """What a job has written and read.

    Attributes
    ----------
    outputs : dict of S3Url to Path
        All outputs that are published together, and their local paths.
    inputs : list of (S3Url, Path)
        The inputs and their local paths.
    """

    outputs: dict[S3Url, Path]
    inputs: list[tuple[S3Url, Path]]


class Run:
    """A session, and what the plugin knows of the workflow that uses it.

    Parameters
    ----------
    connection : Connection
        Where the store is and who asks.
    local_prefix : Path
        Where Snakemake expects local copies.
    options : SessionOptions
        How the session works.

    Attributes
    ----------
    session : Session
        Mounts, copies and uploads.
    workflow : WorkflowState
        The running workflow.
    versions : Versions
        The versions of objects that the run plans with, reads and publishes.
    inputs : JobInputs
        What jobs were given to read.
    """

    def __init__(self, connection: Connection, local_prefix: Path, options: SessionOptions) -> None:
        self._collector = RelaxedCollector()
        self.session = Session(connection, local_prefix, options)
        self.workflow = WorkflowState()
        self.versions = Versions(
            self.session.store,
            self.session.listings,
            self.workflow,
            self.session.local_prefix,
            Plan(connection, self.session.local_prefix),
        )
        self.inputs = JobInputs(self.session.mounts, self.versions)
        self._termination = Termination(self.session)
        self._is_prefetching = False
        self._lock = threading.Lock()
        # Commits that outputs of a job have not asked for yet.
        self._commits: dict[S3Url, Future[None]] = {}
        self._told: set[S3Url] = set()
        self._looked_at: set[S3Url] = set()

    def notice_jobs(self) -> None:
        """Take note that jobs run now, for as long as Snakemake asks about their files."""
        self._collector.restore()
        if self.workflow.sends_jobs:
            # They mount for themselves.
            self.session.mounts.end_waiting()
        if self.workflow.is_remote:
            self._termination.install()

    def prefetch_inputs(self) -> None:
        """Prefetch the small inputs of all jobs when the first job wants its own."""
        if self._is_prefetching or not self.workflow.runs_here:
            return
        self._is_prefetching = True
        objects = (file.storage_object for file in self.workflow.inputs_to_come())
        self.session.placement.prefetch(
            (each.url, info)
            for each in objects
            if getattr(each.provider, "run", None) is self
            and (info := self.versions.planned(each.url))
        )

    async def in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        """Run blocking work at the same time as other retrievals and uploads."""
        return await asyncio.wrap_future(self.session.submit(function, *arguments))

    def ask_early(self, url: S3Url, path: Path) -> None:
        """Look at an output while Snakemake plans, before Snakemake does.

        Snakemake asks for the outputs of all jobs at the same time, and prints what
        goes wrong then as nested exception groups.  It does not ask for outputs that
        it is forced to make, and they must not replace what is published later.
        """
        workflow = self.workflow
        if not workflow.is_planning:
            return
        # The listing of a folder tells of all objects in it.
        is_file = not url.is_folder and workflow.is_file_output(path)
        place = url.parent if is_file else url
        if place not in self._looked_at and (is_file or workflow.is_output(path)):
            self._looked_at.add(place)
            self.exists(url, path)

    def exists(self, url: S3Url, path: Path) -> bool:
        """Tell whether an object or folder is in its bucket, or a bucket answers."""
        if self.workflow.is_tried_again(path):
            remove_local(path)
        if not url.key:
            self.session.store.check(url.bucket)
            return True
        is_there = self.versions.exists(url, path)
        if is_there and self.workflow.is_planning and self.workflow.is_checkpoint_output(path):
            self._tell_of_checkpoint(url, path)
        return is_there

    def _tell_of_checkpoint(self, url: S3Url, path: Path) -> None:
        """Say how to list the folder of a checkpoint: while Snakemake plans, it is in the bucket.

        A directory that is missing is empty to ``glob_wildcards`` and ``os.walk``, so a rule
        would be planned without its inputs.  A copy would be refused as write-protected when
        the checkpoint runs again, as Snakemake 9 remembers that it was there.
        """
        is_folder = url.is_folder or not self.workflow.is_file_output(path)
        with self._lock:
            is_told = url in self._told
            self._told.add(url)
        if is_folder and not is_told:
            log.warning(
                f"{url} is the folder of a checkpoint, and is not on this disk while Snakemake "
                'plans: list it by glob_wildcards(storage.TAG("s3://…/{name}")), never by its path.'
            )

    def mtime(self, url: S3Url, path: Path) -> float:
        """Return when an object was published; of a folder, when the latest object in it was.

        Raises
        ------
        ObjectNotFound
            If there is no such object or folder.
        """
        if not url.key:
            return BUCKET_MTIME
        if info := self.versions.current(url, path):
            return info.mtime
        folder = self.versions.folder(url, path)
        if folder is None:
            raise not_found(url)
        return folder.mtime

    def size(self, url: S3Url, path: Path) -> int:
        """Return the bytes of an object, or of an output that is not published yet."""
        info = self.versions.current(url, path)
        if (
            (info is None or self.versions.is_superseded(url))
            and not self.workflow.is_planning
            and self.workflow.is_output(path)
            and path.is_file()
        ):
            return path.stat().st_size
        return info.size if info else 0

    def footprint(self, url: S3Url, path: Path, *, keep: bool = False) -> int:
        """Return the bytes of an object or folder that is not mounted."""
        if info := self.versions.current(url, path):
            size = info.size
        else:
            folder = self.versions.folder(url, path)
            size = sum(info.size for info in folder.infos) if folder else 0
        return 0 if not keep and self.session.placement.is_mounted(size) else size

    def candidates(self, pattern: S3Url, prefix: str) -> list[str]:
        """List the URLs that may match a pattern with wildcards.

        Parameters
        ----------
        pattern : S3Url
            The pattern; one that ends with a slash stands for folders.
        prefix : str
            The part of it in front of the first wildcard.

        Raises
        ------
        QueryError
            If the bucket is a wildcard.
        """
        if "{" in pattern.bucket:
            raise QueryError(
                f"The bucket of {str(pattern)!r} is a wildcard, and buckets are not "
                "searched; name the bucket."
            )
        keys = self.session.store.list(S3Url.split(prefix), recursive=True).objects
        if pattern.is_folder:
            parents = {str(parent) for key in keys for parent in Path(key).parents} - {"."}
            return sorted(str(S3Url(pattern.bucket, f"{parent}/")) for parent in parents)
        return [str(S3Url(pattern.bucket, key)) for key in keys]

    def listed(self, folders: Sequence[S3Url]) -> list[Entries]:
        """List folders or buckets, by names; Snakemake plans with what is found."""
        found = self.session.listings.all(folders)
        return [
            Entries(
                # What has an empty name is no folder on disk.
                [key.split("/")[-2] for key in sorted(listing.folders) if key[-2:] != "//"],
                [key.rpartition("/")[2] for key in listing.objects],
            )
            for listing in found
        ]

    def retrieve(self, url: S3Url, path: Path, *, keep: bool = False) -> None:
        """Make an input available at a local path: a link into a mount, or a copy.

        Parameters
        ----------
        url : S3Url
            The object, folder or bucket.
        path : Path
            Its local path.
        keep : bool
            Copy it, and keep the copy when the run ends.

        Raises
        ------
        ObjectNotFound
            If there is no such object or folder.
        ObjectChanged
            If it was replaced since Snakemake planned with it.
        """
        placement, versions = self.session.placement, self.versions
        if not url.key:
            placement.bucket(url, path)
            return
        if keep:
            self.session.keep(path)
        if info := versions.current(url, path):
            sequential = self.workflow.is_sequential(path)
            placement.object(url, info, path, sequential=sequential, copy=keep)
            versions.refuse_if_changed(url, path, info)
            versions.retrieved(url, info)
            self.inputs.given(url, info, path)
            infos = [info]
        else:
            folder = versions.folder(url, path)
            if folder is None:
                raise not_found(url)
            infos = folder.infos
            placement.folder(url, infos, path, copy=keep)
            self.inputs.given_folder(url, infos, path)
        self.session.traffic.adds_read(url.bucket, infos, copied=not path.is_symlink())

    def job_of(self, url: S3Url, path: Path) -> JobOutputs:
        """Return what the job has written and read that writes an output, and is in this store."""

        def ours(files: Iterable[Any]) -> list[tuple[S3Url, Path]]:
            storage = (file for file in files if file.is_storage)
            return [
                (file.storage_object.url, Path(file))
                for file in storage
                if getattr(file.storage_object, "run", None) is self
            ]

        outputs = dict(ours(self.workflow.stored_with(path))) or {url: path}
        return JobOutputs(outputs, ours(self.workflow.inputs_beside(path)))

    def publish(self, job: JobOutputs, url: S3Url) -> None:
        """Publish an output together with all other outputs of its job.

        Snakemake asks for one output after the other, or for all at once.  The first
        question publishes all of them; the others get the same result or error.

        Parameters
        ----------
        job : JobOutputs
            What the job has written and read.
        url : S3Url
            The output that Snakemake asks for.

        Raises
        ------
        QueryError
            If the output is a whole bucket.
        ObjectChanged
            If an input was replaced while the job read it.
        S3FuseError
            If the outputs could not be published; see `Publisher.publish`.
        """
        if not url.key:
            raise QueryError(
                f"{url} is a whole bucket and cannot be an output; name an object or a folder."
            )
        with self._lock:
            commit = self._commits.pop(url, None)
            is_first = commit is None
            if commit is None:
                commit = Future()
                # A job that is tried again publishes again, so each may ask once.
                self._commits |= dict.fromkeys(job.outputs.keys() - {url}, commit)
        if is_first:
            try:
                self._publish_all(job)
            except BaseException as error:
                commit.set_exception(error)
            else:
                commit.set_result(None)
        commit.result()

    def _publish_all(self, job: JobOutputs) -> None:
        versions = self.versions
        self.inputs.refuse_if_changed(next(iter(job.outputs)), job.inputs)
        outputs = [Output(path, url) for url, path in job.outputs.items()]
        for each in outputs:
            if (
                each.is_folder
                and not each.url.is_folder
                and self.workflow.is_file_output(each.path)
            ):
                raise QueryError(
                    f"{each.path} is a directory, and {each.url} an object; let the rule write a "
                    "file, or mark the output as directory()."
                )
        published = self.session.publisher.publish(
            [replace(each, replaces=versions.expected(each.target)) for each in outputs],
            may_be_there=self.workflow.leaves_jobs_to_a_step,
        )
        for url, infos in published.items():
            versions.published(url, infos)

    def touch(self, url: S3Url, path: Path) -> None:
        """Set the time of an object or folder to now.

        Raises
        ------
        ObjectNotFound
            If it is not there.
        PublishError
            If somebody else has replaced it.
        """
        publisher, versions = self.session.publisher, self.versions
        if info := versions.current(url, path):
            versions.published(url, [publisher.touch(url, info)])
            return
        folder, manifest = versions.folder(url, path), versions.expected(manifest_url(url))
        if folder is None:
            raise not_found(url)
        # The manifest of the folder as it is now may be written over itself, by anybody.
        if folder.is_other_than(manifest):
            raise PublishError(
                f"{url} was replaced since this run was planned, so it was not touched; start "
                "the run again."
            )
        versions.published(url, [publisher.write_manifest(url, folder.infos, manifest)])

    def remove(self, url: S3Url, path: Path) -> None:
        """Delete an object or folder, or leave it until the job that replaces it has succeeded.

        Snakemake removes existing output before the job that writes it anew.
        An upload replaces an object in one step, so the old one may stay until
        then, and is still there when the job fails.  Nothing is deleted but the
        version that this run knows.
        """
        if self._is_about_to_be_replaced(url, path):
            known = self.versions.current(url, path) or self.versions.expected(manifest_url(url))
            self.versions.supersede(url, known.etag if known else None)
        elif info := self.versions.current(url, path):
            self.session.publisher.delete(url, [info])
            self.versions.removed(url)
        elif folder := self.versions.folder(url, path):
            target = manifest_url(url)
            manifest = self.versions.expected(target)
            if folder.is_other_than(manifest):
                log.warning(f"{url} was replaced by somebody else, so it was not deleted.")
                return
            self.session.publisher.delete(url, [*([manifest] if manifest else []), *folder.infos])
            self.versions.removed(target)

    def _is_about_to_be_replaced(self, url: S3Url, path: Path) -> bool:
        """Tell the removal before a job from one that is meant."""
        # What is removed while Snakemake plans is meant: --delete-all-output.
        if self.workflow.is_planning or not self.workflow.is_lasting_output(path):
            return False
        # What this run published where there was nothing goes again when
        # another output of the same job could not be published.
        return not self.versions.is_created(url)

    def close(self) -> None:
        """End the run; a second call does nothing."""
        self._termination.wait()
        try:
            self.session.close()
        finally:
            self._collector.close()
