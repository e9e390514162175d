"""The gateway's server, spoken to by S3 clients and by those who only pretend to be one."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator
from urllib.parse import quote

import psutil
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import Bucket
from s3fuse.embedded_server import Server
from s3fuse.gateway.catalogue import View
from s3fuse.mount.mounts import Mounts
from s3fuse.mount.record import Mount

pytestmark = pytest.mark.fuse

CONTENT = bytes(range(256)) * 1000
WORDS = st.text("abx/.%+& é\x01\U0001f30d?=", max_size=12)
HEADERS = st.dictionaries(
    st.sampled_from(["Range", "If-Match", "Content-Length", "Expect", "x-amz-copy-source"]),
    st.one_of(
        st.from_regex(r"bytes=[0-9]{0,20}-[0-9]{0,20}", fullmatch=True),
        st.text("0123456789-,= abc", max_size=20),
    ),
    max_size=3,
)
QUERIES = st.dictionaries(
    st.sampled_from(["list-type", "prefix", "delimiter", "max-keys", "marker", "acl", "uploads"]),
    WORDS,
    max_size=4,
)


class Peer:
    """A client with the keys of s3fs, as its environment shows them to its user."""

    def __init__(self, mount: Mount) -> None:
        assert mount.daemon
        process = psutil.Process(mount.daemon.pid)
        environment = process.environ()
        self.keys = Credentials(
            environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"]
        )
        (self.port,) = [
            each.laddr.port
            for each in process.net_connections("tcp")
            if each.status == psutil.CONN_LISTEN
        ]

    def ask(
        self, method: str, target: str, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Send a signed request; returns status, headers and body."""
        asked = AWSRequest(method, f"http://127.0.0.1:{self.port}{target}")
        S3SigV4Auth(self.keys, "s3", "us-east-1").add_auth(asked)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, target, headers={**dict(asked.headers), **(headers or {})})
            answer = connection.getresponse()
            return answer.status, dict(answer.headers), answer.read()
        finally:
            connection.close()


@pytest.fixture(scope="module")
def module_mounts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounts]:
    base = tmp_path_factory.mktemp("protocol")
    (base / "links").mkdir()
    made = Mounts(base / "links", base, base / "run", base / "cache", unmount_timeout=5)
    yield made
    made.unmount()


@pytest.fixture(scope="module")
def mounted(module_mounts: Mounts, server: Server, make_bucket: object) -> tuple[Mount, str]:
    bucket: Bucket = make_bucket()  # type: ignore[operator]
    for key in ("x", "a/x", "a/b/x"):
        bucket.write(key, CONTENT)
    mount = module_mounts.mount(bucket.name, server.connection)
    infos = bucket.store.list(bucket.url.child("a/"), recursive=True).objects.values()
    view = View.of_folder("a/", infos)
    module_mounts.show(mount, view)
    return mount, view.path


@pytest.fixture(scope="module")
def peer(mounted: tuple[Mount, str]) -> Peer:
    return Peer(mounted[0])


def test_spans_are_those_of_the_object(peer: Peer, mounted: tuple[Mount, str]) -> None:
    mount, path = mounted
    for target in (f"/{mount.bucket}/x", f"/{mount.bucket}/{path}/x"):
        assert peer.ask("GET", target)[2] == CONTENT
        size = len(CONTENT)
        spans = [(0, 0), (0, size - 1), (5, 10), (size - 1, size + 100), (70_000, 200_000)]
        for start, end in spans:
            status, headers, body = peer.ask("GET", target, {"Range": f"bytes={start}-{end}"})
            assert status == 206
            assert body == CONTENT[start : end + 1]
            last = min(end, size - 1)
            assert headers["Content-Range"] == f"bytes {start}-{last}/{size}"
        for wrong in (f"bytes={size}-", "bytes=5-2", "bytes=-5", "bytes=0-1,3-4", "lines=1-2"):
            assert peer.ask("GET", target, {"Range": wrong})[0] == 416
        status, headers, body = peer.ask("HEAD", target)
        assert (status, headers["Content-Length"], body) == (200, str(size), b"")


def test_nothing_is_written(peer: Peer, mounted: tuple[Mount, str]) -> None:
    mount, path = mounted
    for method in ("PUT", "POST", "DELETE", "PATCH", "OPTIONS"):
        for target in (f"/{mount.bucket}/x", f"/{mount.bucket}/{path}/x", f"/{mount.bucket}"):
            assert peer.ask(method, target)[0] == 405


def test_other_buckets_are_not_there(peer: Peer) -> None:
    assert peer.ask("GET", "/other/x")[0] == 404
    assert peer.ask("GET", "/")[0] == 404


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    method=st.sampled_from(["GET", "HEAD", "PUT", "POST", "DELETE", "BREW"]),
    place=st.sampled_from(["", "a/", "a/b/", ".s3fuse-inputs/", "view"]),
    key=WORDS,
    query=QUERIES,
    headers=HEADERS,
)
def test_no_request_breaks_it(
    peer: Peer,
    mounted: tuple[Mount, str],
    method: str,
    place: str,
    key: str,
    query: dict[str, str],
    headers: dict[str, str],
) -> None:
    mount, path = mounted
    text = "&".join(f"{name}={quote(value)}" for name, value in query.items())
    place = f"{path}/" if place == "view" else place
    target = f"/{mount.bucket}/{quote(place + key)}" + (f"?{text}" if text else "")
    if headers.get("Content-Length", "0") != "0":
        # Bytes that never come are waited for.
        headers.pop("Content-Length")
    status, _, body = peer.ask(method, target, headers)
    assert status in (200, 206, 400, 403, 404, 405, 412, 416, 417)
    if status in (200, 206) and method == "GET" and not body.startswith(b"<?xml") and body:
        assert body in CONTENT
    assert (mount.point / "x").read_bytes() == CONTENT


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_no_bytes_break_it(peer: Peer, mounted: tuple[Mount, str], body: bytes) -> None:
    with socket.create_connection(("127.0.0.1", peer.port), timeout=20) as connection:
        connection.sendall(body + b"\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    assert not answer or answer.split()[1] in (b"400", b"403")
    assert (mounted[0].point / "x").read_bytes() == CONTENT
