"""What is laid into a mount's cache, held open and taken out of it: always the object's bytes."""

import random
import subprocess
from dataclasses import replace
from pathlib import Path

import iris
import numpy as np
import pytest
from iris.cube import Cube

from conftest import Bucket, wait_for
from fault_proxy import Proxy
from s3fuse.embedded_server import Server
from s3fuse.mount.links import make_link
from s3fuse.mount.mounts import Mounts
from s3fuse.mount.options import MountOptions, Reading
from s3fuse.mount.record import Mount
from s3fuse.mount.s3fs_cache import hdf5, prefill
from s3fuse.mount.s3fs_cache import local_files as whole
from s3fuse.mount.s3fs_cache import page_list as pages
from s3fuse.s3.objects import ObjectInfo
from s3fuse.s3.store import Store

pytestmark = pytest.mark.fuse

DAYS = 300
MEGABYTE = 10**6


@pytest.fixture
def counted(server: Server, proxy: Proxy) -> Store:
    return Store(replace(server.connection, endpoint_url=proxy.endpoint_url))


@pytest.fixture(scope="session")
def chunked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A netCDF-4 file of 31 MB whose index has several nodes between its 300 chunks."""
    path = tmp_path_factory.mktemp("chunked") / "x.nc"
    values = np.random.default_rng(1).standard_normal((DAYS, 90, 290), "f4")
    with iris.FUTURE.context(save_split_attrs=True):
        iris.save(Cube(values, var_name="x"), path, chunksizes=(1, 90, 290))
    return path


def look(counted: Store, bucket: Bucket, key: str) -> ObjectInfo:
    info = counted.head(bucket.url.child(key))
    assert info
    return info


def mount(made: Mounts, counted: Store, bucket: Bucket, reading: Reading = Reading.RANDOM) -> Mount:
    return made.mount(bucket.name, counted.connection, MountOptions(reading=reading))


def test_of_a_netcdf_file_only_data_are_left_to_read(
    made: Mounts, counted: Store, proxy: Proxy, bucket: Bucket, chunked: Path
) -> None:
    bucket.upload(chunked, "x.nc")
    info = look(counted, bucket, "x.nc")
    pieces = prefill.metadata(counted, bucket.url.child("x.nc"), info)
    content = chunked.read_bytes()
    assert all(content[start : start + len(piece)] == piece for start, piece in pieces.items())
    assert sum(map(len, pieces.values())) < 2 * MEGABYTE
    mounted = mount(made, counted, bucket)
    assert prefill.fill(mounted, info, pieces)
    proxy.reset_counts()
    cube = iris.load_cube(mounted.point / "x.nc")
    # netCDF-C reads 4 MB from the head of a file to see what it is.
    assert proxy.counts.requests["GET"] <= 1
    day = cube[DAYS // 2].data
    # A node that is there already may split what is read of the data.
    assert proxy.counts.requests["GET"] <= 3
    assert proxy.counts.sent < 11 * MEGABYTE
    np.testing.assert_array_equal(day, iris.load_cube(chunked)[DAYS // 2].data)


def test_a_file_with_pieces_filled_in_is_the_object(
    made: Mounts, counted: Store, bucket: Bucket
) -> None:
    content = random.Random(1).randbytes(7 * MEGABYTE + 11)
    bucket.write("folder/x.bin", content)
    info = look(counted, bucket, "folder/x.bin")
    pieces = {start: content[start : start + 1000] for start in range(0, len(content), 555_555)}
    mounted = mount(made, counted, bucket)
    assert prefill.fill(mounted, info, pieces)
    assert (mounted.point / "folder/x.bin").read_bytes() == content
    assert not prefill.fill(mounted, info, {0: b"wrong"})
    assert (mounted.point / "folder/x.bin").read_bytes() == content


def test_what_was_filled_in_is_what_s3fs_takes(
    made: Mounts, counted: Store, bucket: Bucket
) -> None:
    bucket.write("x.bin", bytes(6 * MEGABYTE))
    mounted = mount(made, counted, bucket)
    assert prefill.fill(mounted, look(counted, bucket, "x.bin"), {0: b"from here" * 1000})
    with (mounted.point / "x.bin").open("rb") as file:
        assert file.read(9) == b"from here"


@pytest.mark.parametrize("size", [0, 1, prefill.BLOCK, prefill.HEAD + prefill.TAIL // 2])
def test_files_of_any_size_have_a_head_and_a_tail(
    counted: Store, bucket: Bucket, size: int
) -> None:
    content = random.Random(size).randbytes(size)
    bucket.write("x", content)
    pieces = prefill.metadata(counted, bucket.url.child("x"), look(counted, bucket, "x"))
    assert b"".join(pieces.values()) == content


def test_what_is_read_from_end_to_end_becomes_a_local_file(
    made: Mounts, counted: Store, proxy: Proxy, bucket: Bucket
) -> None:
    content = random.Random(1).randbytes(12 * MEGABYTE)
    bucket.write("a/x", content)
    mounted = mount(made, counted, bucket, Reading.SEQUENTIAL)
    link = made.links / "x"
    make_link(mounted.point / "a/x", link, 1000)
    with link.open("rb") as early:
        made.read_ahead.add(
            mounted.point,
            mounted.point / "a/x",
            range(len(content)),
            Reading.SEQUENTIAL,
            lambda: whole.let_through(mounted, "a/x", len(content), link),
        )
        wait_for(lambda: link.readlink() == mounted.whole / "a/x")
        assert link.lstat().st_mtime == 1000
        proxy.reset_counts()
        assert link.read_bytes() == content
        assert proxy.counts.total == 0
        # Who had it open goes on, and so does who comes by another way.
        assert early.read() == content
    assert (mounted.point / "a/x").read_bytes() == content
    made.unmount()
    assert list(made.links.iterdir()) == []


def test_what_is_there_in_part_stays_in_the_mount(
    made: Mounts, counted: Store, bucket: Bucket
) -> None:
    bucket.write("x", random.Random(1).randbytes(12 * MEGABYTE))
    mounted = mount(made, counted, bucket)
    with (mounted.point / "x").open("rb") as file:
        file.read(1)
    link = made.links / "x"
    make_link(mounted.point / "x", link)
    assert not whole.let_through(mounted, "x", 12 * MEGABYTE, link)
    assert link.readlink() == mounted.point / "x"


def test_local_files_make_room_when_no_link_leads_to_them(
    made: Mounts, counted: Store, bucket: Bucket
) -> None:
    mounted = mount(made, counted, bucket)
    for name in "ab":
        path = mounted.whole / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes(4 * MEGABYTE))
    make_link(mounted.whole / "a", made.links / "a")
    assert not whole.has_room(mounted, 7 * MEGABYTE, 20 * MEGABYTE)
    assert whole.has_room(mounted, 6 * MEGABYTE, 20 * MEGABYTE)
    assert [path.name for path in mounted.whole.iterdir()] == ["a"]


def test_commands_do_not_ask_about_the_files_that_are_held(
    made: Mounts, counted: Store, proxy: Proxy, bucket: Bucket
) -> None:
    bucket.write("x", "content")
    mounted = mount(made, counted, bucket)
    held: list[bool] = []
    made.read_ahead.add(
        *(mounted.point, mounted.point / "x", range(1), Reading.RANDOM),
        lambda: bool(held.append(True)),
    )
    wait_for(lambda: bool(held))
    proxy.reset_counts()
    for _ in range(3):
        subprocess.run(["true"], check=True)
    assert proxy.counts.total == 0
    made.read_ahead.release(mounted.point)
    made.unmount()


@pytest.fixture(scope="session")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A netCDF-4 file of 72 MB in 90 chunks."""
    path = tmp_path_factory.mktemp("long") / "x.nc"
    values = np.random.default_rng(2).standard_normal((90, 400, 500), "f4")
    with iris.FUTURE.context(save_split_attrs=True):
        iris.save(Cube(values, var_name="x"), path, chunksizes=(1, 400, 500))
    return path


def chunks_by_search(path: Path) -> list[pages.Span]:
    """Where the data of each day lie, which are not compressed: by looking for them."""
    content = path.read_bytes()
    days = [day.data.tobytes() for day in iris.load_cube(path).slices_over(0)]
    starts = [content.index(day) for day in days]
    return sorted((start, start + len(days[0])) for start in starts)


def test_the_chunks_of_a_file_are_where_its_data_are(
    counted: Store, bucket: Bucket, chunked: Path, long: Path
) -> None:
    for path in (chunked, long):
        bucket.upload(path, path.name)
        info = look(counted, bucket, path.name)
        pieces = prefill.metadata(counted, bucket.url.child(path.name), info)
        assert hdf5.chunks(pieces.values(), info.size) == chunks_by_search(path)
