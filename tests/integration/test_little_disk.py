"""Jobs that read more than the disk holds: each of them ends well, and none reads a wrong byte."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import Bucket, output_of, snakemake
from s3fuse.embedded_server import Server

pytestmark = [
    pytest.mark.fuse,
    pytest.mark.long,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system"),
]

DISK = "90m"
ROWS, ROW = 600, 160_000
LARGE = 40_000_000

READER = """\
import hashlib, sys

source, target, first = sys.argv[1], sys.argv[2], int(sys.argv[3])
digest = hashlib.md5()
for start in range(first, first + 40, 4):
    for row in range(start, ROWS, 60):
        with open(source, "rb") as file:
            file.seek(row * ROW)
            digest.update(file.read(ROW))
open(target, "w").write(digest.hexdigest())
"""

SNAKEFILE = """\
storage s3:
    provider="s3fuse",
    access="mount",


rule all:
    input:
        [storage.s3(f"s3://BUCKET/rows/{first}") for first in (0, 3)],
        [storage.s3(f"s3://BUCKET/large/{number}") for number in range(3)],


rule rows:
    input:
        storage.s3("s3://BUCKET/x"),
    output:
        storage.s3("s3://BUCKET/rows/{first}"),
    shell:
        "PYTHON reader.py {input} {output} {wildcards.first}"


rule large:
    input:
        storage.s3("s3://BUCKET/big{number}"),
    output:
        storage.s3("s3://BUCKET/large/{number}"),
    shell:
        "md5sum < {input} > {output}"
"""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    options = f"size={DISK},mode=0700"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", folder], check=True)
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def rows_from(content: bytes, first: int) -> str:
    """The digest that a reader must find."""
    digest = hashlib.md5()
    for start in range(first, first + 40, 4):
        for row in range(start, ROWS, 60):
            digest.update(content[row * ROW : (row + 1) * ROW])
    return digest.hexdigest()


@pytest.mark.parametrize(
    ("runs", "bound"),
    [(20, "80MiB"), (20, "100MiB")],
)
def test_all_jobs_end_well(
    server: Server, bucket: Bucket, tmp_path: Path, disk: Path, runs: int, bound: str
) -> None:
    text = SNAKEFILE.replace("BUCKET", bucket.name).replace("PYTHON", sys.executable)
    (tmp_path / "Snakefile").write_text(text)
    reader = READER.replace("ROWS", str(ROWS)).replace("ROW", str(ROW))
    (tmp_path / "reader.py").write_text(reader)
    options = ["--cores", "6", "--forceall", "--storage-s3fuse-cache-dir", str(disk / "cache")]
    for seed in range(runs):
        content = random.Random(seed).randbytes(ROWS * ROW)
        bucket.write("x", content)
        wanted = {f"rows/{first}": rows_from(content, first).encode() for first in (0, 3)}
        for number in range(3):
            large = random.Random((seed, number).__repr__()).randbytes(LARGE)
            bucket.write(f"big{number}", large)
            wanted[f"large/{number}"] = f"{hashlib.md5(large).hexdigest()}  -\n".encode()
        more = [*options, "--storage-s3fuse-cache-size", bound]
        run = snakemake(tmp_path, *more, environment=server.environment)
        assert run.returncode == 0, f"run {seed}: {output_of(run)}"
        found = bucket.contents()
        assert {key: found[key] for key in wanted} == wanted
