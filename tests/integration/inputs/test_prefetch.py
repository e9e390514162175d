"""Copies for jobs that come next: of the right version, taken once, and none left over."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from conftest import Bucket, wait_for
from fault_proxy import Faults, Proxy
from s3fuse.embedded_server import Server
from s3fuse.inputs.prefetch import WORKERS, Prefetcher
from s3fuse.s3.objects import ObjectInfo
from s3fuse.s3.store import Store
from s3fuse.urls import S3Url


def no_cache() -> None:
    """Say that this node has no cache."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "local" / ".prefetched"


@pytest.fixture
def prefetcher(server: Server, proxy: Proxy, folder: Path) -> Iterator[Prefetcher]:
    prefetcher = Prefetcher(
        Store(replace(server.connection, endpoint_url=proxy.endpoint_url)), folder, no_cache
    )
    yield prefetcher
    prefetcher.close()
    assert not folder.exists()


def objects(bucket: Bucket, count: int) -> list[tuple[S3Url, ObjectInfo]]:
    found = []
    for number in range(count):
        bucket.write(f"{number}.txt", f"content {number}")
        url = bucket.url.child(f"{number}.txt")
        info = bucket.store.head(url)
        assert info
        found.append((url, info))
    return found


def test_what_was_fetched_is_moved_to_its_job(
    prefetcher: Prefetcher, proxy: Proxy, bucket: Bucket, tmp_path: Path
) -> None:
    ordered = objects(bucket, 10)
    prefetcher.fetch(ordered)
    wait_for(lambda: proxy.counts.requests["GET"] == 10)
    time.sleep(0.2)
    for number, (url, info) in enumerate(ordered):
        path = tmp_path / "job" / f"{number}.txt"
        assert prefetcher.take(url, info, path)
        assert path.read_text() == f"content {number}"
        assert path.stat().st_mtime == info.mtime
        # It belongs to one job.
        assert not prefetcher.take(url, info, path)
    assert proxy.counts.requests["GET"] == 10


def test_what_is_on_its_way_is_waited_for_and_what_is_not_is_left(
    prefetcher: Prefetcher, proxy: Proxy, bucket: Bucket, tmp_path: Path
) -> None:
    ordered = objects(bucket, WORKERS + 2)
    proxy.faults.latency = 1.0
    prefetcher.fetch(ordered)
    time.sleep(0.5)
    assert not prefetcher.take(*ordered[-1], tmp_path / "last")
    assert prefetcher.take(*ordered[1], tmp_path / "b")
    assert (tmp_path / "b").read_text() == "content 1"


def test_another_version_is_not_taken(
    prefetcher: Prefetcher, bucket: Bucket, tmp_path: Path
) -> None:
    ((url, info),) = objects(bucket, 1)
    prefetcher.fetch([(url, info)])
    assert not prefetcher.take(url, replace(info, etag="0" * 32), tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_what_fails_is_left_to_the_job(
    prefetcher: Prefetcher, proxy: Proxy, bucket: Bucket, tmp_path: Path
) -> None:
    ((url, info),) = objects(bucket, 1)
    bucket.write("0.txt", "replaced")
    prefetcher.fetch([(url, info)])
    wait_for(lambda: proxy.counts.requests["GET"] == 1)
    assert not prefetcher.take(url, info, tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_no_more_than_the_bound(
    prefetcher: Prefetcher, proxy: Proxy, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("s3fuse.inputs.prefetch.MOST_BYTES", 3 * len("content 0"))
    prefetcher.fetch(objects(bucket, 5))
    wait_for(lambda: proxy.counts.requests["GET"] == 3)
    time.sleep(0.5)
    assert proxy.counts.requests["GET"] == 3


def test_what_a_killed_run_has_left_is_removed(
    prefetcher: Prefetcher, folder: Path, bucket: Bucket, tmp_path: Path
) -> None:
    folder.mkdir(parents=True)
    (folder / "left").write_text("left")
    ((url, info),) = objects(bucket, 1)
    prefetcher.fetch([(url, info)])
    assert not (folder / "left").exists()


def test_the_end_does_not_wait(server: Server, proxy: Proxy, folder: Path, bucket: Bucket) -> None:
    proxy.faults = Faults(hang=True)
    store = Store(replace(server.connection, endpoint_url=proxy.endpoint_url))
    prefetcher = Prefetcher(store, folder, no_cache)
    ordered = objects(bucket, 10)
    began = time.monotonic()
    prefetcher.fetch(ordered)
    prefetcher.close()
    assert time.monotonic() - began < 1
    assert not folder.exists()


def test_copies_that_come_late_leave_nothing(server: Server, folder: Path, bucket: Bucket) -> None:
    ordered = objects(bucket, 30)
    store = Store(server.connection)
    store.check(bucket.url.bucket)
    for number in range(40):
        prefetcher = Prefetcher(store, folder, no_cache)
        prefetcher.fetch(ordered)
        # The end comes between any two steps of a copy.
        time.sleep(0.0005 * number)
        prefetcher.close()
    # Their threads go on until an answer has come.
    time.sleep(1)
    assert list(folder.parent.iterdir()) == []
