"""What all objects of one ``storage`` block share while a workflow runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from s3fuse.errors import QueryError
from s3fuse.s3.connection import Connection
from s3fuse.s3.translate import not_found
from s3fuse.session import Session, SessionOptions
from s3fuse.urls import S3Url
from snakemake_storage_plugin_s3fuse.garbage import RelaxedCollector
from snakemake_storage_plugin_s3fuse.termination import Termination
from snakemake_storage_plugin_s3fuse.versions import Versions
from snakemake_storage_plugin_s3fuse.workflow_state import WorkflowState

T = TypeVar("T")


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
    """

    def __init__(self, connection: Connection, local_prefix: Path, options: SessionOptions) -> None:
        self._collector = RelaxedCollector()
        self.session = Session(connection, local_prefix, options)
        self.workflow = WorkflowState()
        self.versions = Versions(self.session.store, self.session.listings, self.workflow)
        self._termination = Termination(self.session)
        self._is_prefetching = False

    def notice_jobs(self) -> None:
        """Take note that jobs run now, for as long as Snakemake asks about their files."""
        self._collector.restore()
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

    def retrieve(self, url: S3Url, path: Path) -> None:
        """Make an input available at a local path: a link into a mount, or a copy.

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
        if info := versions.current(url, path):
            info = placement.object(url, info, path, self.workflow.reading_of(path))
            versions.refuse_if_changed(url, path, info)
            versions.retrieved(url, info, linked=path.is_symlink())
            infos = [info]
        else:
            infos = versions.contents(url)
            if not infos:
                raise not_found(url)
            placement.folder(url, infos, path)
        self.session.traffic.adds_read(url.bucket, infos, copied=not path.is_symlink())

    def publish(self, url: S3Url, path: Path, inputs: Iterable[tuple[S3Url, Path]]) -> None:
        """Publish an output, unless an input was replaced while the job read it.

        Parameters
        ----------
        url : S3Url
            The object or folder to be.
        path : Path
            The file or directory that the job has written.
        inputs : iterable of (S3Url, Path)
            The inputs of the job and their local paths.

        Raises
        ------
        QueryError
            If the output is a whole bucket.
        ObjectChanged
            If an input was replaced.
        S3FuseError
            If the upload failed; the old object, if any, is then unharmed.
        """
        if not url.key:
            raise QueryError(
                f"{url} is a whole bucket and cannot be an output; name an object or a folder."
            )
        self.versions.refuse_if_inputs_changed(url, inputs)
        infos = self.session.publisher.publish(
            path, url, may_be_there=self.workflow.leaves_jobs_to_a_step
        )
        self.versions.published(url, infos)

    def remove(self, url: S3Url, path: Path) -> None:
        """Delete an object or folder, or leave it until the job that replaces it has succeeded.

        Snakemake removes existing output before the job that writes it anew.
        An upload replaces an object in one step, so the old one may stay until
        then, and is still there when the job fails.
        """
        if self._is_about_to_be_replaced(url, path):
            self.versions.supersede(url)
            return
        is_object = self.versions.current(url, path) is not None
        self.versions.removed(url)
        self.session.store.remove(url if is_object else url.child(""))

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
