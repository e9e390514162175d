"""One ``storage`` block of a workflow: its settings, its store, its mounts."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import gc
import logging
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

import psutil
from snakemake_interface_storage_plugins.common import Operation
from snakemake_interface_storage_plugins.io import WILDCARD_REGEX
from snakemake_interface_storage_plugins.storage_provider import (
    ExampleQuery,
    QueryType,
    StorageProviderBase,
    StorageQueryValidationResult,
)

from s3fuse.errors import QueryError
from s3fuse.inputs.placement import Placement
from s3fuse.mount.mounts import Mounts
from s3fuse.mount.unmount import sweep
from s3fuse.node.job_directory import Scratch
from s3fuse.publish.journal import Journal
from s3fuse.publish.upload import CONCURRENCY
from s3fuse.s3.listings import Snapshot
from s3fuse.s3.store import ObjectInfo, Store
from s3fuse.traffic import Tally
from s3fuse.urls import S3Url, redacted
from snakemake_storage_plugin_s3fuse.errors import as_workflow_errors
from snakemake_storage_plugin_s3fuse.settings import StorageProviderSettings, parse_size
from snakemake_storage_plugin_s3fuse.workflow_state import Insides

if TYPE_CHECKING:
    from snakemake_storage_plugin_s3fuse.storage_object import StorageObject

T = TypeVar("T")

#: New objects, and rounds over them, after which the garbage collector runs: over
#: what is new often, over what has outlived that hardly ever.
GARBAGE = (100_000, 500, 10)
#: Seconds for the readers of a mount when a job is cancelled; Slurm gives it 30.
SIGTERM_TIMEOUT = 2.0


class StorageProvider(StorageProviderBase):
    """Gives rules S3 objects, folders and buckets as local paths."""

    local_prefix: Path

    def __post_init__(self) -> None:
        # Snakemake's graph of jobs grows to millions of objects, none of which
        # is garbage; to look for it less often makes planning a fifth faster.
        gc.set_threshold(*map(max, gc.get_threshold(), GARBAGE))
        settings = self.settings or StorageProviderSettings()
        assert isinstance(settings, StorageProviderSettings)
        # What the library logs, Snakemake prints.
        logging.getLogger("s3fuse").parent = self.logger
        with as_workflow_errors():
            self.store = Store(settings.connection())
            sweep(settings.mount_root_path(), settings.cache_dir_path())
            self._scratch = Scratch(self.local_prefix, settings.mount_root_path())
            self.local_prefix = self._scratch.path
            self.mounts = Mounts(
                links=self.local_prefix,
                root=settings.mount_root_path(),
                cache_dir=settings.cache_dir_path(),
                unmount_timeout=settings.unmount_timeout,
            )
            self.placement = Placement(
                self.store,
                self.mounts,
                settings.access_mode(),
                parse_size("copy_below", settings.copy_below),
                settings.mount_options(),
            )
            self.journal = Journal(settings.mount_root_path())
            self.journal.abort_abandoned(self.store)
        self.snapshot = Snapshot(self.store)
        self.insides = Insides()
        #: Objects that this process has put here or into the bucket; None if removed.
        self.known: dict[S3Url, ObjectInfo | None] = {}
        #: Objects that jobs read through a mount, as they were when they were linked.
        self.linked: dict[S3Url, ObjectInfo] = {}
        #: Objects that a job of this process is about to replace.
        self.superseded: set[S3Url] = set()
        #: Objects that this process has published where there was none.
        self.created: set[S3Url] = set()
        self.tally = Tally()
        self._is_fetching = False
        self._ending: threading.Thread | None = None
        self._heed: Callable[[int, FrameType | None], None] | None = None
        self._pool = ThreadPoolExecutor(CONCURRENCY, thread_name_prefix="s3fuse")
        atexit.register(self._at_exit)

    @classmethod
    def get_storage_object_cls(cls) -> type[StorageObject]:
        """The class of objects; it lies in a module of its own."""
        from snakemake_storage_plugin_s3fuse.storage_object import StorageObject

        return StorageObject

    @classmethod
    def example_queries(cls) -> list[ExampleQuery]:
        """What a query may look like."""
        return [
            ExampleQuery("s3://my-bucket/tas/{year}.nc", "One object.", QueryType.ANY),
            ExampleQuery("s3://my-bucket/tas/", "All objects of a folder.", QueryType.ANY),
            ExampleQuery("s3://my-bucket", "A whole bucket, as a folder.", QueryType.INPUT),
        ]

    def use_rate_limiter(self) -> bool:
        """S3 is asked as fast as the jobs ask, unless a rate is set."""
        return getattr(self.settings, "max_requests_per_second", None) is not None

    def default_max_requests_per_second(self) -> float:
        """Never used: without a setting there is no rate limit."""
        return float("inf")

    def rate_limiter_key(self, query: str, operation: Operation) -> Any:
        """One limit for the whole store."""
        return self.store.connection.place

    @classmethod
    def is_valid_query(cls, query: str) -> StorageQueryValidationResult:
        """Judge a query, with wildcards or without."""
        try:
            S3Url.parse(WILDCARD_REGEX.sub("any", query) if "{" in query else query)
        except QueryError as error:
            return StorageQueryValidationResult(redacted(query), False, str(error))
        return StorageQueryValidationResult(query, True)

    def safe_print(self, query: str) -> str:
        """Hide what may be credentials in a query."""
        return redacted(query)

    async def in_thread(self, function: Callable[..., T], *args: Any) -> T:
        """Run blocking work beside the other retrievals and uploads."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *args)

    def fetch_early(self) -> None:
        """When the first job of a run wants its inputs, begin to fetch those of the others."""
        if self._is_fetching or not self.insides.runs_here:
            return
        self._is_fetching = True
        objects = (file.storage_object for file in self.insides.inputs_to_come())
        self.placement.fetch_early(
            (each.url, info)
            for each in objects
            if each.provider is self and (info := self.snapshot.remembered(each.url))
        )

    def unmount(self) -> None:
        """Unmount everything of this run; for the hooks of a workflow.

        Raises
        ------
        StorageError
            If a read-write mount is still in use at the deadline.
        """
        with as_workflow_errors():
            self.mounts.unmount_own()

    def heed_sigterm(self) -> None:
        """In a job on another node, end at once what SIGTERM ends, and unmount.

        Where a job is cancelled or has reached its time limit, SIGKILL follows
        within seconds; Snakemake would wait for its job until then, and leave
        the mount behind.
        """
        if not self.insides.is_remote or threading.current_thread() != threading.main_thread():
            return
        before = signal.getsignal(signal.SIGTERM)
        if before is self._heed:
            return

        def heed(number: int, frame: FrameType | None) -> None:
            self._ending = threading.Thread(target=self._end_job, name="s3fuse-end")
            self._ending.start()
            if callable(before):
                before(number, frame)

        self._heed = heed
        signal.signal(signal.SIGTERM, heed)

    def _end_job(self) -> None:
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                # The daemons end with their mounts.
                if process.name() != "s3fs":
                    process.terminate()
        self.mounts.unmount_timeout = SIGTERM_TIMEOUT
        with contextlib.suppress(Exception):
            self.mounts.unmount_own()
        # Slurm tells only this process, in a step of the job, and kills the one
        # around it, which had mounted.
        end = time.monotonic() + SIGTERM_TIMEOUT
        while self.mounts.all() and time.monotonic() < end:
            time.sleep(0.05)
            with contextlib.suppress(Exception):
                sweep(self.mounts.root)

    def _at_exit(self) -> None:
        # The last resort, for workflows without hooks and for remote jobs.
        self._pool.shutdown(wait=False, cancel_futures=True)
        self.placement.early.end()
        with contextlib.suppress(Exception):
            self.mounts.unmount_own()
            if self._ending:
                self._ending.join()
            self.tally.moves(self.mounts.moved)
            self.tally.leave()
        self._scratch.remove()
        # Python looks through all objects before it ends, for 0.4 s and nothing.
        gc.freeze()
