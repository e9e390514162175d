"""A proxy in front of an S3 server on loopback that slows, counts and breaks on order.

The one seam for faults and measurements: tests and benchmarks put it between
the project and a real server.  It speaks just enough HTTP/1.1 to tell requests
apart; what it does not change, it passes on byte by byte, so signatures hold.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

CHUNK = 256 * 1024
#: Seconds by which a limited connection may run ahead of its clock.
SLACK = 0.01

#: Errors as S3 answers them: status line and code.
ERRORS = {
    "InternalError": "500 Internal Server Error",
    "SlowDown": "503 Slow Down",
    "ServiceUnavailable": "503 Service Unavailable",
    "AccessDenied": "403 Forbidden",
    "ExpiredToken": "400 Bad Request",
}


@dataclass(frozen=True)
class Request:
    """What of a request tells it from others.

    Attributes
    ----------
    method : str
        ``GET``, ``PUT`` and so on.
    bucket, key : str
        Of the path; the key is empty for requests about the bucket.
    query : dict
        Parameters, with blank values kept.
    access_key : str
        Who signed it; empty for an anonymous one.
    """

    method: str
    bucket: str
    key: str
    query: dict[str, list[str]]
    access_key: str = ""

    @classmethod
    def parse(cls, head: bytes) -> Request:
        """Read the first line."""
        method, target, _ = head.split(b"\r\n", 1)[0].decode().split(" ", 2)
        parts = urlsplit(target)
        bucket, _, key = parts.path.lstrip("/").partition("/")
        signer = re.search(rb"(?i)\nAuthorization:[^\n]*Credential=([^/]+)/", head)
        query = parse_qs(parts.query, keep_blank_values=True)
        return cls(method, bucket, key, query, signer[1].decode() if signer else "")

    @property
    def kind(self) -> str:
        """What is counted: the S3 action, roughly."""
        if not self.key:
            return "LIST" if self.method == "GET" else f"{self.method} bucket"
        if "uploadId" in self.query or "uploads" in self.query:
            return f"{self.method} part" if "partNumber" in self.query else f"{self.method} upload"
        return self.method


@dataclass
class Faults:
    """What the proxy does to the traffic; may be changed while it runs.

    Attributes
    ----------
    latency : float
        Seconds before each request is passed on.
    connection_bandwidth, total_bandwidth : float
        Bytes a second of bodies, for one connection and for all; 0 for no limit.
    error_share : float
        Share of requests that are answered with `error`.
    error : str
        A key of `ERRORS`.
    reset_every : int
        Every so many-th connection is reset in the middle of its first body.
    cut_every : int
        Every so many-th body of an answer ends early, the connection closed in order.
    hang : bool
        Take requests and never answer.
    stall : callable, optional
        Given a `Request`, whether it is never answered.
    damage_uploads : bool
        Change a byte of each body that clients send.
    refuse : callable, optional
        Given a `Request`, a key of `ERRORS` or None.
    header : bytes
        A line that is added to the head of each answer.
    """

    latency: float = 0.0
    connection_bandwidth: float = 0.0
    total_bandwidth: float = 0.0
    error_share: float = 0.0
    error: str = "SlowDown"
    reset_every: int = 0
    cut_every: int = 0
    hang: bool = False
    stall: Callable[[Request], bool] | None = None
    damage_uploads: bool = False
    refuse: Callable[[Request], str | None] | None = None
    header: bytes = b""


@dataclass
class Counts:
    """What went through.

    Attributes
    ----------
    connections : int
        Connections of clients.
    requests : Counter
        By kind.
    received, sent : int
        Bytes of bodies, from clients and to them.
    read : int
        Bytes of objects, of those that were sent.
    injected : Counter
        Faults, by name.
    """

    connections: int = 0
    requests: Counter[str] = field(default_factory=Counter)
    received: int = 0
    sent: int = 0
    read: int = 0
    injected: Counter[str] = field(default_factory=Counter)

    @property
    def total(self) -> int:
        """All requests."""
        return sum(self.requests.values())


class _Limit:
    """Spreads bytes over time."""

    def __init__(self) -> None:
        self.free_at = 0.0

    async def take(self, count: int, rate: float) -> None:
        if rate:
            now = time.monotonic()
            # What a sleep took too long is caught up with.
            self.free_at = max(self.free_at, now - SLACK) + count / rate
            if self.free_at > now:
                await asyncio.sleep(self.free_at - now)


class Proxy:
    """A running proxy; made by `proxied`.

    Parameters
    ----------
    upstream : str
        URL of the server, which must be on loopback.
    faults : Faults
        What to do to the traffic.
    seed : int
        For the choice of requests that fail.
    """

    def __init__(self, upstream: str, faults: Faults, seed: int = 0) -> None:
        parts = urlsplit(upstream)
        if parts.hostname != "127.0.0.1" or parts.port is None:
            raise ValueError(f"{upstream} is not on loopback with a port")
        self.host, self.port = parts.hostname, parts.port
        self.faults = faults
        self.counts = Counts()
        self.endpoint_url = ""
        self._random = random.Random(seed)
        self._total = _Limit()
        self._bodies = 0
        self._down_until = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    def reset_counts(self) -> None:
        """Count from zero."""
        self.counts = Counts()

    def drop(self, seconds: float) -> None:
        """Be gone for a while: reset what is open, and all that comes."""
        self._down_until = time.monotonic() + seconds
        self.counts.injected["drop"] += 1
        self._loop.call_soon_threadsafe(self._reset_all)

    def _reset_all(self) -> None:
        for writer in list(self._writers):
            _reset(writer)

    async def _serve(self, listener: socket.socket, ready: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopped = asyncio.Event()
        server = await asyncio.start_server(self._client, sock=listener)
        ready.set()
        await self._stopped.wait()
        server.close()
        self._reset_all()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            await self._converse(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            self._writers.discard(writer)
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if time.monotonic() < self._down_until:
            _reset(writer)
            return
        self.counts.connections += 1
        number = self.counts.connections
        every = self.faults.reset_every
        resets = bool(every) and number % every == 0
        limit = _Limit()
        up_reader, up_writer = await asyncio.open_connection(self.host, self.port, limit=2**20)
        try:
            while True:
                head = await _read_head(reader)
                if not head:
                    return
                request = Request.parse(head)
                self.counts.requests[request.kind] += 1
                await asyncio.sleep(self.faults.latency)
                if self.faults.hang or (self.faults.stall and self.faults.stall(request)):
                    self.counts.injected["stall"] += 1
                    await self._stopped.wait()
                expects = b"100-continue" in _headers(head).get(b"expect", b"").lower()
                if error := self._error(request):
                    await self._refuse(reader, writer, head, request, error, expects)
                    if expects:
                        # Whether the body comes after all, nobody can tell.
                        return
                    continue
                if expects:
                    writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                up_writer.write(head)
                async for piece in _body(reader, head):
                    self.counts.received += len(piece)
                    if self.faults.damage_uploads:
                        self.counts.injected["damage"] += 1
                        piece = piece[:-1] + bytes([piece[-1] ^ 1])
                    await limit.take(len(piece), self.faults.connection_bandwidth)
                    await self._total.take(len(piece), self.faults.total_bandwidth)
                    up_writer.write(piece)
                    await up_writer.drain()
                answer = await _read_head(up_reader)
                while answer.split(b" ", 2)[1] == b"100":
                    answer = await _read_head(up_reader)
                if await self._answer(writer, up_reader, answer, request, limit, resets):
                    return
        finally:
            up_writer.close()

    def _error(self, request: Request) -> str | None:
        if self.faults.refuse and (error := self.faults.refuse(request)):
            return error
        if self.faults.error_share and self._random.random() < self.faults.error_share:
            return self.faults.error
        return None

    async def _refuse(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        head: bytes,
        request: Request,
        error: str,
        expects: bool,
    ) -> None:
        self.counts.injected[error] += 1
        if not expects:
            async for _ in _body(reader, head):
                pass
        body = f"<Error><Code>{error}</Code><Message>By order</Message></Error>".encode()
        writer.write(
            f"HTTP/1.1 {ERRORS[error]}\r\nContent-Type: application/xml\r\n"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
        )
        if request.method != "HEAD":
            writer.write(body)
        await writer.drain()

    async def _answer(
        self,
        writer: asyncio.StreamWriter,
        upstream: asyncio.StreamReader,
        head: bytes,
        request: Request,
        limit: _Limit,
        resets: bool,
    ) -> bool:
        """Pass an answer on; true when the connection ends with it."""
        if self.faults.header:
            head = head.replace(b"\r\n", b"\r\n" + self.faults.header + b"\r\n", 1)
        writer.write(head)
        if request.method == "HEAD" or head.split(b" ", 2)[1] in (b"204", b"304"):
            await writer.drain()
            return False
        length = int(_headers(head).get(b"content-length", b"-1"))
        is_object = request.method == "GET" and bool(request.key)
        can_break = is_object and length > 1
        cuts = False
        if can_break and self.faults.cut_every:
            self._bodies += 1
            cuts = self._bodies % self.faults.cut_every == 0
        passed = 0
        async for piece in _body(upstream, head):
            if can_break and (resets or cuts) and passed + len(piece) > length // 2:
                writer.write(piece[: max(0, length // 2 - passed)])
                await writer.drain()
                self.counts.injected["reset" if resets else "cut"] += 1
                if resets:
                    _reset(writer)
                return True
            await limit.take(len(piece), self.faults.connection_bandwidth)
            await self._total.take(len(piece), self.faults.total_bandwidth)
            writer.write(piece)
            await writer.drain()
            passed += len(piece)
            self.counts.sent += len(piece)
            self.counts.read += len(piece) if is_object else 0
        return False


@contextlib.contextmanager
def proxied(upstream: str, faults: Faults | None = None, *, seed: int = 0) -> Iterator[Proxy]:
    """Run a proxy in front of a server while the context lasts."""
    proxy = Proxy(upstream, faults or Faults(), seed)
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)
    proxy.endpoint_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    ready = threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(proxy._serve(listener, ready)))
    thread.start()
    ready.wait()
    try:
        yield proxy
    finally:
        proxy._loop.call_soon_threadsafe(proxy._stopped.set)
        thread.join()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close a connection by RST instead of FIN."""
    sock = writer.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    writer.transport.abort()


async def _read_head(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return b""


def _headers(head: bytes) -> dict[bytes, bytes]:
    lines = head.split(b"\r\n")[1:]
    pairs = (line.partition(b":") for line in lines if line)
    return {name.lower(): value.strip() for name, _, value in pairs}


async def _body(reader: asyncio.StreamReader, head: bytes):  # type: ignore[no-untyped-def]
    headers = _headers(head)
    if headers.get(b"transfer-encoding", b"").lower() == b"chunked":
        while True:
            line = await reader.readuntil(b"\r\n")
            size = int(line.split(b";")[0], 16)
            piece = await reader.readexactly(size + 2)
            yield line + piece
            if size == 0:
                return
    left = int(headers.get(b"content-length", b"0"))
    while left:
        piece = await reader.read(min(CHUNK, left))
        if not piece:
            raise asyncio.IncompleteReadError(b"", left)
        left -= len(piece)
        yield piece
