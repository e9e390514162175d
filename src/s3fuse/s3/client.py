"""The S3 client behind a store: the Python package s3fs, set up for this project."""

from __future__ import annotations

import logging
import os
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s3fuse.s3.connection import Connection

if TYPE_CHECKING:
    from s3fs import S3FileSystem

log = logging.getLogger("s3fuse")

#: Seconds for a TCP connection, and between two pieces of an answer.
CONNECT_TIMEOUT = 10
READ_TIMEOUT = 60


def open_filesystem(connection: Connection) -> S3FileSystem:
    """Open fsspec's s3fs for a connection, with no cache of its own."""
    # Imported here: it takes 0.3 s, which a run without S3 need not pay.
    from aiobotocore.session import AioSession
    from s3fs import S3FileSystem

    from s3fuse.s3.redirects import DirectSession, refusing_redirects

    session = AioSession(profile=connection.profile)
    session.register_component("data_loader", _descriptions())
    answers = session.get_component("response_parser_factory")
    answers.set_parser_defaults(timestamp_parser=_timestamp)
    session.register("before-parse.s3", refusing_redirects(connection))
    client_kwargs: dict[str, Any] = {"region_name": connection.region} if connection.region else {}
    if connection.endpoint_url and connection.endpoint_url.startswith("http://"):
        # Certificates that nobody will show take a tenth of a second to read.
        client_kwargs["verify"] = False
    filesystem = S3FileSystem(
        anon=connection.anonymous,
        endpoint_url=connection.endpoint_url,
        key=connection.access_key,
        secret=connection.secret_key,
        token=connection.token,
        session=session,
        client_kwargs=client_kwargs,
        config_kwargs={
            "connect_timeout": CONNECT_TIMEOUT,
            "read_timeout": READ_TIMEOUT,
            "http_session_cls": DirectSession,
            # The store sends requests again by itself; two layers of retries multiply.
            "retries": {"max_attempts": 0},
            # Stores other than AWS keep the trailing checksums of
            # newer SDKs as part of the object (boto/boto3#4435).
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
        },
        use_listings_cache=False,
        skip_instance_cache=True,
    )
    filesystem.loop.call_soon_threadsafe(filesystem.loop.set_exception_handler, _log_quietly)
    return filesystem


def _descriptions() -> Any:
    """Return botocore's loader of descriptions, without a look into those of 400 services."""
    from botocore.loaders import create_loader

    loader = create_loader(os.environ.get("AWS_DATA_PATH"))
    folders = [Path(each) for each in loader.search_paths if os.path.isdir(each)]
    services = [path.name for folder in folders for path in folder.iterdir()]
    loader.list_available_services = lambda _: services
    return loader


def _timestamp(value: str) -> datetime:
    """Read a time stamp: those of listings at once, as there may be a million."""
    from botocore.utils import parse_timestamp

    try:
        return datetime.fromisoformat(value)
    except (TypeError, ValueError):
        # HEAD answers in the form of e-mails.
        found: datetime = parse_timestamp(value)
        return found


def _log_quietly(_: object, context: dict[str, Any]) -> None:
    """Keep what breaks behind a request that is repeated anyway out of the user's terminal."""
    log.debug(f"{context.get('message')}: {context.get('exception')!r}")
