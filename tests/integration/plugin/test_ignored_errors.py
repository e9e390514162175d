"""Whole runs: programs that go on where reading has failed, as `glob` does."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from conftest import ROOT, Bucket, output_of, snakemake
from fault_proxy import Proxy, Request
from s3fuse.embedded_server import Server

pytestmark = pytest.mark.fuse

COUNT = """\
import glob, os, signal, sys, time

top, output, ends_s3fs = sys.argv[1:]
if ends_s3fs == "yes":
    point = os.readlink(top).split("/mount/")[0]
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        words = open(path).read().split("\\0")
        if os.path.basename(words[0]) == "s3fs" and any(point in word for word in words):
            os.kill(int(path.split("/")[2]), signal.SIGKILL)
    time.sleep(0.2)
open(output, "w").write(f"{len(glob.glob(top + '/**/*.nc', recursive=True))} files")
"""


class Counting:
    """A workflow whose only job counts files."""

    def __init__(self, folder: Path, bucket: Bucket, environment: dict[str, str]) -> None:
        self._folder, self.bucket, self._environment = folder, bucket, environment
        (folder / "count.py").write_text(COUNT)
        for number in range(20):
            bucket.write(f"in/{number}.nc", "1")

    def run(self, top: str, *words: str, ends_s3fs: bool = False) -> tuple[int, str]:
        ends = "yes" if ends_s3fs else "no"
        command = f"{sys.executable} {self._folder / 'count.py'} $INPUT $OUTPUTS {ends}"
        run = snakemake(
            *(self._folder, "--snakefile", ROOT / "tests/integration/small.smk", "--cores", "1"),
            *("--storage-s3fuse-access", "mount", *words, "--config", f"command={command}"),
            *(f"input={self.bucket.url}{top}", f"outputs=[{self.bucket.url}/out.txt]"),
            environment=self._environment,
        )
        return run.returncode, output_of(run)

    @property
    def counted(self) -> str | None:
        """What was published."""
        path = self.bucket.folder / "out.txt"
        return path.read_text() if path.exists() else None


@pytest.fixture
def counting(tmp_path: Path, bucket: Bucket, server: Server, proxy: Proxy) -> Counting:
    endpoint = {name: proxy.endpoint_url for name in server.environment if "ENDPOINT" in name}
    return Counting(tmp_path, bucket, {**server.environment, **endpoint})


@pytest.mark.parametrize("top", ["", "/in/"])
def test_all_files_are_counted(counting: Counting, top: str) -> None:
    assert counting.run(top)[0] == 0
    assert counting.counted == "20 files"


def test_nothing_is_published_where_s3fs_has_ended(counting: Counting) -> None:
    status, said = counting.run("/in/", ends_s3fs=True)
    assert status == 1
    assert f"had ended while s3://{counting.bucket.name} was in use" in said
    assert counting.counted is None


@pytest.mark.parametrize("code", ["AccessDenied", pytest.param("SlowDown", marks=pytest.mark.long)])
def test_nothing_is_published_where_a_folder_could_not_be_listed(
    counting: Counting, proxy: Proxy, code: str
) -> None:
    def refuse(request: Request) -> str | None:
        is_folder = request.query.get("prefix", [""])[0].startswith("in")
        return code if request.kind == "LIST" and is_folder else None

    proxy.faults.refuse = refuse
    status, said = counting.run("")
    assert status == 1
    assert "out.txt was not published" in said
    assert counting.counted is None


def test_the_second_attempt_is_published(counting: Counting, proxy: Proxy) -> None:
    left = [1]

    def refuse(request: Request) -> str | None:
        is_folder = request.query.get("prefix", [""])[0].startswith("in")
        is_refused = request.kind == "LIST" and is_folder and left and left.pop()
        return "AccessDenied" if is_refused else None

    proxy.faults.refuse = refuse
    status, said = counting.run("", "--retries", "1")
    assert "out.txt was not published" in said
    assert status == 0
    assert counting.counted == "20 files"
