"""One S3 object, folder or bucket, as Snakemake sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from snakemake_interface_storage_plugins.common import Operation
from snakemake_interface_storage_plugins.io import IOCacheStorageInterface, get_constant_prefix
from snakemake_interface_storage_plugins.storage_object import (
    StorageObjectGlob,
    StorageObjectRead,
    StorageObjectWrite,
)

from s3fuse.errors import ObjectChanged, QueryError
from s3fuse.publish.upload import CONCURRENCY, publish, publish_folder
from s3fuse.s3.store import ObjectInfo, not_found
from s3fuse.urls import SCHEME, S3Url
from snakemake_storage_plugin_s3fuse.errors import as_workflow_errors

if TYPE_CHECKING:
    from snakemake_storage_plugin_s3fuse.provider import StorageProvider

T = TypeVar("T")

#: A bucket is older than anything, so it never makes a job run.
BUCKET_MTIME = 0.0


class StorageObject(StorageObjectRead, StorageObjectWrite, StorageObjectGlob):
    """What a query stands for.

    While Snakemake plans, questions are answered from one listing of the
    folder; once jobs run, somebody else may have published, so S3 is asked.
    """

    provider: StorageProvider

    def __post_init__(self) -> None:
        self.url = S3Url.split(self.query)
        self._file: Any = None

    # What Snakemake asks while it plans.

    def local_suffix(self) -> str:
        """The path below the local prefix."""
        return self.url.local_suffix()

    async def inventory(self, cache: IOCacheStorageInterface) -> None:
        """Nothing to prepare: the provider's snapshot lists each folder once."""

    def get_inventory_parent(self) -> str | None:
        """No inventory, see there."""
        return None

    def exists(self) -> bool:
        """Whether it is in the bucket, or a bucket that answers."""
        if not self.url.key:
            self.provider.store.check(self.url.bucket)
            return True
        if self.url in self.provider.superseded:
            return False
        if self.url.is_folder:
            return self._has_objects()
        if self._info() is not None:
            return True
        # Only a folder that is named without its slash is left.
        is_file = self.provider.insides.is_file_output(self.local_path())
        return not is_file and self._has_objects()

    def mtime(self) -> float:
        """When it was last published; of a folder, when the latest object in it was."""
        if not self.url.key:
            return BUCKET_MTIME
        info = self._info()
        if info:
            return info.mtime
        return max(info.mtime for info in self._contents())

    def size(self) -> int:
        """Bytes; 0 for folders and buckets, as Snakemake has it."""
        info = self._info()
        return info.size if info else 0

    def checksum(self) -> str | None:
        """The MD5 of the content where S3 knows it."""
        info = self._info()
        return f"md5:{info.md5}" if info and info.md5 else None

    def local_footprint(self) -> int:
        """Bytes that it will take on this node: none for what is mounted."""
        if not self.url.key:
            return 0
        info = self._info()
        size = info.size if info else sum(each.size for each in self._contents())
        return 0 if self.provider.placement.is_mounted(size) else size

    def list_candidate_matches(self) -> Iterable[str]:
        """All objects, or folders for a pattern that ends with a slash, below the constant part."""
        with as_workflow_errors():
            if "{" in self.url.bucket:
                raise QueryError(
                    f"The bucket of {self.query!r} is a wildcard, and buckets are not "
                    "searched; name the bucket."
                )
            prefix = S3Url.split(get_constant_prefix(self.query))
            listing = self.provider.store.list(prefix, recursive=True)
        if not self.url.is_folder:
            return [f"{SCHEME}{self.url.bucket}/{key}" for key in listing.objects]
        folders = {
            str(S3Url(self.url.bucket, f"{parent}/"))
            for key in listing.objects
            for parent in map(str, Path(key).parents)
            if parent != "."
        }
        return sorted(folders)

    # What happens around a job.

    def retrieve_object(self) -> None:
        """Put it at its local path: a link into a mount, or a copy."""
        placement = self.provider.placement
        path = self.local_path()
        if not self.url.key:
            placement.bucket(self.url, path)
            return
        info = self._info()
        if info:
            reading = self.provider.insides.reading_of(path)
            info = placement.object(self.url, info, path, reading)
            self._refuse_if_changed(info)
            self.provider.known[self.url] = info
            if path.is_symlink():
                self.provider.linked[self.url] = info
            self.provider.tally.reads(self.url.bucket, [info], copied=not path.is_symlink())
            return
        contents = self._contents()
        if not contents:
            raise not_found(self.url)
        placement.folder(self.url, contents, path)
        self.provider.tally.reads(self.url.bucket, contents, copied=not path.is_symlink())

    def store_object(self) -> None:
        """Publish what is at the local path, verified."""
        path = self.local_path()
        if not self.url.key:
            raise QueryError(
                f"{self.url} is a whole bucket and cannot be an output; name an object or a folder."
            )
        self._refuse_if_inputs_changed()
        replaces = self.url in self.provider.superseded or self._was_planned_with()
        store, journal = self.provider.store, self.provider.journal
        is_there = self.provider.insides.leaves_jobs_to_a_step
        if path.is_dir():
            infos = publish_folder(store, path, self.url, journal, may_be_there=is_there)
        else:
            infos = [publish(store, path, self.url, journal, may_be_there=is_there)]
            self.provider.known[self.url] = infos[0]
        if not is_there:
            self.provider.tally.publishes(info.size for info in infos)
        self.provider.superseded.discard(self.url)
        if not replaces:
            self.provider.created.add(self.url)

    def remove(self) -> None:
        """Delete it, or leave it until the job that replaces it has succeeded.

        Snakemake removes existing output before the job that writes it anew.
        An upload replaces an object in one step, so the old one may stay until
        then, and is still there when the job fails.
        """
        if self._is_about_to_be_replaced():
            self.provider.superseded.add(self.url)
            return
        is_object = self._info() is not None
        self.provider.known[self.url] = None
        self.provider.created.discard(self.url)
        self.provider.store.remove(self.url if is_object else self.url.child(""))

    def cleanup(self) -> None:
        """Nothing but the local path remains, and Snakemake removes that."""

    # The same in Snakemake's event loop: beside each other, in one sentence each.

    async def managed_exists(self) -> bool:
        """Answer `exists`."""
        async with self._rate_limiter(Operation.EXISTS):
            with as_workflow_errors():
                return await self._answer(self.exists)

    async def managed_mtime(self) -> float:
        """Answer `mtime`."""
        async with self._rate_limiter(Operation.MTIME):
            with as_workflow_errors():
                return await self._answer(self.mtime)

    async def managed_size(self) -> int:
        """Answer `size`."""
        async with self._rate_limiter(Operation.SIZE):
            with as_workflow_errors():
                return await self._answer(self.size)

    async def managed_checksum(self) -> str | None:
        """Answer `checksum`."""
        async with self._rate_limiter(Operation.SIZE):
            with as_workflow_errors():
                return await self._answer(self.checksum)

    async def managed_local_footprint(self) -> int:
        """Answer `local_footprint`."""
        async with self._rate_limiter(Operation.SIZE):
            with as_workflow_errors():
                return await self.provider.in_thread(self.local_footprint)

    async def managed_retrieve(self) -> None:
        """Retrieve beside other retrievals; Snakemake would do one after the other."""
        self.provider.heed_sigterm()
        self.provider.fetch_early()
        await self.wait_for_free_space()
        async with self._rate_limiter(Operation.RETRIEVE):
            with as_workflow_errors():
                await self.provider.in_thread(self.retrieve_object)

    async def managed_store(self) -> None:
        """Publish beside other uploads."""
        async with self._rate_limiter(Operation.STORE):
            with as_workflow_errors():
                await self.provider.in_thread(self.store_object)

    async def managed_remove(self) -> None:
        """Remove or supersede."""
        async with self._rate_limiter(Operation.REMOVE):
            with as_workflow_errors():
                await self.provider.in_thread(self.remove)

    async def _answer(self, ask: Callable[[], T]) -> T:
        """Answer at once from what is known; what S3 is asked, beside other questions."""
        if self._is_planning:
            return ask()
        self.provider.insides.import_ahead()
        self.provider.heed_sigterm()
        # Snakemake asks for the sizes of all that is ready before it starts each job.
        if self._remembered() is not None:
            return ask()
        return await self.provider.in_thread(ask)

    # Where the answers come from.

    @property
    def _iofile(self) -> Any:
        """The file of a rule; Snakemake sets it on patterns, not on their instances."""
        return self._file

    @_iofile.setter
    def _iofile(self, file: Any) -> None:
        self._file = file
        self.provider.insides.learn(file)

    @property
    def _is_planning(self) -> bool:
        return self.provider.insides.is_planning

    def _is_about_to_be_replaced(self) -> bool:
        """Tell the removal before a job from one that is meant."""
        # What is removed while Snakemake plans is meant: --delete-all-output.
        if self._is_planning or not self.provider.insides.is_lasting_output(self.local_path()):
            return False
        # What this run published where there was nothing goes again when
        # another output of the same job could not be published.
        return self.url not in self.provider.created

    def _refuse_if_changed(self, info: ObjectInfo) -> None:
        """Notice an input that was replaced since Snakemake planned with it."""
        planned = self.provider.snapshot.remembered(self.url)
        if planned is None or planned.etag == info.etag:
            return
        # What a rule writes changes while a workflow runs.
        if not self.provider.insides.is_output(self.local_path()):
            raise ObjectChanged(
                f"{self.url} was replaced after this run was planned; start the run again."
            )

    def _refuse_if_inputs_changed(self) -> None:
        """Notice inputs that were replaced while the job read them through a mount.

        A mount reads a file in pieces, so a result may mix two versions.
        """
        versions = self._linked_inputs()
        if not versions:
            return
        with ThreadPoolExecutor(min(len(versions), CONCURRENCY)) as pool:
            now = pool.map(self.provider.store.head, versions)
        for (url, version), found in zip(versions.items(), now, strict=True):
            if found is None or version is None or found.etag != version.etag:
                raise ObjectChanged(
                    f"{url} was replaced while a job read it, so {self.url} was not "
                    "published; start the run again."
                )

    def _linked_inputs(self) -> dict[S3Url, ObjectInfo | None]:
        """The versions of the objects that the job of this output reads through mounts.

        In a step of a batch job, the process around it has made the links, with the
        times of the objects, and this one has looked the objects up when it started:
        if these differ, no version is known.
        """
        versions: dict[S3Url, ObjectInfo | None] = {}
        for file in self.provider.insides.inputs_beside(self.local_path()):
            if not file.is_storage or file.storage_object.provider is not self.provider:
                continue
            url, link = file.storage_object.url, Path(file)
            if url in self.provider.linked:
                versions[url] = self.provider.linked[url]
            elif url.key and not url.is_folder and link.is_symlink():
                seen = self.provider.snapshot.remembered(url)
                is_linked = seen and int(seen.mtime) == int(link.lstat().st_mtime)
                versions[url] = seen if is_linked else None
        return versions

    def _was_planned_with(self) -> bool:
        """Whether it was in the bucket when Snakemake planned, as far as that was asked."""
        snapshot = self.provider.snapshot
        return snapshot.has_seen(self.url) or snapshot.has_seen(self.url.child(""))

    def _info(self) -> ObjectInfo | None:
        if self.url.is_folder:
            return None
        if self.url in self.provider.known:
            return self.provider.known[self.url]
        if self._is_planning:
            return self.provider.snapshot.object(self.url)
        if not self.provider.insides.may_change(self.local_path()):
            return self.provider.snapshot.look(self.url)
        if self._is_told_of_changes:
            return self.provider.snapshot.remembered(self.url)
        return self.provider.store.head(self.url)

    def _remembered(self) -> ObjectInfo | None:
        """What `_info` says where it asks nobody."""
        if self.url.is_folder or self.url in self.provider.superseded:
            return None
        if self.url in self.provider.known:
            return self.provider.known[self.url]
        if self._is_told_of_changes or not self.provider.insides.may_change(self.local_path()):
            return self.provider.snapshot.remembered(self.url)
        return None

    @property
    def _is_told_of_changes(self) -> bool:
        """Whether only jobs of this process write below this folder, which was listed before them.

        Where they run, this process knows of all that they have published.
        """
        provider = self.provider
        return provider.insides.runs_here and provider.snapshot.has_listed(self.url.parent)

    def _has_objects(self) -> bool:
        if self._is_planning:
            return self.provider.snapshot.is_folder(self.url)
        return self.provider.store.has_objects(self.url.child(""))

    def _contents(self) -> list[ObjectInfo]:
        folder = self.url.child("")
        if self._is_planning:
            listing = self.provider.snapshot.tree(folder)
        else:
            listing = self.provider.store.list(folder, recursive=True)
        return list(listing.objects.values())
