"""Small disks for copies, caches and outputs."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import Bucket, mounted, output_of, snakemake
from reliability.runs import left_in
from s3fuse.embedded_server import Server

SMALL = Path(__file__).parent / "small.smk"
MB = 2**20

pytestmark = [
    pytest.mark.fuse,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small tmpfs"),
]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MiB."""
    path = tmp_path / "disk"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m,mode=0700", "tmpfs", path], check=True)
    yield path
    subprocess.run(["umount", path], check=True)


def run(
    workdir: Path, server: Server, bucket: Bucket, *options: str
) -> subprocess.CompletedProcess[str]:
    config = [
        "command=sha256sum < $INPUT > $OUTPUTS",
        f"input={bucket.url}/in.bin",
        f"outputs=[{bucket.url}/out.txt]",
    ]
    return snakemake(
        workdir,
        *("--snakefile", SMALL, "--cores", "1", *options, "--config", *config),
        environment=server.environment,
    )


@pytest.mark.parametrize("copies", ["in the working directory", "elsewhere"])
def test_no_room_for_a_copy(
    tmp_path: Path, server: Server, bucket: Bucket, small_disk: Path, copies: str
) -> None:
    bucket.write("in.bin", os.urandom(20 * MB))
    bucket.write("out.txt", "old")
    options = ["--storage-s3fuse-access", "copy", "--forcerun", "step"]
    workdir = small_disk
    if copies == "elsewhere":
        workdir = tmp_path
        options += ["--local-storage-prefix", str(small_disk)]
    done = run(workdir, server, bucket, *options)
    assert done.returncode != 0
    text = output_of(done)
    assert "Cannot store" in text or "No space left on device" in text, text
    assert "Traceback" not in text
    assert bucket.keys() == ["in.bin", "out.txt"]
    assert (bucket.folder / "out.txt").read_text() == "old"
    assert not list(small_disk.rglob(".in.bin*"))


@pytest.mark.slow
def test_no_room_for_the_cache_of_a_mount(
    tmp_path: Path, server: Server, bucket: Bucket, small_disk: Path
) -> None:
    content = os.urandom(30 * MB)
    bucket.write("in.bin", content)
    options = ["--storage-s3fuse-access", "mount", "--storage-s3fuse-cache-dir", str(small_disk)]
    done = run(tmp_path, server, bucket, *options)
    assert mounted() == []
    assert "Traceback" not in output_of(done)
    if done.returncode == 0:
        expected = hashlib.sha256(content).hexdigest()
        assert (bucket.folder / "out.txt").read_text().split()[0] == expected
    else:
        assert bucket.keys() == ["in.bin"]
    assert left_in(small_disk) == []


def test_the_cache_stays_within_its_bound(
    tmp_path: Path, server: Server, bucket: Bucket, small_disk: Path
) -> None:
    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
    content = os.urandom(50 * MB)
    bucket.write("in.bin", content)
    peak = tmp_path / "peak"
    options = ["--storage-s3fuse-access", "mount", "--storage-s3fuse-cache-dir", str(small_disk)]
    config = [
        f"command=sha256sum < $INPUT > $OUTPUTS; du -sk {small_disk} | cut -f1 > {peak}",
        f"input={bucket.url}/in.bin",
        f"outputs=[{bucket.url}/out.txt]",
    ]
    done = snakemake(
        tmp_path,
        *("--snakefile", SMALL, "--cores", "1", *options),
        *("--storage-s3fuse-cache-size", "16MiB", "--config", *config),
        environment=server.environment,
    )
    assert done.returncode == 0, output_of(done)
    assert (bucket.folder / "out.txt").read_text().split()[0] == hashlib.sha256(content).hexdigest()
    # The file system needs some blocks to say where the others are.
    assert int(peak.read_text()) <= 16 * 1024 + 64
