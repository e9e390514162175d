"""One S3 object, folder or bucket, as Snakemake sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from snakemake_interface_storage_plugins.common import Operation
from snakemake_interface_storage_plugins.io import IOCacheStorageInterface, get_constant_prefix
from snakemake_interface_storage_plugins.storage_object import (
    StorageObjectGlob,
    StorageObjectRead,
    StorageObjectTouch,
    StorageObjectWrite,
)

from s3fuse.s3.objects import ObjectInfo
from s3fuse.urls import S3Url
from snakemake_storage_plugin_s3fuse.errors import as_workflow_errors
from snakemake_storage_plugin_s3fuse.run import Run

T = TypeVar("T")


class StorageObject(StorageObjectRead, StorageObjectWrite, StorageObjectGlob, StorageObjectTouch):
    """Translates Snakemake's questions about a query, and its orders, for the run."""

    def __post_init__(self) -> None:
        self.url = S3Url.split(self.query)
        self._file: Any = None
        self.run.session.prepare()

    @property
    def run(self) -> Run:
        """What all objects of the provider share."""
        run: Run = self.provider.run
        return run

    @property
    def _iofile(self) -> Any:
        """The file of a rule; Snakemake sets it on patterns, not on their instances."""
        return self._file

    @_iofile.setter
    def _iofile(self, file: Any) -> None:
        self._file = file
        with as_workflow_errors():
            self.run.workflow.learn(file)

    # What Snakemake asks while it plans.

    def is_valid_query(self) -> Any:
        """Judge the query, and ask the bucket of an output for its first answer."""
        result = super().is_valid_query()
        if result:
            with as_workflow_errors():
                self.run.ask_early(self.url, self.local_path())
        return result

    def local_suffix(self) -> str:
        """Return the path below the local prefix."""
        # Values of wildcards, such as those of `glob_wildcards`, are not validated before.
        with as_workflow_errors():
            return self.url.local_suffix()

    @cached_property
    def _path(self) -> Path:
        path: Path = super().local_path()
        return path

    def local_path(self) -> Path:
        """Return the local path, for which Snakemake asks again and again."""
        return self._path

    def set_local_path(self, path: Path) -> None:
        """Take another local path."""
        super().set_local_path(path)
        self._path = path

    async def inventory(self, cache: IOCacheStorageInterface) -> None:
        """Prepare nothing: the session lists each folder once."""

    def get_inventory_parent(self) -> str | None:
        """Return nothing, see `inventory`."""
        return None

    @property
    def version(self) -> ObjectInfo | None:
        """The version of the object that a job would get now; None if there is none."""
        return self.run.versions.current(self.url, self.local_path())

    def exists(self) -> bool:
        """Tell whether it is in the bucket, or a bucket that answers."""
        return self.run.exists(self.url, self.local_path())

    def mtime(self) -> float:
        """Return when it was last published; of a folder, when the latest object in it was."""
        return self.run.mtime(self.url, self.local_path())

    def size(self) -> int:
        """Return bytes; 0 for folders and buckets, as Snakemake has it.

        Snakemake compares the size of an output with `ensure` before it is published.
        """
        return self.run.size(self.url, self.local_path())

    def checksum(self) -> str | None:
        """Return the MD5 of the content where S3 knows it."""
        info = self.version
        return f"md5:{info.md5}" if info and info.md5 else None

    def local_footprint(self) -> int:
        """Return the bytes that it will take on this node: none for what is mounted."""
        if not self.url.key:
            return 0
        return self.run.footprint(self.url, self.local_path(), keep=self.keep_local)

    def list_candidate_matches(self) -> Iterable[str]:
        """List all objects below the constant part, or folders for a pattern of folders."""
        with as_workflow_errors():
            return self.run.candidates(self.url, get_constant_prefix(self.query))

    # What happens around a job.

    def retrieve_object(self) -> None:
        """Put it at its local path: a link into a mount, or a copy."""
        self.run.retrieve(self.url, self.local_path(), keep=self.keep_local)

    def store_object(self) -> None:
        """Publish what is at the local path, verified."""
        path = self.local_path()
        self.run.publish(self.run.job_of(self.url, path), self.url)
        if self.keep_local:
            self.run.session.keep(path)

    def touch(self) -> None:
        """Set its time to now."""
        self.run.touch(self.url, self.local_path())

    def remove(self) -> None:
        """Delete it, or leave it until the job that replaces it has succeeded."""
        self.run.remove(self.url, self.local_path())

    def cleanup(self) -> None:
        """Remove nothing: only the local path remains, and Snakemake removes that."""

    # The same in Snakemake's event loop.

    async def managed_exists(self) -> bool:
        """Answer `exists`."""
        return await self._answer(Operation.EXISTS, self.exists, lambda info: True)

    async def managed_mtime(self) -> float:
        """Answer `mtime`."""
        return await self._answer(Operation.MTIME, self.mtime, lambda info: info.mtime)

    async def managed_size(self) -> int:
        """Answer `size`."""
        return await self._answer(Operation.SIZE, self.size, lambda info: info.size)

    async def managed_checksum(self) -> str | None:
        """Answer `checksum`."""
        return await self._answer(Operation.SIZE, self.checksum)

    async def managed_local_footprint(self) -> int:
        """Answer `local_footprint`."""
        return await self._managed(Operation.SIZE, self.local_footprint)

    async def managed_retrieve(self) -> None:
        """Retrieve at the same time as others; Snakemake would do one after the other."""
        self.run.notice_jobs()
        self.run.prefetch_inputs()
        await self.wait_for_free_space()
        await self._managed(Operation.RETRIEVE, self.retrieve_object)

    async def managed_store(self) -> None:
        """Publish at the same time as others."""
        await self._managed(Operation.STORE, self.store_object)

    async def managed_touch(self) -> None:
        """Touch at the same time as others."""
        await self._managed(Operation.TOUCH, self.touch)

    async def managed_remove(self) -> None:
        """Remove or supersede."""
        await self._managed(Operation.REMOVE, self.remove)

    async def _answer(
        self,
        operation: Operation,
        ask: Callable[[], T],
        tell: Callable[[ObjectInfo], T] | None = None,
    ) -> T:
        """Tell at once what is known; ask S3 in a thread."""
        run, path = self.run, self.local_path()
        if run.workflow.is_planning:
            return await self._managed(operation, ask, at_once=True)
        if not run.workflow.is_parsing:
            run.notice_jobs()
        # Snakemake asks for the sizes of all that is ready several times a second.
        info = run.versions.at_once(self.url, path)
        if info and tell and not run.workflow.is_output(path):
            return tell(info)
        is_known = info or (not self.url.key and run.session.store.has_answered(self.url.bucket))
        return await self._managed(operation, ask, at_once=bool(is_known))

    async def _managed(
        self, operation: Operation, work: Callable[[], T], *, at_once: bool = False
    ) -> T:
        """Do something within the rate limit, and turn errors of the library into sentences."""
        async with self._rate_limiter(operation):
            with as_workflow_errors():
                return work() if at_once else await self.run.in_thread(work)
