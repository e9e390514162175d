"""A proxy on loopback that adds conditional writes to an S3 server, with the answers of AWS.

Few S3 servers that run in tests honour ``If-None-Match`` and ``If-Match`` of
CompleteMultipartUpload, and none of those checks them in one step with the write
(``tests/integration/test_store_capabilities.py`` tries it). Behind this proxy any
server does:

- Requests that create, replace or delete the same object run one after the other.
  Their bodies are received before that, so a slow client delays only itself.
- The conditions of PutObject and CompleteMultipartUpload are compared with the
  answer of the server to a HEAD request, in the turn of the request.
- ``If-None-Match`` is honoured with ``*``: 412 (PreconditionFailed) if the object
  exists. Other values are answered with 501 (NotImplemented).
- ``If-Match`` is honoured with ``*`` and with an ETag, quoted or not: 412 if the
  object has another ETag, 404 (NoSuchKey) if it is missing.
- A refused CompleteMultipartUpload keeps the upload, which can be completed or aborted.
- All other requests are passed on, byte by byte, so that signatures hold. That includes
  the conditions, which are signed: the server must ignore or honour them.

The answer 409 (ConditionalRequestConflict), by which AWS refuses requests that overlap,
never occurs, because requests wait for their turn.

Rules: https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.client import HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

from fault_proxy import Request
from s3fuse.errors import BucketNotFound
from s3fuse.s3.connection import Connection
from s3fuse.s3.store import Store
from s3fuse.urls import S3Url

CHUNK = 256 * 1024
#: Seconds within which each end must go on with what it has begun.
TIMEOUT = 60.0
#: What makes a PUT or DELETE request one about a part or a property of an object.
SUBRESOURCES = {"uploadId", "tagging", "acl", "retention", "legal-hold"}

_STATUS = {
    "PreconditionFailed": (412, "At least one of the pre-conditions you specified did not hold"),
    "NoSuchKey": (404, "The specified key does not exist."),
    "NotImplemented": (501, "A header you provided implies functionality that is not implemented"),
}


class _Proxy(ThreadingHTTPServer):
    """The listening end; the threads of its connections end when it is closed."""

    daemon_threads = False
    request_queue_size = 256

    def __init__(self, upstream: Connection) -> None:
        parts = urlsplit(upstream.endpoint_url or "")
        if parts.hostname != "127.0.0.1" or parts.port is None:
            raise ValueError(f"{upstream.endpoint_url} is not on loopback with a port")
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = (parts.hostname, parts.port)
        self.store = Store(upstream)
        self.clients: set[socket.socket] = set()
        self._locks: defaultdict[S3Url, threading.Lock] = defaultdict(threading.Lock)
        self._locks_lock = threading.Lock()

    def turn(self, url: S3Url) -> threading.Lock:
        """Return the lock that a request which writes to this object must hold."""
        with self._locks_lock:
            return self._locks[url]

    def handle_error(self, request: object, client_address: object) -> None:
        """Let a connection that was cut end silently; the other end sees that it was cut."""

    def stop(self) -> None:
        """Cut the connections, and wait for the threads that serve them."""
        self.shutdown()
        for client in list(self.clients):
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    """Serves one connection of a client; each request has its own connection to the server."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = CHUNK
    timeout = TIMEOUT
    server: _Proxy
    #: The first line of a request, as it came.
    raw_requestline: bytes

    def setup(self) -> None:
        super().setup()
        self.server.clients.add(self.connection)

    def finish(self) -> None:
        self.server.clients.discard(self.connection)
        # What is left to send has nobody to receive it if the client is gone.
        with contextlib.suppress(OSError):
            super().finish()

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""

    def handle_expect_100(self) -> bool:
        """Let the client send the body that it announced."""
        is_accepted = super().handle_expect_100()
        self.wfile.flush()
        return is_accepted

    def do_request(self) -> None:
        """Pass one request on, or refuse it."""
        request = Request.parse(self.raw_requestline)
        if not is_write(request):
            self._pass_on(self._body())
            return
        body = b"".join(self._body())
        url = S3Url(request.bucket, unquote(request.key))
        with self.server.turn(url):
            error, condition = self._verdict(request, url)
            if error:
                self._refuse(error, condition)
            else:
                self._pass_on(iter([body]))
            self.wfile.flush()

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_request

    def _verdict(self, request: Request, url: S3Url) -> tuple[str, str]:
        """Return the code of the error with which to refuse a write, and the condition."""
        none_match, match = self.headers.get("If-None-Match"), self.headers.get("If-Match")
        if request.method == "DELETE" or (none_match is None and match is None):
            return "", ""
        if none_match not in (None, "*"):
            return "NotImplemented", "If-None-Match"
        try:
            found = self.server.store.head(url)
        except BucketNotFound:
            # The server says so.
            return "", ""
        if none_match and found:
            return "PreconditionFailed", "If-None-Match"
        if match and not found:
            return "NoSuchKey", "If-Match"
        if match and found and match.strip('"') not in ("*", found.etag):
            return "PreconditionFailed", "If-Match"
        return "", ""

    def _refuse(self, code: str, condition: str) -> None:
        status, message = _STATUS[code]
        body = (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            f"<Error><Code>{code}</Code><Message>{message}</Message>"
            f"<Condition>{condition}</Condition>"
            "<RequestId>0</RequestId><HostId>conditions-proxy</HostId></Error>"
        ).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _body(self) -> Iterator[bytes]:
        """Read the body of the request, with the framing of its transfer encoding."""
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while True:
                line = self.rfile.readline()
                size = int(line.split(b";")[0], 16)
                yield line + self.rfile.read(size + 2)
                if size == 0:
                    return
        left = int(self.headers.get("Content-Length", "0"))
        while left:
            piece = self.rfile.read(min(CHUNK, left))
            if not piece:
                raise ConnectionError("The client has gone")
            left -= len(piece)
            yield piece

    def _pass_on(self, body: Iterator[bytes]) -> None:
        # The client was told to go on with the body when its headers were read.
        headers = [(n, v) for n, v in self.headers.items() if n.lower() != "expect"]
        with socket.create_connection(self.server.upstream, TIMEOUT) as upstream:
            upstream.sendall(self.raw_requestline + _lines(headers))
            for piece in body:
                upstream.sendall(piece)
            with HTTPResponse(upstream, method=self.command) as answer:
                answer.begin()
                self._answer(answer)

    def _answer(self, answer: HTTPResponse) -> None:
        headers = [(n, v) for n, v in answer.getheaders() if n.lower() != "connection"]
        self.wfile.write(f"HTTP/1.1 {answer.status} {answer.reason}\r\n".encode())
        self.wfile.write(_lines(headers))
        while piece := answer.read(CHUNK):
            if answer.chunked:
                piece = b"%x\r\n%s\r\n" % (len(piece), piece)
            self.wfile.write(piece)
        if answer.chunked and self.command != "HEAD":
            self.wfile.write(b"0\r\n\r\n")


def is_write(request: Request) -> bool:
    """Whether a request creates, replaces or deletes a whole object."""
    if not request.key:
        return False
    if request.method == "POST":
        return "uploadId" in request.query
    return request.method in ("PUT", "DELETE") and not SUBRESOURCES & request.query.keys()


def _lines(headers: list[tuple[str, str]]) -> bytes:
    lines = [f"{name}: {value}\r\n" for name, value in headers]
    return "".join([*lines, "\r\n"]).encode("latin-1")


@contextmanager
def enforcing_conditions(upstream: Connection) -> Iterator[Connection]:
    """Run the proxy in front of a server while the context lasts.

    Parameters
    ----------
    upstream : Connection
        The server, which must be on loopback. Its credentials are used to look at objects.

    Yields
    ------
    Connection
        How to reach the proxy, with the same credentials.
    """
    proxy = _Proxy(upstream)
    thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield replace(upstream, endpoint_url=f"http://127.0.0.1:{proxy.server_port}")
    finally:
        proxy.stop()
        thread.join()
