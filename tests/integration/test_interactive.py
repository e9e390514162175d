"""`s3fuse.mounted`, as notebooks and scripts use it."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import iris
import iris_sample_data
import pytest

import s3fuse
from conftest import Bucket, mounted
from s3fuse.embedded_server import Server
from s3fuse.errors import BucketNotFound, MountBusy, QueryError

pytestmark = pytest.mark.fuse


@pytest.fixture(autouse=True)
def _configured(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)


def test_iris_reads_a_bucket_like_a_folder(bucket: Bucket) -> None:
    sample = Path(iris_sample_data.path) / "E1_north_america.nc"
    bucket.upload(sample, "tas/e1.nc")
    with s3fuse.mounted(f"{bucket.url}/tas/") as folder:
        assert os.path.ismount(folder.parent)
        (cube,) = iris.load(folder / "*.nc")
        there = cube.data
    assert (there == iris.load_cube(sample).data).all()
    assert mounted() == []
    assert not folder.exists()


def test_nested_and_concurrent_use_share_one_mount(bucket: Bucket) -> None:
    bucket.write("x", "content")

    def read(_: int) -> Path:
        with s3fuse.mounted(str(bucket.url)) as path:
            assert (path / "x").read_text() == "content"
            return path

    with s3fuse.mounted(str(bucket.url)) as outer:
        with s3fuse.mounted(str(bucket.url)) as inner:
            assert inner == outer
        assert len(mounted()) == 1
        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(read, range(16))) == {outer}
        code = "import s3fuse, sys\n"
        code += "with s3fuse.mounted(sys.argv[1]) as path: print(path)"
        command = [sys.executable, "-c", code, str(bucket.url)]
        assert subprocess.check_output(command, text=True).strip() == str(outer)
        assert (outer / "x").read_text() == "content"
    assert mounted() == []
    # Without one around them, too.
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(read, range(16)))
    assert mounted() == []


def test_an_exception_inside_still_unmounts(bucket: Bucket) -> None:
    with pytest.raises(ZeroDivisionError), s3fuse.mounted(str(bucket.url)):
        1 / 0  # noqa: B018
    assert mounted() == []


def test_what_is_written_is_in_the_bucket_when_the_block_ends(bucket: Bucket) -> None:
    with s3fuse.mounted(str(bucket.url), read_write=True) as path:
        (path / "out.txt").write_text("written")
    assert bucket.contents() == {"out.txt": b"written"}
    assert mounted() == []


def test_a_file_that_is_left_open(bucket: Bucket, caplog: pytest.LogCaptureFixture) -> None:
    bucket.write("x", "content")
    with s3fuse.mounted(str(bucket.url), unmount_timeout=0.5) as path:
        file = (path / "x").open()
    # Read-only: detached, and gone with the file.
    assert f"(pid {os.getpid()}) at x" in caplog.text
    assert file.read() == "content"
    file.close()
    with (
        pytest.raises(MountBusy, match=r"it is in use by this .* at y\. End it"),
        s3fuse.mounted(str(bucket.url), read_write=True, unmount_timeout=0.5) as path,
    ):
        file = (path / "y").open("w")
    file.write("late")
    file.close()
    assert s3fuse.Mounts(Path("/nonexistent")).unmount()
    assert bucket.contents()["y"] == b"late"


def test_a_mount_of_the_command_stays(bucket: Bucket) -> None:
    command = [sys.executable, "-m", "s3fuse", "mount", str(bucket.url)]
    point = subprocess.check_output(command, text=True).strip()
    # What a program uses goes with the program, and the other one stays.
    with s3fuse.mounted(str(bucket.url)) as path:
        assert str(path) != point
    assert len(mounted()) == 1
    subprocess.run([sys.executable, "-m", "s3fuse", "unmount"], check=True)
    assert mounted() == []


def test_mistakes_get_a_sentence(bucket: Bucket) -> None:
    with pytest.raises(QueryError, match=f"is an object; name .* as in {bucket.url}"):
        s3fuse.mounted(f"{bucket.url}/x.nc").__enter__()
    with pytest.raises(BucketNotFound, match="There is no bucket s3://not-there"):
        s3fuse.mounted("s3://not-there").__enter__()
    assert mounted() == []


def test_the_endpoint_may_come_from_the_configuration_of_aws(
    bucket: Bucket, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.write("x", "content")
    for name in server.environment:
        monkeypatch.delenv(name)
    config = tmp_path / "config"
    config.write_text(
        f"[profile mine]\nregion = us-east-1\naws_access_key_id = {server.access_key}\n"
        f"aws_secret_access_key = {server.secret_key}\nservices = here\n"
        f"[services here]\ns3 =\n  endpoint_url = {server.endpoint_url}\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_PROFILE", "mine")
    with s3fuse.mounted(str(bucket.url)) as path:
        assert (path / "x").read_text() == "content"
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert s3fuse.Connection.from_environment().endpoint_url == "http://127.0.0.1:9"
    monkeypatch.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")
    assert s3fuse.Connection.from_environment().endpoint_url is None
