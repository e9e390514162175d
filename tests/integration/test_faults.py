"""The data plane through a store that fails: right in the end, or a clear failure."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from conftest import Bucket
from fault_proxy import Faults, Proxy, proxied
from publishing import publish
from s3fuse.embedded_server import Server
from s3fuse.errors import CredentialsError, PublishError, S3FuseError
from s3fuse.inputs.download import Copier
from s3fuse.publish.journal import Journal
from s3fuse.s3.parts import PART_SIZE
from s3fuse.s3.store import Store

pytestmark = [pytest.mark.fuse, pytest.mark.slow]


def behind(proxy: Proxy, server: Server) -> Store:
    return Store(replace(server.connection, endpoint_url=proxy.endpoint_url))


FAULTS = {
    "one in five fails with 503": Faults(error_share=0.2, error="ServiceUnavailable"),
    "one in five fails with 500": Faults(error_share=0.2, error="InternalError"),
    "one in five is to slow down": Faults(error_share=0.2, error="SlowDown"),
    "every third connection is reset": Faults(reset_every=3),
    "every third body is cut short": Faults(cut_every=3),
}


@pytest.mark.parametrize("name", FAULTS)
def test_copies_and_uploads_are_right_in_spite_of(
    server: Server, bucket: Bucket, tmp_path: Path, name: str
) -> None:
    with proxied(server.endpoint_url, replace(FAULTS[name])) as proxy:
        for number, size in enumerate([10, 100_000, 3_000_000, 2 * PART_SIZE + 1] * 3):
            content = os.urandom(size)
            source, target = tmp_path / "source", tmp_path / "target"
            source.write_bytes(content)
            url = bucket.url.child(f"{number}.bin")
            # Connections of its own, or few would be made.
            store = behind(proxy, server)
            info = publish(store, source, url)
            Copier(store).object(url, info, target)
            assert target.read_bytes() == content
            assert (bucket.folder / f"{number}.bin").read_bytes() == content
        assert proxy.counts.injected.total() > 0


@pytest.mark.parametrize("way", ["up", "down"])
def test_a_store_that_is_away_for_ten_seconds(
    server: Server, bucket: Bucket, tmp_path: Path, way: str
) -> None:
    content = os.urandom(4 * PART_SIZE)
    (tmp_path / "source").write_bytes(content)
    url = bucket.url.child("x.bin")
    # Slow enough to be cut in the middle.
    with proxied(server.endpoint_url, Faults(connection_bandwidth=20e6)) as proxy:
        store = behind(proxy, server)
        store.check(bucket.name)
        info = publish(Store(server.connection), tmp_path / "source", url)
        dropping = threading.Timer(0.1, proxy.drop, [10])
        dropping.start()
        start = time.monotonic()
        if way == "up":
            bucket.remove("x.bin")
            publish(store, tmp_path / "source", url)
            assert (bucket.folder / "x.bin").read_bytes() == content
        else:
            Copier(store).object(url, info, tmp_path / "target")
            assert (tmp_path / "target").read_bytes() == content
        dropping.join()
        assert proxy.counts.injected["drop"] == 1
        assert time.monotonic() - start > 5


def test_a_token_that_expires_is_said_at_once(
    server: Server, bucket: Bucket, tmp_path: Path
) -> None:
    bucket.write("x", "old")
    (tmp_path / "x").write_text("new")
    with proxied(server.endpoint_url) as proxy:
        store = behind(proxy, server)
        store.check(bucket.name)
        proxy.faults.refuse = lambda request: "ExpiredToken"
        start = time.monotonic()
        with pytest.raises(CredentialsError, match=r"token used for .* has expired; sign in again"):
            publish(store, tmp_path / "x", bucket.url.child("x"))
        assert time.monotonic() - start < 5
    assert (bucket.folder / "x").read_text() == "old"


def test_an_upload_that_fails_for_good_leaves_the_old_object_and_no_parts(
    server: Server, bucket: Bucket, tmp_path: Path
) -> None:
    bucket.write("x", "old")
    (tmp_path / "x").write_bytes(os.urandom(3 * PART_SIZE))

    def refuse(request):  # type: ignore[no-untyped-def]
        number = request.query.get("partNumber", ["0"])[0]
        return "AccessDenied" if number == "2" else None

    with proxied(server.endpoint_url, Faults(refuse=refuse)) as proxy:
        with pytest.raises(S3FuseError, match="Not allowed to write"):
            publish(behind(proxy, server), tmp_path / "x", bucket.url.child("x"))
        assert proxy.counts.requests["DELETE upload"] == 1
    assert (bucket.folder / "x").read_text() == "old"
    assert not bucket.store.uploads(bucket.url)


def test_a_body_damaged_on_the_way_replaces_nothing(
    server: Server, bucket: Bucket, tmp_path: Path
) -> None:
    bucket.write("x", "old")
    (tmp_path / "x").write_bytes(b"\0" * 100_000)
    with proxied(server.endpoint_url, Faults(damage_uploads=True)) as proxy:
        with pytest.raises(S3FuseError) as caught:
            publish(behind(proxy, server), tmp_path / "x", bucket.url.child("x"))
        assert proxy.counts.injected["damage"] > 0
    assert not isinstance(caught.value, PublishError), "the store should have refused it"
    assert (bucket.folder / "x").read_text() == "old"


def test_the_parts_of_a_killed_upload_are_removed_by_the_next_run(
    server: Server, bucket: Bucket, tmp_path: Path
) -> None:
    bucket.write("x", "old")
    (tmp_path / "x").write_bytes(os.urandom(4 * PART_SIZE))
    code = """
import sys
from pathlib import Path
from s3fuse import Connection, S3Url, Store
from s3fuse.publish.journal import Journal
from s3fuse.publish.publisher import publish_file
path, root, bucket, *connection = sys.argv[1:]
store, url = Store(Connection(*connection)), S3Url(bucket, "x")
publish_file(store, Journal(Path(root)), Path(path), url, store.head(url))
"""
    journal = Journal(tmp_path / "run")

    with proxied(server.endpoint_url) as proxy:
        store = behind(proxy, server)
        # The last part hangs.
        keys = [proxy.endpoint_url, "us-east-1", server.access_key, server.secret_key]
        words = [sys.executable, "-c", code, str(tmp_path / "x"), str(journal.root), bucket.name]
        proxy.faults.stall = lambda request: request.query.get("partNumber") == ["4"]
        upload = subprocess.Popen([*words, *keys])
        while not proxy.counts.injected["stall"]:
            assert upload.poll() is None
            time.sleep(0.05)
        journal.abort_abandoned(store)
        assert len(bucket.store.uploads(bucket.url)) == 1, "it is still under way"
        upload.kill()
        upload.wait()
        assert len(bucket.store.uploads(bucket.url)) == 1
        journal.abort_abandoned(Store(replace(server.connection, region="elsewhere")))
        assert len(bucket.store.uploads(bucket.url)) == 1, "another connection must not touch it"
        journal.abort_abandoned(store)
    assert not bucket.store.uploads(bucket.url)
    assert [path for path in journal.root.rglob("*") if path.is_file()] == []
    assert (bucket.folder / "x").read_text() == "old"


def test_an_upload_whose_number_was_not_noted_yet_is_found(
    server: Server, bucket: Bucket, tmp_path: Path
) -> None:
    store, url = bucket.store, bucket.url.child("x")
    journal = Journal(tmp_path / "run")
    with journal.noted(store, url):
        # As if the process had been killed between the two.
        (entry,) = journal.root.glob("uploads/*.json")
        content = json.loads(entry.read_text())
        content["process"]["started"] -= 1
    store.call("create_multipart_upload", url, "write", Key="x")
    store.call("create_multipart_upload", url, "write", Key="xy")
    entry.write_text(json.dumps(content))
    journal.abort_abandoned(store)
    left = store.uploads(bucket.url)
    assert [each["Key"] for each in left] == ["xy"]
