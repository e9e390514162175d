"""Servers that redirect to another host, never finish a listing, or do not speak S3."""

from __future__ import annotations

import contextlib
import http.server
import re
import threading
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import pytest

from conftest import output_of, s3fuse, snakemake
from s3fuse.errors import EndpointError, ListingError, RedirectRefused
from s3fuse.mount.mounts import Mounts
from s3fuse.s3.connection import Connection
from s3fuse.s3.objects import ObjectInfo
from s3fuse.s3.store import Store
from s3fuse.urls import S3Url

pytestmark = pytest.mark.fuse

URL = S3Url("bucket", "in.txt")
STATUSES = [301, 302, 303, 307, 308]


class Server(http.server.ThreadingHTTPServer):
    """Gives the same answer to each request, and remembers what it was asked."""

    def __init__(self, status: int, headers: dict[str, str], body: str = "") -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status, self.headers, self.body = status, headers, body.encode()
        self.requests: list[tuple[str, dict[str, str]]] = []

    @property
    def port(self) -> int:
        return int(self.server_address[1])


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers as its server says."""

    protocol_version = "HTTP/1.1"
    server: Server

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.requests.append((f"{self.command} {self.path}", dict(self.headers)))
        self.send_response(self.server.status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(self.server.body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def serving(status: int, headers: dict[str, str], body: str = "") -> Iterator[Server]:
    server = Server(status, headers, body)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def thief() -> Iterator[Server]:
    """Another host, which should not be asked for anything."""
    with serving(200, {}) as server:
        yield server
        assert server.requests == []


def redirecting(thief: Server, status: int, **headers: str) -> contextlib.AbstractContextManager:  # type: ignore[type-arg]
    """Serve redirects to another host: `localhost` instead of 127.0.0.1."""
    target = {"Location": f"http://localhost:{thief.port}/bucket/in.txt"}
    body = "<Error><Code>TemporaryRedirect</Code></Error>"
    return serving(status, {**target, **headers}, body)


def connection(server: Server) -> Connection:
    return Connection(
        f"http://127.0.0.1:{server.port}", "us-east-1", "ACCESS", "SECRET", "TOKEN", retries=2
    )


def variables(server: Server) -> dict[str, str]:
    given = connection(server)
    names = ("endpoint_url", "region", "access_key", "secret_key", "token")
    return {f"SNAKEMAKE_STORAGE_S3FUSE_{name.upper()}": getattr(given, name) for name in names}


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("region", [{}, {"x-amz-bucket-region": "evil"}], ids=["", "region"])
def test_no_request_follows_a_redirect(
    thief: Server, tmp_path: Path, status: int, region: dict[str, str]
) -> None:
    with redirecting(thief, status, **region) as server:
        store = Store(connection(server))
        sentence = f"redirects requests to localhost:{thief.port}, which are not sent there"
        with pytest.raises(RedirectRefused, match=sentence):
            store.list(URL.parent)
        # As when a store that has answered begins to redirect.
        store._checked.add(URL.bucket)
        with pytest.raises(RedirectRefused, match=sentence):
            store.head(URL)
        with pytest.raises(RedirectRefused, match=sentence):
            store.call("put_object", URL, "write", Key=URL.key, Body=b"content")
        with pytest.raises(RedirectRefused, match=sentence):
            store.remove(URL)
        assert len(server.requests) == 4


def test_a_login_page_is_not_taken_for_an_answer(thief: Server) -> None:
    page = "<html><body>Sign in"
    with (
        serving(302, {"Location": "/login", "Content-Type": "text/html"}, page) as server,
        pytest.raises(RedirectRefused, match="redirects requests to another path"),
    ):
        Store(connection(server)).list(URL.parent)


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Mounts]:
    made = Mounts(
        tmp_path / "links", workdir=tmp_path, root=tmp_path / "run", cache_dir=tmp_path / "cache"
    )
    made.links.mkdir()
    yield made
    made.unmount()


@pytest.mark.parametrize("status", [301, 307])
def test_a_mount_sends_nothing_to_another_host(thief: Server, made: Mounts, status: int) -> None:
    with redirecting(thief, status) as server:
        mount = made.mount("bucket", connection(server))
        with pytest.raises(OSError, match="Input/output error"):
            (mount.point / "x").read_bytes()
    assert server.requests


def test_a_run_says_it_in_one_sentence(thief: Server, tmp_path: Path) -> None:
    (tmp_path / "Snakefile").write_text(
        'storage s3:\n    provider="s3fuse",\n\n\n'
        "rule all:\n    input:\n"
        '        storage.s3(expand("s3://bucket/{name}.txt", name=range(50))),\n'
    )
    with redirecting(thief, 307) as server:
        run = snakemake(tmp_path, "--cores", "1", environment=variables(server))
    text = output_of(run)
    assert run.returncode == 1
    assert text.count("which are not sent there; if that is your store") == 1, text
    assert "Traceback" not in text
    assert "TOKEN" not in text
    assert len(server.requests) == 1


def test_the_doctor_says_it(thief: Server, tmp_path: Path) -> None:
    with redirecting(thief, 307) as server:
        run = s3fuse("doctor", "s3://bucket", workdir=tmp_path, environment=variables(server))
    assert run.returncode == 1
    text = " ".join(re.sub(r"[│|]", " ", output_of(run)).split())
    assert f"redirects requests to localhost:{thief.port}" in text, text
    assert "Traceback" not in text


@pytest.mark.parametrize(
    ("token", "requests"), [("", 1), ("<NextContinuationToken>same</NextContinuationToken>", 2)]
)
def test_a_listing_without_end(token: str, requests: int) -> None:
    body = (
        f"<ListBucketResult><Name>b</Name><IsTruncated>true</IsTruncated>{token}</ListBucketResult>"
    )
    with serving(200, {"Content-Type": "application/xml"}, body) as server:
        store = Store(connection(server))
        with pytest.raises(ListingError, match="does not finish its listing of s3://bucket"):
            store.list(URL.parent)
        assert len(server.requests) == requests


BUCKETS = "<ListAllMyBucketsResult><Buckets/></ListAllMyBucketsResult>"


@pytest.mark.parametrize("body", ["", "<html><body>Sign in</body></html>", BUCKETS])
def test_a_page_with_status_200_is_not_an_empty_listing(body: str) -> None:
    with serving(200, {"Content-Type": "text/html"}, body) as server:
        store = Store(connection(server))
        with pytest.raises(EndpointError, match="does not answer as S3 does when asked to list"):
            store.list(URL.parent)
        with pytest.raises(EndpointError, match="does not answer as S3 does when asked to list"):
            store.head(URL)
        assert len(server.requests) == 1


@pytest.mark.parametrize("method", ["head_object", "create_multipart_upload"])
def test_a_page_with_status_200_is_no_other_answer(method: str) -> None:
    with serving(200, {"Content-Type": "text/html"}, "<html><body>Sign in</body></html>") as server:
        store = Store(connection(server))
        with pytest.raises(EndpointError, match="does not answer as S3 does when asked to use s3:"):
            store.call(method, URL, "use", timeout=10, Key=URL.key)
        assert len(server.requests) == 1


def test_a_workflow_does_not_succeed_on_a_sign_in_page(tmp_path: Path) -> None:
    (tmp_path / "Snakefile").write_text(
        'storage s3:\n    provider="s3fuse",\n\n\n'
        'NAMES = glob_wildcards(storage.s3("s3://bucket/in/{name}.txt")).name\n\n\n'
        "rule all:\n    input:\n"
        '        expand("out/{name}.txt", name=NAMES),\n'
    )
    with serving(200, {"Content-Type": "text/html"}, "<html><body>Sign in</body></html>") as server:
        run = snakemake(tmp_path, "--cores", "1", environment=variables(server))
    text = output_of(run)
    assert run.returncode == 1, text
    assert text.count("does not answer as S3 does when asked to list s3://bucket") == 1, text
    assert "Traceback" not in text


@pytest.mark.parametrize(
    ("status", "headers"),
    [(200, {}), (206, {"Content-Range": "bytes 0-99/1000"})],
    ids=["all of it", "another piece"],
)
def test_a_piece_that_was_not_asked_for_is_not_written(
    status: int, headers: dict[str, str]
) -> None:
    body = "x" * (1000 if status == 200 else 100)
    headers = {"ETag": '"version"', "Last-Modified": formatdate(usegmt=True), **headers}
    written: list[int] = []
    with serving(status, headers, body) as server:
        store = Store(connection(server))
        info = ObjectInfo(URL.key, 1000, 0.0, "version")
        with pytest.raises(ConnectionError, match="came instead of bytes=500-599"):
            store.read(URL, info, 500, 100, lambda chunk, position: written.append(position))
    assert written == []
