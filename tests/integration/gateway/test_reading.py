"""What is read through a gateway: the planned version, or an error."""

from __future__ import annotations

import base64
import contextlib
import errno
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import iris
import numpy as np
import psutil
import pytest
from iris.cube import Cube

from conftest import Bucket, wait_for
from fault_proxy import Proxy
from s3fuse.cache.place import kept
from s3fuse.embedded_server import Server
from s3fuse.gateway.catalogue import View
from s3fuse.mount import daemon
from s3fuse.mount.mounts import Mounts, moved
from s3fuse.mount.options import LEAST_CACHE, MountOptions
from s3fuse.mount.record import Mount
from s3fuse.node.links import make_link
from s3fuse.s3.connection import Connection
from s3fuse.s3.objects import ObjectInfo
from s3fuse.s3.store import Store
from s3fuse.urls import S3Url
from stores import moto

pytestmark = pytest.mark.fuse

DAYS = 300
MEGABYTE = 10**6


@pytest.fixture
def counted(server: Server, proxy: Proxy) -> Connection:
    """The connection to the server by a proxy that counts."""
    return replace(server.connection, endpoint_url=proxy.endpoint_url)


@pytest.fixture(scope="session")
def chunked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A netCDF-4 file of 31 MB whose index has several nodes between its 300 chunks."""
    path = tmp_path_factory.mktemp("chunked") / "x.nc"
    values = np.random.default_rng(1).standard_normal((DAYS, 90, 290), "f4")
    with iris.FUTURE.context(save_split_attrs=True):
        iris.save(Cube(values, var_name="x"), path, chunksizes=(1, 90, 290))
    return path


@pytest.fixture(scope="session")
def versioned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store with a bucket that keeps old versions."""
    with moto(tmp_path_factory.mktemp("moto")) as connection:
        store = Store(connection)
        url = S3Url("versioned")
        store.call("create_bucket", url, "create")
        enabled = {"Status": "Enabled"}
        store.call("put_bucket_versioning", url, "change", VersioningConfiguration=enabled)
        yield store


def look(store: Store, bucket: str, key: str) -> ObjectInfo:
    info = store.head(S3Url(bucket, key))
    assert info
    return info


def show(made: Mounts, mount: Mount, info: ObjectInfo, *, sequential: bool = False) -> Path:
    return made.show(mount, View.of_object(info, sequential=sequential))


def content_of(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


def gateway_of(mount: Mount) -> psutil.Process:
    """The process of the gateway of a mount."""
    assert mount.keeper
    children = psutil.Process(mount.keeper.pid).children()
    (found,) = [each for each in children if "s3fuse.gateway" in each.cmdline()]
    return found


def test_of_a_netcdf_file_only_data_are_left_to_read(
    made: Mounts, counted: Connection, proxy: Proxy, bucket: Bucket, chunked: Path
) -> None:
    bucket.upload(chunked, "x.nc")
    mount = made.mount(bucket.name, counted)
    proxy.reset_counts()
    path = show(made, mount, look(bucket.store, bucket.name, "x.nc"))
    time.sleep(1)
    # No index is asked for any more. s3fs asks for 5 MB where one byte is missing, since 1.96
    # for 10: of the head and of the day.
    asked = 10 if daemon.version() >= (1, 96) else 5
    cube = iris.load_cube(path)
    day = cube[DAYS // 2].data
    np.testing.assert_array_equal(day, iris.load_cube(chunked)[DAYS // 2].data)
    assert set(proxy.counts.requests) == {"GET"}
    assert proxy.counts.sent < (2 * asked + 2) * MEGABYTE
    link = made.links / "x"
    make_link(path, link)
    assert abs(moved(link) - proxy.counts.sent) < MEGABYTE / 2


@pytest.mark.parametrize("size", [0, 1, 64 * 1024, 5 * 2**20, 5 * 2**20 + 1, 12 * MEGABYTE])
def test_files_of_any_size_are_their_objects(
    made: Mounts, server: Server, bucket: Bucket, size: int
) -> None:
    content = content_of(size, size)
    bucket.write("a/x", content)
    mount = made.mount(bucket.name, server.connection)
    path = show(made, mount, look(bucket.store, bucket.name, "a/x"))
    assert path.stat().st_size == size
    assert path.read_bytes() == content
    assert (mount.point / "a/x").read_bytes() == content


def test_what_is_read_from_end_to_end_becomes_a_local_file(
    made: Mounts, counted: Connection, proxy: Proxy, bucket: Bucket
) -> None:
    content = content_of(1, 30 * MEGABYTE)
    bucket.write("a/x", content)
    info = look(bucket.store, bucket.name, "a/x")
    proxy.faults.total_bandwidth = 60 * MEGABYTE
    mount = made.mount(bucket.name, counted)
    link = made.links / "x"
    path = show(made, mount, info, sequential=True)
    make_link(path, link, 1000)
    with link.open("rb") as early:
        wait_for(lambda: link.readlink().is_relative_to(mount.cache))
        assert link.lstat().st_mtime == 1000
        assert link.stat().st_mode & 0o777 == 0o400
        proxy.reset_counts()
        assert link.read_bytes() == content
        # Who had it open goes on, and so does who comes by another way, or later.
        assert early.read() == content
    assert path.read_bytes() == content
    assert show(made, mount, info, sequential=True) == link.readlink()
    assert proxy.counts.total == 0
    made.unmount()
    assert list(made.links.iterdir()) == []


def test_a_file_larger_than_the_cache_is_read_through(
    made_in_memory: Mounts, server: Server, bucket: Bucket
) -> None:
    made = made_in_memory
    content = content_of(2, 3 * LEAST_CACHE)
    bucket.write("x", content)
    mount = made.mount(bucket.name, server.connection, MountOptions(cache_bytes=LEAST_CACHE))
    path = show(made, mount, look(bucket.store, bucket.name, "x"), sequential=True)
    largest = 0
    with path.open("rb") as file:
        for start in range(0, len(content), 2**20):
            assert file.read(2**20) == content[start : start + 2**20]
            largest = max(largest, sum(each.held for each in kept(made.cache_dir)))
    assert largest <= LEAST_CACHE // 2


def test_what_was_planned_is_read_or_nothing(
    made: Mounts, server: Server, bucket: Bucket, caplog: pytest.LogCaptureFixture
) -> None:
    bucket.write("x", b"1" * 24 * MEGABYTE)
    info = look(bucket.store, bucket.name, "x")
    mount = made.mount(bucket.name, server.connection)
    path = show(made, mount, info)
    with path.open("rb") as file:
        assert file.read(5) == b"11111"
        bucket.write("x", b"2" * 24 * MEGABYTE)
        # The tail came with the head.
        file.seek(24 * MEGABYTE - 50_000)
        assert set(file.read()) == {ord("1")}
        file.seek(16 * MEGABYTE)
        with pytest.raises(OSError, match="Input/output error"):
            file.read(1)
    (failure,) = made.failures(bucket.name)
    assert failure.info == info
    reason = failure.sentence
    assert reason == (
        f"s3://{bucket.name}/x was replaced or deleted after this run was planned, and the "
        "bucket does not keep that version; start the run again."
    )
    wait_for(lambda: reason in caplog.text)
    assert caplog.text.count(reason) == 1
    # The version of now is another view.
    now = show(made, mount, look(bucket.store, bucket.name, "x"))
    assert now.read_bytes() == b"2" * 24 * MEGABYTE


def test_a_versioned_bucket_goes_on_with_what_was_planned(made: Mounts, versioned: Store) -> None:
    url = S3Url("versioned", "x")
    contents = [bytes([48 + number]) * 12 * MEGABYTE for number in range(3)]
    infos = []
    for content in contents:
        versioned.call("put_object", url, "write", Key="x", Body=content)
        infos.append(look(versioned, "versioned", "x"))
    mount = made.mount("versioned", versioned.connection)
    paths = [show(made, mount, info) for info in infos]
    versioned.call("delete_object", url, "delete", Key="x")
    for path, content in zip(paths, contents, strict=True):
        assert path.read_bytes() == content
    assert made.failures("versioned") == []


def test_a_folder_is_what_it_was(made: Mounts, server: Server, bucket: Bucket) -> None:
    for name in ("a", "b", "c/d", "c/e"):
        bucket.write(f"folder/{name}", name)
    infos = bucket.store.list(bucket.url.child("folder/"), recursive=True).objects.values()
    mount = made.mount(bucket.name, server.connection)
    path = made.show(mount, View.of_folder("folder/", infos))
    bucket.write("folder/new", "new")
    bucket.write("folder/c/new", "new")
    bucket.remove("folder/b")
    bucket.write("folder/c/e", "other")
    found = sorted(str(each.relative_to(path)) for each in path.rglob("*"))
    assert found == ["a", "b", "c", "c/d", "c/e"]
    assert (path / "a").read_text() == "a"
    for name in ("b", "c/e"):
        with pytest.raises(OSError, match="Input/output error"):
            (path / name).read_text()
    assert not (path / "new").exists()


def test_a_bucket_stays_what_was_seen_of_it(made: Mounts, server: Server, bucket: Bucket) -> None:
    for name in ("seen", "listed", "unseen"):
        bucket.write(f"{name}/x", "1")
    mount = made.mount(bucket.name, server.connection)
    assert (mount.point / "seen/x").read_text() == "1"
    assert os.listdir(mount.point / "listed") == ["x"]
    for name in ("seen", "listed", "unseen"):
        bucket.write(f"{name}/x", "2")
    assert (mount.point / "seen/x").read_text() == "1"
    with pytest.raises(OSError, match="Input/output error"):
        (mount.point / "listed/x").read_text()
    assert (mount.point / "unseen/x").read_text() == "2"


def test_what_this_project_keeps_for_itself_is_not_shown(
    made: Mounts, server: Server, bucket: Bucket
) -> None:
    # More than s3fs asks for when it looks whether there is a folder.
    for name in ("manifest", *(f"commit-{number}" for number in range(3))):
        bucket.write(f"folder/.s3fuse-{name}.json", "{}")
    bucket.write("folder/x", "1")
    mount = made.mount(bucket.name, server.connection)
    assert [path.name for path in mount.point.glob("folder/*")] == ["x"]
    assert os.listdir(mount.point / "folder") == ["x"]
    assert not (mount.point / "folder/.s3fuse-manifest.json").exists()
    assert os.listdir(mount.point) == ["folder"]


@pytest.mark.parametrize("victim", ["gateway", "gateway twice"])
def test_a_gateway_that_is_killed_is_started_again_under_its_readers(
    made: Mounts,
    counted: Connection,
    proxy: Proxy,
    bucket: Bucket,
    victim: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    content = content_of(3, 60 * MEGABYTE)
    bucket.write("x", content)
    proxy.faults.total_bandwidth = 20 * MEGABYTE
    mount = made.mount(bucket.name, counted)
    link = made.links / "x"
    make_link(show(made, mount, look(bucket.store, bucket.name, "x")), link)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(link.read_bytes()))
    reader.start()
    for _ in victim.split():
        time.sleep(0.7)
        gateway_of(mount).send_signal(signal.SIGKILL)
    reader.join(60)
    assert read == [content]
    assert "was started again; who reads goes on" in caplog.text
    assert mount.is_healthy


def test_where_the_keeper_is_killed_the_bucket_is_mounted_again(
    made: Mounts, server: Server, bucket: Bucket
) -> None:
    bucket.write("x", "content")
    mount = made.mount(bucket.name, server.connection)
    info = look(bucket.store, bucket.name, "x")
    link = made.links / "x"
    make_link(show(made, mount, info), link)
    processes = [psutil.Process(each.pid) for each in (mount.daemon, mount.keeper) if each]
    processes.append(gateway_of(mount))
    os.kill(processes[1].pid, signal.SIGKILL)
    _, alive = psutil.wait_procs(processes, 10)
    assert alive == []
    wait_for(lambda: link.readlink() != show_path(mount, info))
    assert link.read_text() == "content"


def test_who_reads_gets_an_error_where_nobody_answers_any_more(
    made: Mounts, counted: Connection, proxy: Proxy, bucket: Bucket
) -> None:
    bucket.write("x", content_of(3, 60 * MEGABYTE))
    proxy.faults.total_bandwidth = 5 * MEGABYTE
    mount = made.mount(bucket.name, counted)
    path = show(made, mount, look(bucket.store, bucket.name, "x"))
    descriptor = os.open(path, os.O_RDONLY)
    assert len(os.pread(descriptor, 100, 0)) == 100
    victims = [psutil.Process(mount.keeper.pid if mount.keeper else 0), gateway_of(mount)]
    threading.Timer(0.5, lambda: [each.kill() for each in victims]).start()
    start = time.monotonic()
    with pytest.raises(OSError, match=r"Input/output error|not connected|abort"):
        os.pread(descriptor, 10 * MEGABYTE, 50 * MEGABYTE)
    assert time.monotonic() - start < 10
    # What is closed of a mount that is gone is an error, too.
    with contextlib.suppress(OSError):
        os.close(descriptor)


def show_path(mount: Mount, info: ObjectInfo) -> Path:
    return mount.point / View.of_object(info).path


def test_bodies_that_are_cut_or_reset_are_asked_for_again(
    made: Mounts, counted: Connection, proxy: Proxy, bucket: Bucket
) -> None:
    content = content_of(4, 20 * MEGABYTE)
    bucket.write("x", content)
    mount = made.mount(bucket.name, counted)
    path = show(made, mount, look(bucket.store, bucket.name, "x"))
    proxy.faults.cut_every, proxy.faults.reset_every = 3, 5
    assert path.read_bytes() == content


def test_what_may_not_be_read_is_an_error_that_is_told(
    made: Mounts,
    counted: Connection,
    proxy: Proxy,
    bucket: Bucket,
    caplog: pytest.LogCaptureFixture,
) -> None:
    bucket.write("x", content_of(5, 100))
    mount = made.mount(bucket.name, counted)
    proxy.faults.refuse = lambda request: "AccessDenied" if request.key == "x" else None
    path = show(made, mount, look(bucket.store, bucket.name, "x"))
    with pytest.raises(OSError, match="Input/output error"):
        path.read_bytes()
    wait_for(lambda: f"Not allowed to read s3://{bucket.name}/x" in caplog.text)


def test_what_may_not_be_looked_at_is_no_empty_file(
    made: Mounts, counted: Connection, proxy: Proxy, bucket: Bucket
) -> None:
    bucket.write("x", "content")
    mount = made.mount(bucket.name, counted)
    proxy.faults.refuse = lambda request: "AccessDenied"
    with pytest.raises(OSError, match="Input/output error"):
        (mount.point / "x").read_bytes()


def test_a_whole_object_is_compared_with_its_checksum(
    made: Mounts, server: Server, bucket: Bucket, caplog: pytest.LogCaptureFixture
) -> None:
    bucket.write("x", b"1" * 3 * MEGABYTE)
    info = look(bucket.store, bucket.name, "x")
    bucket.damage("x")
    mount = made.mount(bucket.name, server.connection)
    shown = show(made, mount, info, sequential=True)
    wait_for(lambda: "is not what its checksum says" in caplog.text)
    with pytest.raises(OSError, match="Input/output error"):
        shown.read_bytes()
    assert [each.info for each in made.failures(bucket.name)] == [info]


def test_whoever_asks_for_failures_waits_for_comparisons(
    made: Mounts, server: Server, bucket: Bucket
) -> None:
    size = 60 * MEGABYTE
    bucket.write("x", bytes(size))
    info = look(bucket.store, bucket.name, "x")
    bucket.damage("x")
    mount = made.mount(bucket.name, server.connection)
    assert len(show(made, mount, info).read_bytes()) == size
    assert [each.info for each in made.failures(bucket.name)] == [info]


def test_a_gateway_that_is_started_again_is_waited_for(
    made: Mounts, server: Server, bucket: Bucket
) -> None:
    bucket.write("x", "content")
    mount = made.mount(bucket.name, server.connection)
    info = look(bucket.store, bucket.name, "x")
    gateway_of(mount).kill()
    assert show(made, mount, info).read_text() == "content"
    gateway_of(mount).kill()
    assert made.failures(bucket.name) == []


@pytest.mark.parametrize(
    "header",
    [b"x-amz-server-side-encryption: aws:kms", b"x-amz-server-side-encryption: AES256"],
    ids=["SSE-KMS", "SSE-S3"],
)
def test_an_etag_that_is_no_checksum_is_not_taken_for_one(
    made: Mounts, counted: Connection, proxy: Proxy, bucket: Bucket, header: bytes
) -> None:
    path = bucket.write("x", b"1" * 3 * MEGABYTE)
    info = look(bucket.store, bucket.name, "x")
    before = path.stat()
    # The store remembers the MD5 of this, as AWS has an ETag under SSE-KMS that is none.
    path.write_bytes(b"2" * 3 * MEGABYTE)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    proxy.faults.header = header
    mount = made.mount(bucket.name, counted)
    shown = show(made, mount, info, sequential=True)
    if b"kms" in header:
        wait_for(lambda: moved(made_link(made, shown)) == info.size)
        time.sleep(1)
        assert shown.read_bytes() == b"2" * 3 * MEGABYTE
    else:
        wait_for(lambda: [each.info for each in made.failures(bucket.name)] == [info])


def made_link(made: Mounts, target: Path) -> Path:
    """Return a link of a job."""
    make_link(target, made.links / "link")
    return made.links / "link"


def test_inputs_are_read_with_few_descriptors(
    made: Mounts, server: Server, bucket: Bucket, tmp_path: Path
) -> None:
    contents = {f"x{number}": str(number) for number in range(1000)}
    for name, content in contents.items():
        bucket.write(f"in/{name}", content)
    infos = bucket.store.list(bucket.url.child("in/")).objects
    limit = psutil.RLIMIT_NOFILE
    me = psutil.Process()
    before = me.rlimit(limit)
    me.rlimit(limit, (256, before[1]))
    try:
        mount = made.mount(bucket.name, server.connection)
        paths = {name: show(made, mount, infos[f"in/{name}"]) for name in contents}
        assert {name: path.read_text() for name, path in paths.items()} == contents
    finally:
        me.rlimit(limit, before)


def test_an_interactive_mount_shows_what_is_new_when_nobody_reads_the_old(
    made: Mounts, server: Server, bucket: Bucket
) -> None:
    bucket.write("x", b"1" * 12 * MEGABYTE)
    mount = made.keep_mounted(bucket.name, server.connection)
    path = mount.point / "x"
    with path.open("rb") as file:
        assert file.read(10) == b"1" * 10
        bucket.write("x", b"2" * 6 * MEGABYTE)
        time.sleep(1.5)
        with path.open("rb") as other:
            # The old one, as long as somebody has it open.
            assert os.fstat(other.fileno()).st_size == 12 * MEGABYTE
        file.seek(11 * MEGABYTE)
        with pytest.raises(OSError, match="Input/output error"):
            file.read(1)
    time.sleep(1.5)
    assert path.read_bytes() == b"2" * 6 * MEGABYTE
    for size in (6, 7, 5):
        bucket.write("x", bytes([48 + size]) * size * MEGABYTE)
        time.sleep(1.5)
        assert path.read_bytes() == bytes([48 + size]) * size * MEGABYTE
    bucket.remove("x")
    time.sleep(1.5)
    assert not path.exists()


def test_an_open_file_stays_what_it_is_when_the_gateway_dies(
    made: Mounts, server: Server, bucket: Bucket
) -> None:
    bucket.write("x", b"1" * 60 * MEGABYTE)
    mount = made.keep_mounted(bucket.name, server.connection)
    path = mount.point / "x"
    with path.open("rb") as file:
        assert file.read(10) == b"1" * 10
        bucket.write("x", b"2" * 60 * MEGABYTE)
        gateway_of(mount).kill()
        # A look at it, too, by somebody else.
        wait_for(path.exists)
        file.seek(30 * MEGABYTE)
        with pytest.raises(OSError, match="Input/output error"):
            file.read()
    time.sleep(1.5)
    assert path.read_bytes() == b"2" * 60 * MEGABYTE


@pytest.mark.parametrize("code", ["ExpiredToken", "AccessDenied"])
def test_what_is_refused_for_a_moment_can_be_read_later(
    made: Mounts, counted: Connection, proxy: Proxy, bucket: Bucket, code: str
) -> None:
    bucket.write("x", "content")
    info = look(bucket.store, bucket.name, "x")
    mount = made.mount(bucket.name, counted)
    proxy.faults.refuse = lambda request: code if request.key == "x" else None
    path = show(made, mount, info)
    with pytest.raises(OSError, match="Input/output error"):
        path.read_bytes()
    proxy.faults.refuse = lambda _: None
    assert path.read_text() == "content"
    # But whoever has read nothing may have gone on.
    assert {(each.info, each.is_final) for each in made.failures(bucket.name)} == {(info, False)}


def lent(made: Mounts, mount: Mount, info: ObjectInfo) -> Path:
    """Return the link of a job, when it leads to the file of an object."""
    link = made_link(made, show(made, mount, info, sequential=True))
    wait_for(lambda: link.readlink().is_relative_to(mount.cache))
    return link


def test_who_writes_to_the_file_of_an_input_is_noticed(
    made: Mounts, server: Server, bucket: Bucket
) -> None:
    bucket.write("x", b"1" * 3 * MEGABYTE)
    info = look(bucket.store, bucket.name, "x")
    link = lent(made, made.mount(bucket.name, server.connection), info)
    assert made.failures(bucket.name) == []
    # As root can in any case.
    link.resolve().chmod(0o600)
    with link.open("r+b") as file:
        file.write(b"edited")
    (failure,) = made.failures(bucket.name)
    assert failure.info == info
    assert "was changed while jobs read it" in failure.sentence


def test_what_is_lent_is_right_where_there_is_little_room(
    made_in_memory: Mounts, server: Server, bucket: Bucket
) -> None:
    made = made_in_memory
    contents = {f"x{number}": content_of(number, 30 * MEGABYTE) for number in range(6)}
    for name, content in contents.items():
        bucket.write(name, content)
    bucket.write("large", bytes(150 * MEGABYTE))
    mount = made.mount(bucket.name, server.connection, MountOptions(cache_bytes=128 * 2**20))
    large = show(made, mount, look(bucket.store, bucket.name, "large"))
    is_over = threading.Event()

    def read() -> None:
        while not is_over.is_set():
            with large.open("rb", buffering=0) as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                while not is_over.is_set() and file.read(2**20):
                    pass

    right = 0
    reader = threading.Thread(target=read)
    reader.start()
    try:
        for name, content in contents.items():
            info = look(bucket.store, bucket.name, name)
            link = made_link(made, show(made, mount, info, sequential=True))
            with contextlib.suppress(AssertionError):
                wait_for(lambda: link.readlink().is_relative_to(mount.cache), 2)  # noqa: B023
            try:
                found = link.read_bytes()
            except OSError as error:
                # s3fs may have given all of its room to the other file.
                if error.errno != errno.ENOSPC:
                    raise
            else:
                assert found == content
                right += 1
            link.unlink()
    finally:
        is_over.set()
        reader.join()
    assert right


def test_a_key_that_comes_later_is_there(made: Mounts, server: Server, bucket: Bucket) -> None:
    bucket.write("a", "1")
    mount = made.mount(bucket.name, server.connection)
    assert not (mount.point / "b").exists()
    bucket.write("b", "2")
    assert sorted(os.listdir(mount.point)) == ["a", "b"]
    assert (mount.point / "b").read_text() == "2"


def test_what_is_passed_on_without_being_kept_is_right_or_an_error(
    made: Mounts, counted: Connection, proxy: Proxy, bucket: Bucket
) -> None:
    content = content_of(1, 30 * MEGABYTE)
    bucket.write("x", content)
    info = look(bucket.store, bucket.name, "x")
    # The server takes no notice of the key.
    customer = replace(counted, sse_customer_key=base64.b64encode(bytes(32)).decode())
    mount = made.mount(bucket.name, customer)
    path = show(made, mount, info)
    with path.open("rb") as file:
        assert file.read(MEGABYTE) == content[:MEGABYTE]
        assert [each for each in mount.cache.iterdir() if each.name.startswith("object-")] == []
        left = [None, None]
        # In the middle of an answer.
        proxy.faults.refuse = lambda request: left.pop() if left else "AccessDenied"
        file.seek(16 * MEGABYTE)
        with pytest.raises(OSError, match="Input/output error"):
            file.read()
    assert {(each.info, each.is_final) for each in made.failures(bucket.name)} == {(info, False)}
    proxy.faults.refuse = lambda _: None
    assert path.read_bytes() == content
