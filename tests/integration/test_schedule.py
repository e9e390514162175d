"""Runs that nobody looks at: one at a time, healing by themselves, each with a line at the end."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from operator import truediv
from pathlib import Path

import psutil
import pytest

from conftest import Bucket, MakeBucket, mounted, snakemake_command
from s3fuse.embedded_server import Server

pytestmark = pytest.mark.fuse

SNAKEFILE = Path(__file__).with_name("months.smk")
SIZE = 300_000
#: Months that arrive one after the other, for each of the tries: fifty for ten.
ARRIVALS = 5
#: A run with nothing to do, against Snakemake's own on local files, the median of pairs:
#: of all fifty, and of fewer, whose median tells less.
NO_OP, NO_OP_OF_FEWER = 1.3, 1.5


@dataclass
class Pipeline:
    """A working directory in which the same command is run again and again."""

    workdir: Path
    server: Server
    inputs: Bucket
    results: Bucket
    sums: dict[str, bytes] = field(default_factory=dict)

    def arrive(self, month: str) -> None:
        content = random.Random(month).randbytes(SIZE)
        self.inputs.write(f"{month}.bin", content)
        self.sums[f"{month}.txt"] = f"{hashlib.sha256(content).hexdigest()}  -\n".encode()

    def start(self, *options: str, command: str = "true") -> subprocess.Popen[str]:
        config = [f"inputs={self.inputs.url}", f"results={self.results.url}", f"command={command}"]
        words = ["--snakefile", str(SNAKEFILE), "--cores", "2", "--storage-s3fuse-access", "mount"]
        program = Path(sys.executable).with_name("snakemake-on-schedule")
        return subprocess.Popen(
            # The profile s3 would do, with its rerun-incomplete.
            [program, *options, *words, "--rerun-incomplete", "--config", *config],
            cwd=self.workdir,
            env={**os.environ, **self.server.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *options: str, command: str = "true") -> tuple[int, str]:
        with self.start(*options, command=command) as process:
            text, _ = process.communicate(timeout=120)
        return process.returncode, text

    @property
    def is_right(self) -> bool:
        return self.results.contents() == self.sums


@pytest.fixture
def pipeline(tmp_path: Path, server: Server, make_bucket: MakeBucket) -> Pipeline:
    workdir = tmp_path / "pipeline"
    workdir.mkdir()
    made = Pipeline(workdir, server, make_bucket(), make_bucket())
    made.arrive("2026-01")
    return made


def last_line(text: str) -> str:
    return text.strip().splitlines()[-1]


def wait_until_reading(workdir: Path) -> None:
    deadline = time.monotonic() + 60
    while not (workdir / "reading").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_line_at_the_end_and_the_same_as_json(pipeline: Pipeline) -> None:
    status, text = pipeline.run("--summary", "state/summary.json")
    assert status == 0, text
    assert re.search(
        r": Done in .+: 1 object read, 300 KB moved of 300 KB; 1 published, 68 bytes\.$",
        last_line(text),
    )
    report = json.loads((pipeline.workdir / "state/summary.json").read_text())
    seconds, began = report.pop("seconds"), report.pop("began")
    assert 0 < seconds < 60
    assert began.startswith("20")
    assert report == {
        "status": 0,
        "objects_read": 1,
        "bytes_available": SIZE,
        "bytes_moved": SIZE,
        "objects_published": 1,
        "bytes_published": 68,
    }
    status, text = pipeline.run("--summary", "state/summary.json")
    assert status == 0
    assert last_line(text).endswith("nothing read, nothing published.")
    assert json.loads((pipeline.workdir / "state/summary.json").read_text())["objects_read"] == 0


def test_the_exit_status_of_a_failed_run(pipeline: Pipeline) -> None:
    status, text = pipeline.run("--summary", "summary.json", command="false")
    assert status == 1
    assert "Failed with exit status 1 in" in last_line(text)
    assert json.loads((pipeline.workdir / "summary.json").read_text())["status"] == 1


def test_a_run_leaves_while_the_last_one_works(pipeline: Pipeline) -> None:
    with pipeline.start(command="touch reading; sleep 8") as first:
        wait_until_reading(pipeline.workdir)
        status, text = pipeline.run("--summary", "second.json")
        assert status == 75
        assert re.fullmatch(
            rf"snakemake-on-schedule: Another run of {pipeline.workdir} is under way "
            rf"\(process {first.pid} on \S+\), so nothing was started\.",
            text.strip(),
        )
        assert json.loads((pipeline.workdir / "second.json").read_text())["status"] == 75
        assert first.wait(60) == 0
        first.communicate()
    assert pipeline.is_right


def test_a_run_waits_for_the_last_one(pipeline: Pipeline) -> None:
    with pipeline.start(command="touch reading; sleep 4") as first:
        wait_until_reading(pipeline.workdir)
        pipeline.arrive("2026-02")
        status, text = pipeline.run("--if-busy", "wait")
        assert first.poll() == 0
        first.communicate()
    assert status == 0, text
    assert "is under way" in text
    assert "; waiting for its end." in text
    # It planned when it was alone, so it saw what had arrived meanwhile.
    assert pipeline.is_right


def test_a_snakemake_by_hand_is_a_run_too(pipeline: Pipeline) -> None:
    config = [f"inputs={pipeline.inputs.url}", f"results={pipeline.results.url}"]
    words = ["--snakefile", SNAKEFILE, "--cores", "1", "--config", *config]
    command = [*snakemake_command(*words), "command=touch reading; sleep 6"]
    environment = {**os.environ, **pipeline.server.environment}
    with subprocess.Popen(
        command, cwd=pipeline.workdir, env=environment, stderr=subprocess.DEVNULL
    ) as by_hand:
        wait_until_reading(pipeline.workdir)
        status, text = pipeline.run()
        assert status == 75
        assert f"Another Snakemake works in {pipeline.workdir} (process {by_hand.pid})" in text
        assert by_hand.wait(60) == 0


def test_a_killed_run_is_healed_by_the_next(pipeline: Pipeline) -> None:
    with pipeline.start(command="touch reading; sleep 30") as first:
        wait_until_reading(pipeline.workdir)
        processes = psutil.Process(first.pid).children(recursive=True)
        for process in [psutil.Process(first.pid), *processes]:
            process.kill()
        first.communicate()
    assert mounted() != []
    assert list((pipeline.workdir / ".snakemake/locks").iterdir())
    status, text = pipeline.run()
    assert status == 0, text
    assert "The last run did not come to its end; its lock was removed." in text
    assert pipeline.is_right
    assert mounted() == []


def test_a_snakemake_that_outlives_its_command_is_a_run_too(pipeline: Pipeline) -> None:
    with pipeline.start(command="touch reading; sleep 6") as first:
        wait_until_reading(pipeline.workdir)
        (left, *_) = psutil.Process(first.pid).children()
        first.kill()
        status, text = pipeline.run()
        assert status == 75
        assert f"Another Snakemake works in {pipeline.workdir} (process {left.pid})" in text
        psutil.wait_procs([left], timeout=60)
    assert pipeline.is_right
    status, text = pipeline.run()
    assert status == 0, text
    assert mounted() == []


def test_sigterm_ends_a_run_in_good_order(pipeline: Pipeline) -> None:
    with pipeline.start(command="touch reading; sleep 3") as process:
        wait_until_reading(pipeline.workdir)
        process.send_signal(signal.SIGTERM)
        text, _ = process.communicate(timeout=60)
    assert "on-schedule: " in last_line(text)
    assert mounted() == []
    status, text = pipeline.run()
    assert status == 0, text
    assert pipeline.is_right


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_fifty_months_one_after_the_other(pipeline: Pipeline, tmp_path: Path, tries: range) -> None:
    local = tmp_path / "local"
    (local / "inputs").mkdir(parents=True)
    by_hand = snakemake_command("--snakefile", SNAKEFILE, "--cores", "2", "--config")
    by_hand += ["inputs=inputs", "results=results"]
    seconds: dict[str, list[float]] = {"here": [], "local": []}
    for number in range(ARRIVALS * len(tries)):
        month = f"{2001 + number // 12}-{number % 12 + 1:02d}"
        pipeline.arrive(month)
        status, text = pipeline.run("--summary", "summary.json")
        assert status == 0, text
        # The first run has the month of the fixture, too.
        new = 2 if number == 0 else 1
        report = json.loads((pipeline.workdir / "summary.json").read_text())
        assert report["objects_read"] == report["objects_published"] == new
        assert report["bytes_moved"] == new * SIZE
        assert pipeline.is_right

        began = time.monotonic()
        status, text = pipeline.run("--summary", "summary.json")
        seconds["here"].append(time.monotonic() - began)
        assert status == 0, text
        assert "Nothing to be done" in text
        assert "Mounted" not in text
        assert json.loads((pipeline.workdir / "summary.json").read_text())["objects_read"] == 0

        if number % 5 == 0:
            (local / f"inputs/{month}.bin").write_bytes(b"content")
            subprocess.run(by_hand, cwd=local, check=True, capture_output=True)
        began = time.monotonic()
        done = subprocess.run(by_hand, cwd=local, check=True, capture_output=True, text=True)
        seconds["local"].append(time.monotonic() - began)
        assert "Nothing to be done" in done.stderr
    ratio = statistics.median(map(truediv, seconds["here"], seconds["local"]))
    print(f"A run with nothing to do: {ratio:.2f} times Snakemake's own on local files.")
    assert ratio < (NO_OP if len(tries) >= 10 else NO_OP_OF_FEWER)
