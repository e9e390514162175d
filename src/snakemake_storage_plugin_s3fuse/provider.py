"""One ``storage`` block of a workflow: its settings and its run."""

from __future__ import annotations

import atexit
import contextlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from snakemake_interface_storage_plugins.common import Operation
from snakemake_interface_storage_plugins.io import WILDCARD_REGEX
from snakemake_interface_storage_plugins.storage_provider import (
    ExampleQuery,
    QueryType,
    StorageProviderBase,
    StorageQueryValidationResult,
)

from s3fuse.archives import Entries
from s3fuse.errors import QueryError, RunDirError
from s3fuse.urls import S3Url, redacted
from snakemake_storage_plugin_s3fuse.errors import as_workflow_errors
from snakemake_storage_plugin_s3fuse.run import Run
from snakemake_storage_plugin_s3fuse.settings import StorageProviderSettings
from snakemake_storage_plugin_s3fuse.storage_object import StorageObject


class StorageProvider(StorageProviderBase):
    """Gives rules S3 objects, folders and buckets as local paths.

    Attributes
    ----------
    run : Run
        What all objects of this provider share.
    """

    local_prefix: Path

    def __post_init__(self) -> None:
        settings = self.settings or StorageProviderSettings()
        assert isinstance(settings, StorageProviderSettings)
        # What the library logs, Snakemake prints.
        logging.getLogger("s3fuse").parent = self.logger
        with as_workflow_errors():
            self.run = Run(settings.connection(), self.local_prefix, settings.session_options())
        self.local_prefix = self.run.session.local_prefix
        # For workflows without hooks, and for jobs on other nodes, which run without.
        atexit.register(self._close)

    @classmethod
    def get_storage_object_cls(cls) -> type[StorageObject]:
        """Return the class of objects."""
        return StorageObject

    @classmethod
    def example_queries(cls) -> list[ExampleQuery]:
        """Show what a query may look like."""
        return [
            ExampleQuery("s3://my-bucket/tas/{year}.nc", "One object.", QueryType.ANY),
            ExampleQuery("s3://my-bucket/tas/", "All objects of a folder.", QueryType.ANY),
            ExampleQuery("s3://my-bucket", "A whole bucket, as a folder.", QueryType.INPUT),
        ]

    def use_rate_limiter(self) -> bool:
        """Ask S3 as fast as the jobs ask, unless a rate is set."""
        return getattr(self.settings, "max_requests_per_second", None) is not None

    def default_max_requests_per_second(self) -> float:
        """Return infinity; without a setting there is no rate limit."""
        return float("inf")

    def rate_limiter_key(self, query: str, operation: Operation) -> Any:
        """Have one limit for the whole store."""
        return self.run.session.store.connection.place

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

    def listed(self, folders: Sequence[str]) -> list[Entries]:
        """List folders of buckets, by their URLs."""
        with as_workflow_errors():
            return self.run.listed([S3Url.parse_folder(folder) for folder in folders])

    def unmount(self) -> None:
        """Unmount everything of this run; jobs that come later mount again.

        Raises
        ------
        StorageError
            If a read-write mount is still in use at the deadline.
        """
        with as_workflow_errors():
            self.run.session.unmount()

    def _close(self) -> None:
        # Whatever fails here was said by a hook before, or nobody waits for it any more.
        with contextlib.suppress(Exception):
            try:
                self.run.close()
            except RunDirError as error:
                # Another user has created or changed the directory during the run.
                logging.getLogger("s3fuse").warning(str(error))
