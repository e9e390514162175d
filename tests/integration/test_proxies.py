"""HTTP proxies of the environment: used for the store, and never for this machine."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from conftest import Bucket, mounted, output_of, snakemake
from ports import free_ports
from s3fuse.embedded_server import Server

pytestmark = pytest.mark.fuse

#: A host that only the proxy knows.
STORE = "http://store.invalid:9000"
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
SNAKEFILE = """\
storage s3:
    provider="s3fuse",
    access="mount",


rule all:
    input:
        storage.s3("s3://BUCKET/out.txt"),


rule step:
    input:
        storage.s3("s3://BUCKET/in.txt"),
    output:
        storage.s3("s3://BUCKET/out.txt"),
    shell:
        "cp {input} {output}"
"""


class ForwardProxy(BaseHTTPRequestHandler):
    """Sends requests for `STORE` to a server, and refuses others."""

    protocol_version = "HTTP/1.1"
    server: ForwardServer

    def log_message(self, *_: object) -> None:
        pass

    def forward(self) -> None:
        self.server.asked.append(self.path)
        if not self.path.startswith(f"{STORE}/"):
            self.send_error(502)
            return
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        connection = http.client.HTTPConnection(self.server.target, timeout=30)
        path = self.path.removeprefix(STORE)
        # With the name under which it was signed.
        connection.request(self.command, path, body, dict(self.headers))
        answer = connection.getresponse()
        content = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                self.send_header(name, value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else len(content)
        self.send_header("Content-Length", str(length or 0))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
        connection.close()

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = forward


class ForwardServer(ThreadingHTTPServer):
    """A proxy on loopback; `asked` has what was asked for."""

    def __init__(self, target: str) -> None:
        super().__init__(("127.0.0.1", 0), ForwardProxy)
        self.target = target
        self.asked: list[str] = []


@pytest.fixture
def forward(server: Server) -> Iterator[ForwardServer]:
    with ForwardServer(urlsplit(server.endpoint_url).netloc) as proxy:
        thread = threading.Thread(target=proxy.serve_forever)
        thread.start()
        yield proxy
        proxy.shutdown()
        thread.join()


def environment(server: Server, proxy: str) -> dict[str, str]:
    return server.environment | dict.fromkeys(PROXIES, proxy)


def run(tmp_path: Path, bucket: Bucket, variables: dict[str, str]) -> str:
    (tmp_path / "Snakefile").write_text(SNAKEFILE.replace("BUCKET", bucket.name))
    found = snakemake(tmp_path, "--cores", "1", "--forceall", environment=variables)
    assert found.returncode == 0, output_of(found)
    return output_of(found)


def test_a_store_on_this_machine_is_asked_directly(
    tmp_path: Path, server: Server, bucket: Bucket
) -> None:
    bucket.write("in.txt", "content")
    # Nothing listens there.
    nobody = f"http://127.0.0.1:{free_ports(1)[0]}"
    said = run(tmp_path, bucket, environment(server, nobody))
    assert "Mounted" in said
    assert (bucket.folder / "out.txt").read_text() == "content"
    words = [sys.executable, "-m", "s3fuse", "doctor", f"s3://{bucket.name}"]
    variables = {**os.environ, **environment(server, nobody)}
    found = subprocess.run(words, env=variables, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout


def test_a_store_elsewhere_is_asked_through_the_proxy(
    tmp_path: Path, server: Server, bucket: Bucket, forward: ForwardServer
) -> None:
    bucket.write("in.txt", "content")
    elsewhere = replace(server, endpoint_url=STORE)
    said = run(tmp_path, bucket, environment(elsewhere, f"http://127.0.0.1:{forward.server_port}"))
    assert "Mounted" in said
    assert (bucket.folder / "out.txt").read_text() == "content"
    # All of it is for the store: a gateway is not asked through a proxy.
    assert {urlsplit(url).netloc for url in forward.asked} == {"store.invalid:9000"}
    assert any(url.startswith(f"{STORE}/{bucket.name}/in.txt") for url in forward.asked)


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--read-write",)], ids=["", "read-write"])
def test_a_mount_by_hand_reaches_the_store_through_the_proxy(
    tmp_path: Path,
    server: Server,
    bucket: Bucket,
    forward: ForwardServer,
    options: tuple[str, ...],
) -> None:
    bucket.write("in.txt", "content")
    elsewhere = replace(server, endpoint_url=STORE)
    variables = environment(elsewhere, f"http://127.0.0.1:{forward.server_port}")

    def command(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "s3fuse", *words],
            cwd=tmp_path,
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    made = command("mount", *options, f"s3://{bucket.name}")
    try:
        assert made.returncode == 0, made.stderr
        assert (Path(made.stdout.strip()) / "in.txt").read_text() == "content"
    finally:
        assert command("unmount").returncode == 0
    assert mounted() == []
