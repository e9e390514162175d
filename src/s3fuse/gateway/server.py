"""The answers to s3fs, and to the runs that a mount belongs to."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import re
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from functools import partial
from pathlib import Path
from typing import IO, Any
from urllib.parse import parse_qsl, unquote

from aiohttp import web

from s3fuse.cache.room import NoRoom, Room
from s3fuse.errors import EndpointError, ObjectChanged, ObjectDamaged, S3FuseError
from s3fuse.gateway import answers, signature
from s3fuse.gateway.answers import Page
from s3fuse.gateway.cache import FILE, PIECE, Cache, OpenObject
from s3fuse.gateway.catalogue import Catalogue, View
from s3fuse.gateway.failures import Failure, Failures
from s3fuse.gateway.metadata import fetch_metadata, fetch_whole
from s3fuse.gateway.options import TRIES, GatewayOptions
from s3fuse.gateway.reserve import NEEDED, Reserve
from s3fuse.gateway.strides import TOLERANCE
from s3fuse.gateway.upstream import Upstream
from s3fuse.gateway.versions import Versions
from s3fuse.node.links import links_into, move_links
from s3fuse.s3.etags import damaged, may_hold
from s3fuse.s3.objects import ObjectInfo
from s3fuse.urls import S3Url

#: Requests that are worked on at the same time; others wait.
AT_A_TIME = 64
#: Bytes of a request from s3fs, which has none when it reads, and of an order of a run.
MOST_BODY, MOST_ORDER = 2**16, 2**28
#: Objects that are prefetched at the same time.
PREFETCHED = 8
#: How objects are fetched that are read from end to end.
WHOLE_PIECE, WHOLE_AT_A_TIME = 4 * 2**20, 6
#: Pieces that are on their way at the same time where they are not kept.
PASSED = 5
#: Seconds within which s3fs is answered, before it gives up by itself.
ANSWERED = 100.0
#: Seconds after which s3fs will not ask for the same once more.
FORGOTTEN = 4 * ANSWERED
#: Objects that are compared at the same time.
COMPARED = 2
#: Seconds between two signs of life to a run that waits.
BLANK = 2.0

#: Errors after which a version can never be had.
FINAL = (ObjectChanged, ObjectDamaged)

_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


class Server:
    """Answers the requests of one mount.

    Parameters
    ----------
    options : GatewayOptions
        What is served.
    upstream : Upstream
        The bucket.
    catalogue : Catalogue
        What is shown.
    versions : Versions
        Which version of it.
    tell : callable
        Is given what the owner of the mount should know, as JSON.
    """

    def __init__(
        self,
        options: GatewayOptions,
        upstream: Upstream,
        catalogue: Catalogue,
        versions: Versions,
        tell: Callable[[dict[str, Any]], None],
    ) -> None:
        self._options, self._upstream, self._tell = options, upstream, tell
        self._catalogue, self._versions = catalogue, versions
        spare = options.spare_bytes + NEEDED
        room = Room(options.node_cache, options.cache_bytes, spare)
        self._reserve = Reserve(options.cache, options.spare_bytes, room)
        self._cache = Cache(
            room,
            options.cache,
            options.connection.endpoint_url,
            options.bucket,
            upstream.read,
            self._start_comparing,
            self._linked,
        )
        # What only its owner can decrypt in the store does not lie on this disk for longer
        # than it takes to read it.
        self._keeps = not options.connection.sse_customer_key
        self._failures = Failures(options.directory)
        # How often s3fs was told to ask for the same again.
        self._put_off: dict[tuple[str, str, str], tuple[int, float]] = {}
        for info in catalogue.uncompared():
            # Somebody may have read all of it.
            url = S3Url(options.bucket, info.key)
            self._note(Failure(info.key, _not_compared(url), time.time(), info))
        # Nobody knows what has come of what a gateway before this one had here.
        linked = self._linked()
        for path in options.cache.glob(f"{FILE}*"):
            if path not in linked:
                path.unlink()
        self._limit = asyncio.Semaphore(AT_A_TIME)
        self._prefetching = asyncio.Semaphore(PREFETCHED)
        self._tasks: set[asyncio.Task[None]] = set()
        self._comparing: dict[asyncio.Task[bool], ObjectInfo] = {}
        # Threads of their own, as they wait for answers, and names of hosts are looked up in
        # those of the event loop.
        self._comparers = ThreadPoolExecutor(COMPARED, thread_name_prefix="compare")

    def for_s3fs(self) -> web.Application:
        """Return the S3 server, for the port."""
        application = web.Application(client_max_size=MOST_BODY)
        application.router.add_route("*", "/{path:.*}", self._answer)
        return application

    def for_runs(self) -> web.Application:
        """Return the server that takes orders, for the socket."""
        application = web.Application(client_max_size=MOST_ORDER)
        application.router.add_post("/views", self._show)
        application.router.add_get("/requests", self._requests)
        application.router.add_get("/moved", self._moved)
        application.router.add_post("/failures", self._tell_failures)
        return application

    # For runs.

    async def _show(self, request: web.Request) -> web.Response:
        view = View.from_json(await request.json())
        self._catalogue.show(view)
        path = self._options.point / view.path
        # What is known to be wrong fails when it is read.
        if view.single and self._keeps and not self._failures.reason(view.single):
            if file := self._cache.lend(view.single):
                path = file
            else:
                self._start(self._prefetch(view.single, view))
        return web.json_response({"path": str(path)})

    async def _requests(self, _: web.Request) -> web.Response:
        return web.json_response(self._upstream.counts)

    async def _moved(self, request: web.Request) -> web.Response:
        infos = self._catalogue.below(request.query["path"])
        return web.json_response({"bytes": sum(map(self._cache.moved, infos))})

    async def _tell_failures(self, request: web.Request) -> web.StreamResponse:
        """Answer when what had come whole of some keys is compared, with blanks while it lasts."""
        keys = tuple((await request.json())["keys"])
        comparing = {task for task, info in self._comparing.items() if info.key.startswith(keys)}
        answer = web.StreamResponse()
        await answer.prepare(request)
        while comparing:
            _, comparing = await asyncio.wait(comparing, timeout=BLANK)
            await answer.write(b" ")
        for info in self._cache.edited():
            self._note(Failure.of_version(info, self._edited(info)))
        failures = [each.as_json() for each in self._failures.all()]
        await answer.write(json.dumps({"failures": failures}).encode())
        return answer

    async def _prefetch(self, info: ObjectInfo, view: View) -> None:
        try:
            async with self._prefetching:
                if not view.sequential:
                    await fetch_metadata(self._cache, info)
                    return
                await fetch_whole(self._cache, info, WHOLE_PIECE, WHOLE_AT_A_TIME)
            # Reading the file itself takes half of the time; it is compared at the same time.
            if file := self._cache.lend(info):
                move_links(self._options.point / view.path, file, self._options.links)
        except FINAL as error:
            self._note(Failure.of_version(info, str(error)))
        except (NoRoom, OSError, S3FuseError):
            # It fails again in the job.
            return

    def _linked(self) -> set[Path]:
        """Find the files in the cache to which links of jobs lead."""
        return {target for _, target in links_into([self._options.cache], self._options.links)}

    def _start(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # For s3fs.

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        target = request.raw_path
        headers = {name.lower(): value for name, value in request.headers.items()}
        asked = signature.Request(request.method, target, headers)
        if not signature.is_signed(asked, self._options.keys):
            return _error(403, "AccessDenied", "This server answers its own mount only.")
        path, _, raw_query = target.partition("?")
        bucket, _, key = unquote(path.lstrip("/"), errors="surrogateescape").partition("/")
        query = dict(parse_qsl(raw_query, keep_blank_values=True, errors="surrogateescape"))
        if bucket != self._options.bucket:
            return _error(404, "NoSuchBucket", "This server has one bucket.")
        if request.method not in ("GET", "HEAD"):
            return _error(405, "MethodNotAllowed", "This mount is read-only.")
        info = None
        try:
            async with asyncio.timeout(ANSWERED) as limit, self._limit:
                response: web.StreamResponse
                if not key:
                    response = await self._list(query)
                elif key.endswith("/") and self._versions.is_folder(key):
                    response = web.Response(content_type="application/x-directory")
                else:
                    looks = request.method == "HEAD"
                    versions = self._versions
                    info = await (versions.look(key) if looks else versions.shown(key))
                    response = await self._object(request, key, info, limit)
        except TimeoutError:
            late = EndpointError(f"s3://{bucket}/{key} did not come within {ANSWERED:.0f} s.")
            return self._refusal(request, key or query.get("prefix", ""), info, late)
        except S3FuseError as error:
            return self._refusal(request, key or query.get("prefix", ""), info, error)
        self._put_off.pop(_name(request), None)
        return response

    def _refusal(
        self, request: web.Request, key: str, info: ObjectInfo | None, error: S3FuseError
    ) -> web.Response:
        """Answer what s3fs understands, and note what programs will see as an error."""
        if isinstance(error, EndpointError):
            self._put_off_again(request, key, info, error)
            # After this answer, s3fs asks again.
            return _error(503, "SlowDown", str(error))
        self._note(_failure(key, info, error))
        # After 400 or 403 to a HEAD request, s3fs shows an empty file; after 404 to a
        # GET request, it takes what did not come for zeros. This is an I/O error to it.
        return _error(412, "PreconditionFailed", str(error))

    def _put_off_again(
        self, request: web.Request, key: str, info: ObjectInfo | None, error: S3FuseError
    ) -> None:
        """Note what s3fs will not ask for once more."""
        now = time.monotonic()
        recent = {k: each for k, each in self._put_off.items() if now - each[1] < FORGOTTEN}
        times = recent.pop(_name(request), (0, now))[0] + 1
        if times < TRIES:
            recent[_name(request)] = times, now
        else:
            self._note(_failure(key, info, error))
        self._put_off = recent

    async def _list(self, query: dict[str, str]) -> web.Response:
        # Without a prefix, s3fs looks whether the bucket is there, which was done before.
        page = await self._versions.list(query) if "prefix" in query else Page([], [])
        text = answers.listing(self._options.bucket, query, page)
        return web.Response(text=text, content_type="application/xml")

    async def _object(
        self, request: web.Request, key: str, info: ObjectInfo | None, limit: asyncio.Timeout
    ) -> web.StreamResponse:
        if info is None and request.method == "GET":
            raise ObjectChanged(f"s3://{self._options.bucket}/{key} is not there any more.")
        if info is None:
            return _error(404, "NoSuchKey", f"There is no {key}.")
        span = _span(request, info.size)
        if span is None:
            return _error(416, "InvalidRange", f"{key} has {info.size} bytes.")
        headers = {
            "ETag": f'"{info.etag}"',
            "Last-Modified": formatdate(info.mtime, usegmt=True),
            "Accept-Ranges": "bytes",
            "Content-Type": "application/octet-stream",
            "Content-Length": str(len(span)),
        }
        if "Range" in request.headers:
            headers["Content-Range"] = f"bytes {span.start}-{span.stop - 1}/{info.size}"
        response = web.StreamResponse(
            status=206 if "Range" in request.headers else 200, headers=headers
        )
        if request.method == "HEAD" or not span:
            return response
        if sentence := self._failures.reason(info):
            return _error(412, "PreconditionFailed", sentence)
        await self._send(request, response, info, span, limit)
        return response

    async def _send(
        self,
        request: web.Request,
        response: web.StreamResponse,
        info: ObjectInfo,
        span: range,
        limit: asyncio.Timeout,
    ) -> None:
        """Send a span of an object from the cache, or around it where that has no room."""
        try:
            if not self._keeps:
                raise NoRoom
            with self._cache.using(info) as found:
                self._look_ahead(found, span)
            async with (
                contextlib.AsyncExitStack() as turns,
                self._cache.having(info, span.start, span.stop) as file,
            ):
                await turns.enter_async_context(self._reserve.sending(len(span)))
                # From now on s3fs sees that something comes.
                limit.reschedule(None)
                await response.prepare(request)
                assert request.transport is not None
                loop = asyncio.get_running_loop()
                await loop.sendfile(request.transport, file, span.start, len(span))
        except (NoRoom, OSError) as error:
            if not response.prepared:
                await self._pass_through(request, response, info, span, limit)
                return
            if not isinstance(error, ConnectionError):
                # The disk; s3fs sees an answer that breaks off.
                self._note(Failure(info.key, f"{info.key}: {error}", time.time(), info))
            raise

    def _look_ahead(self, found: OpenObject, span: range) -> None:
        """Have come what a job may read next."""
        found.order(span.start, span.stop)
        for start, end in self._cache.strides(found.info).next(span.start, len(span)):
            # Otherwise it was guessed before, a little beside this.
            if found.missing(start, end) > 2 * TOLERANCE:
                # Nobody waits for it yet, so one request is enough.
                found.order(start, end, end - start)

    async def _pass_through(
        self,
        request: web.Request,
        response: web.StreamResponse,
        info: ObjectInfo,
        span: range,
        limit: asyncio.Timeout,
    ) -> None:
        """Send a span of an object without keeping it, some pieces at the same time."""
        starts = iter(range(span.start, span.stop, PIECE))
        coming: deque[asyncio.Task[bytes]] = deque()

        def order(start: int) -> None:
            end = min(start + PIECE, span.stop)
            coming.append(asyncio.ensure_future(self._piece(info, start, end)))

        try:
            for start in itertools.islice(starts, PASSED):
                order(start)
            while coming:
                body = await coming[0]
                if not response.prepared:
                    limit.reschedule(None)
                    await response.prepare(request)
                await response.write(body)
                coming.popleft()
                for start in itertools.islice(starts, 1):
                    order(start)
        except S3FuseError:
            # The length was promised, so this is an error to s3fs, which asks again.
            if response.prepared and request.transport:
                request.transport.abort()
            raise
        finally:
            for task in coming:
                task.cancel()
            await asyncio.gather(*coming, return_exceptions=True)

    async def _piece(self, info: ObjectInfo, start: int, end: int) -> bytes:
        """Fetch a piece of an object into memory."""
        body = bytearray(end - start)

        def write(chunk: bytes, position: int) -> None:
            body[position - start : position - start + len(chunk)] = chunk

        await self._upstream.read(info, start, end, write)
        return bytes(body)

    def _start_comparing(self, info: ObjectInfo, file: IO[bytes]) -> asyncio.Future[bool]:
        task = asyncio.ensure_future(self._compare(info, file))
        self._comparing[task] = info
        task.add_done_callback(self._comparing.pop)
        return task

    async def _compare(self, info: ObjectInfo, file: IO[bytes]) -> bool:
        """Compare a whole object with its ETag, and note if it is another one.

        Jobs may read it meanwhile; what they make of it is not published before.
        """
        loop = asyncio.get_running_loop()

        def part_size(number: int) -> int | None:
            asked = self._upstream.part_size(info, number)
            return asyncio.run_coroutine_threadsafe(asked, loop).result()

        url = S3Url(self._options.bucket, info.key)
        self._catalogue.compare(info)
        try:
            with file:
                comparison = partial(may_hold, info, file, part_size)
                is_right = await loop.run_in_executor(self._comparers, comparison)
            is_opaque = is_right or await self._upstream.is_opaque(info)
        except (OSError, S3FuseError) as error:
            self._note(Failure(info.key, f"{_not_compared(url)} ({error})", time.time(), info))
            return False
        self._catalogue.compared(info)
        if is_opaque is None:
            self._note(Failure(info.key, _not_compared(url), time.time(), info))
        elif not is_opaque:
            self._cache.forget(info)
            self._note(Failure.of_version(info, str(damaged(url))))
        return bool(is_opaque)

    def _edited(self, info: ObjectInfo) -> str:
        return (
            f"The file of s3://{self._options.bucket}/{info.key} on this node was changed while "
            "jobs read it; let the rule write to another file than its input."
        )

    def _note(self, failure: Failure) -> None:
        """Note a failure, and tell the owner of the mount if it is a new one."""
        is_news = True
        with contextlib.suppress(OSError):
            is_news = self._failures.add(failure)
        if is_news:
            self._tell({"warning": failure.sentence})


def _not_compared(url: S3Url) -> str:
    return f"{url} could not be compared with its checksum; start the run again."


def _failure(key: str, info: ObjectInfo | None, error: S3FuseError) -> Failure:
    if info and isinstance(error, FINAL):
        return Failure.of_version(info, str(error))
    return Failure(info.key if info else key, str(error), time.time(), info)


def _name(request: web.Request) -> tuple[str, str, str]:
    """Return what tells that s3fs asks for the same again."""
    return request.method, request.raw_path, request.headers.get("Range", "")


def _span(request: web.Request, size: int) -> range | None:
    """Return what of an object is asked for; None if it does not have it."""
    asked = request.headers.get("Range")
    if asked is None:
        return range(size)
    match = _RANGE.fullmatch(asked)
    if match is None:
        return None
    start, end = int(match[1]), min(int(match[2] or size), size - 1) + 1
    return range(start, end) if start < end else None


def _error(status: int, code: str, message: str) -> web.Response:
    return web.Response(
        status=status, text=answers.error(code, message), content_type="application/xml"
    )
