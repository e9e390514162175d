"""A cluster for the session, and runs of Snakemake on it."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT, Bucket, MakeBucket, snakemake_command
from demo import COPY_BELOW
from reliability.runs import left_in
from s3fuse.embedded_server import Server
from slurm.cluster import Cluster, cluster

SNAKEFILE = Path(__file__).with_name("sums.smk")
NAMES = ("one", "two")
#: Larger than what is copied.
SIZE = 3_000_000
#: What this cluster needs beyond the profile: it has no accounting, and answers at
#: once; its nodes have their disk where the temp directory is.
OPTIONS: tuple[str | Path, ...] = (
    *("--profile", ROOT / "profiles/slurm"),
    COPY_BELOW,
    *("--slurm-status-command", "squeue"),
    *("--slurm-init-seconds-before-status-checks", "3"),
    *("--seconds-between-status-checks", "3"),
    *("--slurm-no-account", "--slurm-keep-successful-logs"),
    *("--remote-job-local-storage-prefix", "$TMPDIR/copies"),
    # The time at which a cancelled job becomes a failed run.
    *("--retries", "0"),
)


@pytest.fixture(scope="session")
def slurm() -> Iterator[Cluster]:
    # Paths of sockets must be short.
    with (
        tempfile.TemporaryDirectory(prefix="slurm-", dir="/tmp") as base,
        cluster(Path(base)) as made,
    ):
        yield made


@dataclass(frozen=True)
class Inputs:
    """Objects to sum up, and what their sums are."""

    bucket: Bucket
    sums: dict[str, bytes]


def fill(bucket: Bucket, size: int) -> Inputs:
    """Write objects of so many bytes."""
    sums = {}
    for name in NAMES:
        content = random.Random(name).randbytes(size)
        bucket.write(f"{name}.bin", content)
        sums[f"{name}.txt"] = f"{hashlib.sha256(content).hexdigest()}  -\n".encode()
    return Inputs(bucket, {**sums, "total.txt": b"".join(sums.values())})


@pytest.fixture(scope="session")
def inputs(make_bucket: MakeBucket) -> Inputs:
    return fill(make_bucket(), SIZE)


@dataclass
class Run:
    """A working directory, from which Snakemake is run on the cluster again and again."""

    cluster: Cluster
    server: Server
    inputs: Inputs
    results: Bucket
    workdir: Path
    pauses: dict[str, float] = field(default_factory=dict)
    minutes: int = 60
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0

    def start(self, *options: str) -> None:
        """Start Snakemake."""
        config: dict[str, Any] = {
            "inputs": str(self.inputs.bucket.url),
            "results": str(self.results.url),
            "names": NAMES,
            "minutes": self.minutes,
        }
        self.workdir.mkdir(exist_ok=True)
        (self.workdir / "config.json").write_text(json.dumps(config))
        for name in NAMES:
            # No parameter, for which Snakemake would run the job again.
            (self.workdir / f"pause-{name}").write_text(str(self.pauses.get(name, 0)))
        self.starts += 1
        command = [*OPTIONS, "--snakefile", SNAKEFILE, "--configfile", "config.json", *options]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                snakemake_command(*command),
                cwd=self.workdir,
                env={**os.environ, **self.cluster.environment, **self.server.environment},
                stdout=log,
                stderr=log,
            )

    def wait(self) -> int:
        """Wait for its end, and return its exit status."""
        assert self.process is not None
        return self.process.wait(240)

    @property
    def log(self) -> Path:
        return self.workdir / f"run-{self.starts}.log"

    @property
    def output(self) -> str:
        return self.log.read_text()

    @property
    def jobs(self) -> list[str]:
        """The numbers of the Slurm jobs of the latest start."""
        return re.findall(r"SLURM jobid (\d+)", self.output) if self.starts else []

    @property
    def job_logs(self) -> dict[str, str]:
        """What the Slurm jobs of all starts said, by their numbers."""
        logs = (self.workdir / ".snakemake/slurm_logs").rglob("*.log")
        return {log.stem: log.read_text() for log in logs}

    @property
    def is_right(self) -> bool:
        """Whether the bucket holds the right results and nothing else."""
        return self.results.contents() == self.inputs.sums

    def planned(self) -> Counter[str]:
        """How many jobs of each rule the latest start has planned."""
        text = self.output
        if "Job stats:" not in text:
            return Counter()
        table = text.split("Job stats:")[1].split("total   ")[0]
        return Counter({n: int(c) for n, c in re.findall(r"^(\w+) +(\d+)$", table, re.MULTILINE)})


MakeRun = Callable[..., Run]


@pytest.fixture
def make_run(
    slurm: Cluster, server: Server, inputs: Inputs, make_bucket: MakeBucket, tmp_path: Path
) -> Iterator[MakeRun]:
    """Make runs, each with results of its own."""
    made: list[Run] = []

    def make(**settings: Any) -> Run:
        run = Run(slurm, server, inputs, make_bucket(), tmp_path / f"run{len(made)}", **settings)
        made.append(run)
        return run

    yield make
    for run in made:
        if run.process and run.process.poll() is None:
            run.process.kill()
            run.process.wait()


@pytest.fixture(autouse=True)
def _nothing_left(slurm: Cluster, server: Server, tmp_path: Path) -> Iterator[None]:
    """After each test, whatever was broken in it, the next job of ours cleans its node."""
    yield
    slurm.cancel_all()
    slurm.wait_until_idle()
    for node in slurm.nodes:
        slurm.ask("srun", "--chdir", str(tmp_path), "-w", node.name, *next_job())
    slurm.wait_until_idle()
    slurm.assert_unmounted()
    for node in slurm.nodes:
        assert left_in(node.disk) == [], f"{node.name} has files of ours"
        assert not list(node.disk.glob("copies/*/run-*")), f"{node.name} has folders of jobs"


def next_job() -> list[str]:
    """A job of ours that does nothing by itself."""
    code = """
import os
from pathlib import Path
from s3fuse.mount.sweep import sweep
from s3fuse.node.directories import default_mount_root
from s3fuse.node.run_directory import RunDirectory
sweep(default_mount_root())
for prefix in Path(os.environ["TMPDIR"], "copies").glob("*"):
    RunDirectory(prefix).remove()
"""
    return [sys.executable, "-c", code]
