"""The cache of a node: what one run has read, the next one has, and jobs beside it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from conftest import Bucket, wait_for
from fault_proxy import Proxy
from s3fuse.cache.place import kept
from s3fuse.cli import main
from s3fuse.embedded_server import Server
from s3fuse.gateway.catalogue import View
from s3fuse.mount.mounts import Mounts
from s3fuse.mount.options import MountOptions
from s3fuse.node.links import make_link
from s3fuse.s3.connection import Connection
from s3fuse.s3.objects import ObjectInfo

from .test_reading import content_of, gateway_of, look

pytestmark = pytest.mark.fuse

MEGABYTE = 10**6
MakeRun = Callable[[], Mounts]


@pytest.fixture
def make_run(tmp_path: Path) -> Iterator[MakeRun]:
    """Make the mounts of runs in directories of their own, with one cache on the node."""
    runs: list[Mounts] = []

    def make() -> Mounts:
        place = tmp_path / str(len(runs))
        (place / "links").mkdir(parents=True)
        run = Mounts(place / "links", place, tmp_path / "run", tmp_path / "cache", 2)
        runs.append(run)
        return run

    yield make
    for run in runs:
        run.unmount()


@pytest.fixture
def counted(server: Server, proxy: Proxy) -> Connection:
    """The connection to the server by a proxy that counts."""
    return replace(server.connection, endpoint_url=proxy.endpoint_url)


def read(
    run: Mounts,
    connection: Connection,
    bucket: Bucket,
    info: ObjectInfo,
    *,
    sequential: bool = False,
    options: MountOptions | None = None,
) -> bytes:
    """Read an object as a job of a run does, by its link."""
    mount = run.mount(bucket.name, connection, options)
    link = run.links / "x"
    make_link(run.show(mount, View.of_object(info, sequential=sequential)), link)
    content = link.read_bytes()
    link.unlink()
    return content


@pytest.mark.parametrize("sequential", [False, True])
def test_a_later_run_moves_nothing(
    make_run: MakeRun, counted: Connection, proxy: Proxy, bucket: Bucket, sequential: bool
) -> None:
    content = content_of(1, 23 * MEGABYTE)
    bucket.write("x", content)
    info = look(bucket.store, bucket.name, "x")
    first = make_run()
    assert read(first, counted, bucket, info, sequential=sequential) == content
    assert first.failures(bucket.name) == []
    first.unmount()
    proxy.reset_counts()
    second = make_run()
    assert read(second, counted, bucket, info, sequential=sequential) == content
    assert second.failures(bucket.name) == []
    # A newer s3fs lists the bucket once when it starts.
    assert proxy.counts.requests.keys() <= {"LIST"}


def test_what_one_has_read_in_parts_another_goes_on_with(
    make_run: MakeRun, counted: Connection, proxy: Proxy, bucket: Bucket
) -> None:
    content = content_of(2, 40 * MEGABYTE)
    bucket.write("x", content)
    info = look(bucket.store, bucket.name, "x")
    runs = [make_run(), make_run()]
    points = [run.show(run.mount(bucket.name, counted), View.of_object(info)) for run in runs]
    with points[0].open("rb", buffering=0) as file:
        assert file.read(MEGABYTE) == content[:MEGABYTE]
        file.seek(20 * MEGABYTE)
        assert file.read(MEGABYTE) == content[20 * MEGABYTE : 21 * MEGABYTE]
    assert points[1].read_bytes() == content
    assert proxy.counts.sent < 1.02 * len(content)


def test_jobs_that_read_the_same_at_the_same_time_move_it_once(
    make_run: MakeRun, counted: Connection, proxy: Proxy, bucket: Bucket
) -> None:
    content = content_of(3, 60 * MEGABYTE)
    bucket.write("x", content)
    info = look(bucket.store, bucket.name, "x")
    runs = [make_run() for _ in range(4)]
    proxy.reset_counts()
    proxy.faults.total_bandwidth = 60 * MEGABYTE
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda run: read(run, counted, bucket, info), runs))
    assert set(found) == {content}
    assert proxy.counts.sent < 1.02 * len(content)


def test_another_version_or_store_is_another_object(
    make_run: MakeRun, server: Server, counted: Connection, bucket: Bucket
) -> None:
    for content in (b"one", b"two"):
        bucket.write("x", content)
        info = look(bucket.store, bucket.name, "x")
        for connection in (server.connection, counted):
            run = make_run()
            assert read(run, connection, bucket, info) == content
            run.unmount()


def test_a_gateway_that_is_killed_leaves_it_sound(
    make_run: MakeRun, counted: Connection, proxy: Proxy, bucket: Bucket
) -> None:
    content = content_of(4, 60 * MEGABYTE)
    bucket.write("x", content)
    info = look(bucket.store, bucket.name, "x")
    proxy.faults.total_bandwidth = 30 * MEGABYTE
    first, second = make_run(), make_run()
    mount = first.mount(bucket.name, counted)
    first.show(mount, View.of_object(info, sequential=True))
    wait_for(lambda: proxy.counts.sent > 20 * MEGABYTE)
    gateway_of(mount).kill()
    proxy.faults.total_bandwidth = 0
    assert read(second, counted, bucket, info) == content


def test_what_turns_out_to_be_damaged_is_given_to_nobody_else(
    make_run: MakeRun, server: Server, bucket: Bucket, tmp_path: Path
) -> None:
    bucket.write("x", content_of(5, 6 * MEGABYTE))
    bucket.damage("x")
    info = look(bucket.store, bucket.name, "x")
    for _ in range(2):
        run = make_run()
        read(run, server.connection, bucket, info)
        (failure,) = run.failures(bucket.name)
        assert "is not what its checksum says" in failure.sentence
        assert kept(tmp_path / "cache") == []
        run.unmount()


def test_it_is_shown_and_cleared(
    make_run: MakeRun, server: Server, bucket: Bucket, tmp_path: Path
) -> None:
    bucket.write("in/x", bytes(3 * MEGABYTE))
    run = make_run()
    mount = run.mount(bucket.name, server.connection)
    path = run.show(mount, View.of_object(look(bucket.store, bucket.name, "in/x")))
    assert len(path.read_bytes()) == 3 * MEGABYTE
    words = ["cache", "--cache-dir", str(tmp_path / "cache")]
    shown = CliRunner().invoke(main, words)
    assert shown.exit_code == 0, (shown.exception, shown.output)
    assert f"{server.endpoint_url}/{bucket.name}/in/x" in shown.stdout
    assert shown.stderr == "2.86 MiB of 1 object.\n"
    link = run.links / "x"
    make_link(run.show(mount, View.of_object(look(bucket.store, bucket.name, "in/x"))), link)
    assert link.readlink().is_relative_to(mount.cache)
    cleared = CliRunner().invoke(main, [*words, "--clear"])
    assert cleared.stderr.endswith("Removed 0 bytes; the rest is in use.\n")
    assert len(link.read_bytes()) == 3 * MEGABYTE
    run.unmount()
    cleared = CliRunner().invoke(main, [*words, "--clear"])
    assert cleared.stderr.endswith("Removed 2.86 MiB; the rest is in use.\n")
    assert kept(tmp_path / "cache") == []


def test_the_bound_holds_for_runs_together(
    made_in_memory: Mounts, make_run: MakeRun, server: Server, bucket: Bucket
) -> None:
    options = MountOptions(cache_bytes=32 * 2**20)
    contents = {f"x{number}": content_of(number, 6 * MEGABYTE) for number in range(8)}
    runs = [make_run(), make_run()]
    for run in runs:
        run.cache_dir = made_in_memory.cache_dir
    for number, (key, content) in enumerate(contents.items()):
        bucket.write(key, content)
        info = look(bucket.store, bucket.name, key)
        run = runs[number % 2]
        assert read(run, server.connection, bucket, info, options=options) == content
        held = sum(each.held for each in kept(made_in_memory.cache_dir))
        assert 0 < held <= 16 * 2**20 + 64 * 1024


def test_where_the_disk_is_full_it_is_read_around(
    make_run: MakeRun, server: Server, bucket: Bucket, tmp_path: Path
) -> None:
    """A file system of 40 MB, of which others have nearly all."""
    content = content_of(7, 30 * MEGABYTE)
    bucket.write("x", content)
    info = look(bucket.store, bucket.name, "x")
    run = make_run()
    run.cache_dir.mkdir(mode=0o700)
    if os.system(f"mount -t tmpfs -o size=40m,mode=0700 none {run.cache_dir}"):
        pytest.skip("only root can mount a small file system")
    try:
        free = shutil.disk_usage(run.cache_dir).free
        (run.cache_dir / "others").write_bytes(bytes(free - 12 * MEGABYTE))
        assert read(run, server.connection, bucket, info) == content
        run.unmount()
    finally:
        os.system(f"umount -l {run.cache_dir}")
