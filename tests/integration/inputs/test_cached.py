"""Copies by way of the cache of the node."""

from __future__ import annotations

import os
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from conftest import Bucket, output_of, snakemake
from fault_proxy import Proxy
from s3fuse.cache.entries import entries
from s3fuse.cache.room import Room
from s3fuse.embedded_server import Server
from s3fuse.errors import ObjectDamaged
from s3fuse.inputs.download import Copier
from s3fuse.s3.objects import ObjectInfo
from s3fuse.s3.store import Store

SNAKEFILE = """\
storage s3:
    provider="s3fuse",


rule copy:
    input:
        storage.s3("s3://BUCKET/in/x"),
    output:
        storage.s3("s3://BUCKET/out/NAME"),
    shell:
        "cp {input} {output}"
"""


@pytest.fixture
def counted(server: Server, proxy: Proxy) -> Store:
    """The store by a proxy that counts."""
    return Store(replace(server.connection, endpoint_url=proxy.endpoint_url))


@pytest.fixture
def room(tmp_path: Path) -> Room:
    (tmp_path / "node").mkdir()
    return Room(tmp_path / "node")


def upload(bucket: Bucket, size: int) -> tuple[ObjectInfo, bytes]:
    content = random.Random(size).randbytes(size)
    bucket.write("x", content)
    info = bucket.store.head(bucket.url.child("x"))
    assert info
    return info, content


@pytest.mark.parametrize("size", [0, 1, 64 * 1024 + 1, 20 * 2**20 + 3])
def test_it_is_fetched_once(
    counted: Store, proxy: Proxy, bucket: Bucket, room: Room, tmp_path: Path, size: int
) -> None:
    info, content = upload(bucket, size)
    url = bucket.url.child("x")
    paths = [tmp_path / str(number) for number in range(6)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda path: Copier(counted, room).object(url, info, path), paths))
    for path in paths:
        assert path.read_bytes() == content
        assert path.stat().st_mtime == info.mtime
        assert path.stat().st_mode & 0o777 == 0o444
        # Who changes a copy changes nobody else's.
        assert path.stat().st_nlink == 1
    assert proxy.counts.read == size


def test_without_room_it_is_copied_all_the_same(
    counted: Store, bucket: Bucket, room: Room, tmp_path: Path
) -> None:
    info, content = upload(bucket, 3 * 2**20)
    small = Room(room.folder, 2**20)
    Copier(counted, small).object(bucket.url.child("x"), info, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == content
    assert sum(each.held for each in entries(room.folder)) == 0


def test_what_is_damaged_is_not_kept(
    counted: Store, bucket: Bucket, room: Room, tmp_path: Path
) -> None:
    bucket.write("x", bytes(3 * 2**20))
    bucket.damage("x")
    info = bucket.store.head(bucket.url.child("x"))
    assert info
    for _ in range(2):
        with pytest.raises(ObjectDamaged):
            Copier(counted, room).object(bucket.url.child("x"), info, tmp_path / "x")
        assert not (tmp_path / "x").exists()
        assert list(entries(room.folder)) == []


def test_a_copy_goes_on_where_another_process_is_stopped(
    counted: Store, bucket: Bucket, room: Room, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from s3fuse.cache.place import entry_of
    from s3fuse.inputs import cached

    monkeypatch.setattr(cached, "PATIENCE", 0.2)
    info, content = upload(bucket, 3 * 2**20)
    entry = entry_of(room.folder, counted.connection.endpoint_url, bucket.name, info).open()
    assert entry.lock(range(10, 12))
    Copier(counted, room).object(bucket.url.child("x"), info, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == content
    # One that goes on is waited for.
    monkeypatch.undo()
    threading.Timer(0.3, lambda: entry.unlock(range(10, 12))).start()
    Copier(counted, room).object(bucket.url.child("x"), info, tmp_path / "y")
    assert entry.is_whole
    entry.close()


def test_a_later_run_moves_nothing(
    tmp_path: Path, bucket: Bucket, server: Server, proxy: Proxy
) -> None:
    bucket.write("in/x", random.Random(1).randbytes(5 * 2**20))
    environment = replace(server, endpoint_url=proxy.endpoint_url).environment
    options = ["--cores", "1", "--storage-s3fuse-cache-dir", str(tmp_path / "cache")]
    for number in range(2):
        workdir = tmp_path / str(number)
        workdir.mkdir()
        text = SNAKEFILE.replace("BUCKET", bucket.name).replace("NAME", str(number))
        (workdir / "Snakefile").write_text(text)
        proxy.reset_counts()
        run = snakemake(workdir, *options, environment=environment)
        assert run.returncode == 0, output_of(run)
        assert proxy.counts.read == (5 * 2**20, 0)[number]
    assert os.listdir(tmp_path / "cache") != []
