"""The S3 client behind a store: the Python package s3fs, set up for this project."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from s3fuse.errors import ObjectChanged
from s3fuse.s3.connection import Connection
from s3fuse.s3.objects import ObjectInfo
from s3fuse.s3.retries import retrying_request
from s3fuse.s3.translate import EXPIRED, code_of
from s3fuse.urls import S3Url

if TYPE_CHECKING:
    from s3fs import S3FileSystem

log = logging.getLogger("s3fuse")

T = TypeVar("T")

#: Bytes of a body that are handed on at a time.
CHUNK = 256 * 1024
#: Seconds for a TCP connection, and between two pieces of an answer.
CONNECT_TIMEOUT = 10
READ_TIMEOUT = 60


class Client:
    """Sends requests to a store: again where it may answer a moment later, and with keys renewed.

    Its coroutines run in one event loop: that of fsspec, or the one that a program of
    coroutines runs in anyway.

    Parameters
    ----------
    connection : Connection
        Where the store is and who asks.
    asynchronous : bool
        Use the event loop that runs.
    """

    def __init__(self, connection: Connection, *, asynchronous: bool = False) -> None:
        self.connection = connection
        self._asynchronous = asynchronous

    @cached_property
    def filesystem(self) -> S3FileSystem:
        """The s3fs filesystem beneath, opened when it is first needed."""
        return open_filesystem(self.connection, asynchronous=self._asynchronous)

    async def request(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send one request.

        Parameters
        ----------
        method : str
            A method of the S3 client, such as ``head_object``.
        **parameters
            What that method takes.

        Raises
        ------
        Exception
            Whatever the S3 client raises; `s3fuse.s3.translate.explained` has a sentence for it.
        """

        async def ask(client: Any) -> dict[str, Any]:
            return await self._persistently(getattr(client, method), **parameters)

        return await self._renewing(ask)

    async def read(
        self,
        url: S3Url,
        info: ObjectInfo,
        start: int,
        size: int,
        write: Callable[[bytes, int], Any],
        **parameters: Any,
    ) -> None:
        """Read a piece of one version of an object.

        Parameters
        ----------
        url : S3Url
            The object.
        info : ObjectInfo
            The version.
        start, size : int
            Bytes.
        write : callable
            Is given each chunk as it comes, and its position in the object.
        **parameters
            More of what ``get_object`` takes.

        Raises
        ------
        ObjectChanged
            If another version came.
        Exception
            Whatever the S3 client raises.
        """
        span = {"IfMatch": f'"{info.etag}"', **parameters}
        if size < info.size:
            span["Range"] = f"bytes={start}-{start + size - 1}"

        async def copy(client: Any) -> None:
            answer = await self._persistently(
                client.get_object, Bucket=url.bucket, Key=url.key, **span
            )
            # Some servers ignore the condition.
            if answer.get("ETag", "").strip('"') != info.etag:
                raise ObjectChanged(f"{url} was replaced while it was in use; start the run again.")
            # Something on the way may answer with all of it, or with another piece.
            piece = str(answer.get("ContentRange", "")).partition("/")[0]
            if "Range" in span and piece != f"bytes {span['Range'].removeprefix('bytes=')}":
                answer["Body"].close()
                raise ConnectionError(f"{piece or 'all'} came instead of {span['Range']}")
            position = start
            with contextlib.closing(answer["Body"]) as body:
                async for chunk in body.iter_chunks(CHUNK):
                    if position + len(chunk) > start + size:
                        raise ConnectionError(f"more came than {size} bytes")
                    write(chunk, position)
                    position += len(chunk)
            if position != start + size:
                raise ConnectionError(f"{position - start} bytes came instead of {size}")

        await self._renewing(copy)

    async def _persistently(
        self, method: Callable[..., Awaitable[dict[str, Any]]], **parameters: Any
    ) -> dict[str, Any]:
        async for attempt in retrying_request(self.connection.retries):
            with attempt:
                answer = await method(**parameters)
        return answer

    async def _renewing(self, ask: Callable[[Any], Awaitable[T]]) -> T:
        """Ask, and once more with what the AWS provider chain gives now if a token has expired."""
        files = self.filesystem
        try:
            return await ask(await files.set_session())
        except Exception as error:
            # A HEAD request is answered without a code.
            may_be_expired = code_of(error) in (*EXPIRED, "400")
            if not may_be_expired or self.connection.is_fixed:
                raise
        if self.filesystem is files:
            del self.filesystem
        return await ask(await self.filesystem.set_session())


def open_filesystem(connection: Connection, *, asynchronous: bool = False) -> S3FileSystem:
    """Open fsspec's s3fs for a connection, with no cache of its own."""
    # Imported here: it takes 0.3 s, which a run without S3 need not pay.
    from aiobotocore.session import AioSession
    from s3fs import S3FileSystem

    from s3fuse.s3.parameters import adding_parameters
    from s3fuse.s3.redirects import DirectSession, refusing_redirects

    session = AioSession(profile=connection.profile)
    session.register_component("data_loader", _descriptions())
    answers = session.get_component("response_parser_factory")
    answers.set_parser_defaults(timestamp_parser=_timestamp)
    session.register("before-parse.s3", refusing_redirects(connection))
    session.register("before-parameter-build.s3", adding_parameters(connection))
    client_kwargs: dict[str, Any] = {"region_name": connection.region} if connection.region else {}
    if connection.endpoint_url and connection.endpoint_url.startswith("http://"):
        # Certificates that nobody will show take a tenth of a second to read.
        client_kwargs["verify"] = False
    # Those of the environment if left out.
    proxies: dict[str, Any] = {"proxies": {}} if connection.is_here else {}
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
            **proxies,
        },
        asynchronous=asynchronous,
        use_listings_cache=False,
        skip_instance_cache=True,
    )
    if not asynchronous:
        filesystem.loop.call_soon_threadsafe(filesystem.loop.set_exception_handler, log_quietly)
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


def log_quietly(_: object, context: dict[str, Any]) -> None:
    """Keep what breaks behind a request that is repeated anyway out of the user's terminal."""
    log.debug(f"{context.get('message')}: {context.get('exception')!r}")
