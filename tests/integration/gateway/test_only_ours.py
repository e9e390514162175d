"""Who may ask a gateway, who may answer in its place, and what s3fs knows."""

from __future__ import annotations

import os
import socket
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest

from conftest import Bucket, wait_for
from s3fuse.embedded_server import Server
from s3fuse.errors import S3FuseError
from s3fuse.mount.mounts import Mounts
from s3fuse.mount.record import Mount
from s3fuse.s3.connection import Connection
from s3fuse.s3.objects import ObjectInfo
from s3fuse.s3.store import Store
from s3fuse.urls import S3Url

pytestmark = pytest.mark.fuse

INFO = ObjectInfo("x", 7, 0.0, "9a0364b9e99bb480dd25e1f0284c8555")


@pytest.fixture
def mount(made: Mounts, server: Server, bucket: Bucket) -> Mount:
    bucket.write("x", "content")
    return made.mount(bucket.name, server.connection)


def port_of(mount: Mount) -> int:
    """The port at which the gateway of a mount listens."""
    assert mount.daemon
    listening = [
        each.laddr.port
        for each in psutil.Process(mount.daemon.pid).net_connections("tcp")
        if each.status == psutil.CONN_LISTEN
    ]
    (port,) = listening
    return port


def test_nobody_without_the_keys_is_answered(mount: Mount, server: Server) -> None:
    place = f"http://127.0.0.1:{port_of(mount)}"
    for path in ("/", f"/{mount.bucket}", f"/{mount.bucket}/x", "/views", "/requests"):
        for method in ("GET", "HEAD", "PUT", "POST", "DELETE"):
            request = urllib.request.Request(place + path, method=method)
            with pytest.raises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(request, timeout=10)
            assert caught.value.code == 403
    for keys in (("key", "secret"), (server.access_key, server.secret_key)):
        store = Store(Connection(place, "us-east-1", *keys))
        with pytest.raises(S3FuseError, match="Not allowed to read"):
            store.get(S3Url(mount.bucket, "x"), INFO)


def test_the_secrets_of_the_store_are_unknown_to_s3fs(mount: Mount, server: Server) -> None:
    assert mount.daemon
    process = psutil.Process(mount.daemon.pid)
    known = " ".join([*process.cmdline(), *process.environ().values()])
    files = [path for path in mount.directory.iterdir() if path.is_file()]
    files += [path for path in mount.cache.iterdir() if path.is_file()]
    known += " ".join(path.read_text(errors="replace") for path in files)
    for secret in (server.secret_key, server.access_key):
        assert secret not in known
    assert mount.keeper
    # Nor does anybody see them who looks at the processes of others.
    for each in (psutil.Process(mount.keeper.pid), *psutil.Process(mount.keeper.pid).children()):
        words = " ".join(each.cmdline())
        assert server.secret_key not in words
        assert process.environ()["AWS_SECRET_ACCESS_KEY"] not in words


def test_the_port_is_not_free_while_s3fs_lives(mount: Mount) -> None:
    port = port_of(mount)
    assert mount.daemon
    assert mount.keeper
    keeper, s3fs = psutil.Process(mount.keeper.pid), psutil.Process(mount.daemon.pid)
    (gateway,) = (each for each in keeper.children() if each.pid != s3fs.pid)
    # Nobody starts another gateway then.
    keeper.suspend()
    try:
        gateway.kill()
        wait_for(lambda: gateway.status() == psutil.STATUS_ZOMBIE)
        for reuse in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
            with socket.socket() as thief:
                thief.setsockopt(socket.SOL_SOCKET, reuse, 1)
                with pytest.raises(OSError, match="Address already in use"):
                    thief.bind(("127.0.0.1", port))
        # Where the keeper is killed, too, nobody asks any more when the port becomes free.
        keeping = [each for each in s3fs.net_connections() if each.status == psutil.CONN_LISTEN]
        assert [each.laddr.port for each in keeping] == [port]
    finally:
        keeper.kill()
    psutil.wait_procs([s3fs], 20)
    assert not s3fs.is_running()


def test_nobody_else_may_enter_the_directory_with_the_socket(mount: Mount) -> None:
    assert (mount.directory / "control").is_socket()
    assert mount.directory.stat().st_mode & 0o077 == 0
    assert mount.directory.stat().st_uid == os.geteuid()


def test_a_module_in_the_working_directory_is_not_run(
    made: Mounts, server: Server, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.write("x", "content")
    for name in ("json.py", "s3fuse.py", "aiohttp.py"):
        (tmp_path / name).write_text("raise SystemExit('the wrong one')")
    monkeypatch.chdir(tmp_path)
    mount = made.mount(bucket.name, server.connection)
    assert (mount.point / "x").read_text() == "content"
