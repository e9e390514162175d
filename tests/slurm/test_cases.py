"""Jobs that end before their time: nothing is lost, and nothing is computed twice.

Each case is tried ten times (`make test-slurm TRIES=3` for less), most of them at
the same time.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Sequence
from dataclasses import replace

import psutil
import pytest

from conftest import MakeBucket
from fault_proxy import Proxy
from s3fuse.embedded_server import Server
from slurm.cluster import Cluster, SlurmNode, wait_for
from slurm.conftest import NAMES, SIZE, MakeRun, Run, fill, next_job

pytestmark = [pytest.mark.fuse, pytest.mark.slurm, pytest.mark.timeout(900)]


def heal(runs: Sequence[Run]) -> None:
    """Run each once more, with nothing broken: it computes what is missing, and no more."""
    for run in runs:
        run.cluster.cancel_all()
    runs[0].cluster.wait_until_idle()
    missing = {}
    for run in runs:
        published = run.results.contents()
        # What is there is right, and whole.
        assert published.items() <= run.inputs.sums.items()
        missing[run.workdir] = len([name for name in NAMES if f"{name}.txt" not in published])
        run.pauses = {}
        run.minutes = 60
        run.start()
    for run in runs:
        assert run.wait() == 0, run.output[-3000:]
        assert run.is_right
        assert run.planned()["sum"] == missing[run.workdir]


def started(runs: Sequence[Run]) -> list[Run]:
    """Start all, and wait until each has a job on a node."""
    for run in runs:
        run.start()
    for run in runs:
        wait_for(lambda run=run: run.jobs, 120, "nothing was submitted")
    return list(runs)


def test_cancelled_at_a_random_moment(slurm: Cluster, make_run: MakeRun, tries: range) -> None:
    runs = started([make_run(pauses={"two": 6.0}) for _ in tries])
    chance = random.Random(1)
    for run in runs:
        time.sleep(chance.uniform(0.0, 1.5))
        for job in run.jobs[: chance.randint(1, 2)]:
            slurm.ask("scancel", job)
    for run in runs:
        assert run.wait() != 0
    heal(runs)


def test_time_limit(slurm: Cluster, make_run: MakeRun, tries: range) -> None:
    # Slurm counts minutes, of which the start of a job must leave some on two cores.
    runs = []
    for _ in tries:
        runs += started([make_run(pauses={"two": 300.0}, minutes=1)])
        time.sleep(7)
    for run in runs:
        assert run.wait() != 0
        assert "one.txt" in run.results.contents()
        assert "two.txt" not in run.results.contents()
    # By themselves, with no help of the next job.
    slurm.wait_until_idle()
    slurm.assert_unmounted()
    heal(runs)


def test_killed_step(slurm: Cluster, make_run: MakeRun, tries: range) -> None:
    runs = started([make_run(pauses=dict.fromkeys(NAMES, 8.0)) for _ in tries])
    chance = random.Random(2)
    for run in runs:
        time.sleep(chance.uniform(0.0, 1.5))
        for job in run.jobs[: chance.randint(1, 2)]:
            slurm.ask("scancel", "--full", "--signal=KILL", job)
    for run in runs:
        assert run.wait() != 0
    heal(runs)


def test_interrupted_snakemake(slurm: Cluster, make_run: MakeRun, tries: range) -> None:
    """Ctrl-C cancels the jobs."""
    runs = started([make_run(pauses={"two": 60.0}) for _ in tries])
    chance = random.Random(3)
    for run in runs:
        time.sleep(chance.uniform(0.0, 1.5))
        assert run.process is not None
        run.process.send_signal(2)
    for run in runs:
        assert run.wait() != 0
    slurm.wait_until_idle(60)
    heal(runs)


# Slurm takes most of a minute to give up the jobs of a node.
@pytest.mark.timeout(2400)
def test_a_node_that_dies_and_comes_back(slurm: Cluster, make_run: MakeRun, tries: range) -> None:
    chance = random.Random(4)
    for _ in tries:
        runs = started([make_run(pauses=dict.fromkeys(NAMES, 4.0))])
        wait_for(lambda: slurm.states() == ["mix"] * 2, 60, "not both nodes have jobs")
        time.sleep(chance.uniform(0.0, 8.0))
        node = chance.choice(slurm.nodes)
        node.die()
        time.sleep(1)
        node.boot()
        # Slurm has put the jobs of the node into its queue again, or given them up.
        for run in runs:
            run.wait()
        heal(runs)


def test_one_job_ends_while_another_on_its_node_reads(
    slurm: Cluster, make_run: MakeRun, tries: range
) -> None:
    # Both see the same folders, in which each has its own.
    on_one_node = ("--default-resources", "slurm_extra='--nodelist=n1'", "mem_mb=100")
    runs = [make_run(pauses={"one": 0.5, "two": 8.0}) for _ in tries]
    for run in runs:
        run.start(*on_one_node)
    for run in runs:
        assert run.wait() == 0, run.output[-3000:]
        assert run.is_right
        assert [log.count("Mounted s3://") for log in run.job_logs.values()] == [1, 1]
    slurm.assert_unmounted()


def test_a_group_mounts_once(slurm: Cluster, make_run: MakeRun, tries: range) -> None:
    runs = [make_run(pauses={"two": 1.0}) for _ in tries]
    for run in runs:
        run.start("--groups", "sum=sums", "--group-components", "sums=2")
    for run in runs:
        assert run.wait() == 0, run.output[-3000:]
        assert run.is_right
        (log,) = run.job_logs.values()
        assert log.count("Mounted s3://") == 1
        assert len(set(re.findall(r"Mounted (s3://\S+)", log))) == 1


def test_jobs_of_a_node_share_what_has_come(
    slurm: Cluster, proxy: Proxy, make_run: MakeRun, make_bucket: MakeBucket
) -> None:
    """Also of a job that was killed while it read."""
    on_one_node = ("--default-resources", "slurm_extra='--nodelist=n1'", "mem_mb=100")
    inputs = fill(make_bucket(), SIZE)
    killed, first, second = (make_run() for _ in range(3))
    for run in (killed, first, second):
        run.inputs = inputs
        run.server = replace(run.server, endpoint_url=proxy.endpoint_url)
    killed.pauses = dict.fromkeys(NAMES, 60.0)
    killed.start(*on_one_node)
    node = node_of(slurm, killed)
    wait_for(node.mounted, 60, "nothing was mounted")
    wait_for(lambda: proxy.counts.read > SIZE // 2, 60, "nothing was read")
    slurm.ask("scancel", "--full", "--signal=KILL", *killed.jobs)
    killed.wait()
    slurm.wait_until_idle()
    moved = proxy.counts.read
    for run in (first, second):
        run.start(*on_one_node)
        assert run.wait() == 0, run.output[-3000:]
        assert run.is_right
    assert proxy.counts.read <= 1.02 * len(NAMES) * SIZE + SIZE // 10
    assert moved > 0


@pytest.mark.parametrize("size", [SIZE, 4 * SIZE], ids=["already here", "still to come"])
def test_an_input_that_is_replaced_while_a_job_reads_it(
    slurm: Cluster, server: Server, make_run: MakeRun, make_bucket: MakeBucket, size: int
) -> None:
    """A job reads on what has come; what has not cannot be had any more."""
    run = make_run(pauses={"one": 6.0, "two": 0.0})
    run.inputs = fill(make_bucket(), size)
    bucket = run.inputs.bucket
    run.start()
    node = node_of(slurm, run)
    wait_for(node.mounted, 60, "nothing was mounted")
    wait_for(lambda: any("localrule sum" in log for log in run.job_logs.values()), 60, "no job")
    time.sleep(1)
    bucket.write("one.bin", b"another content" * (size // 15))
    status = run.wait()
    if size == SIZE:
        assert status == 0
        assert run.results.contents() == run.inputs.sums
        return
    assert status != 0
    assert "one.txt" not in run.results.contents()
    said = "".join(run.job_logs.values())
    assert f"{bucket.url}/one.bin was replaced or deleted after this run was planned" in said


def test_keys_are_in_no_command_line_and_no_record(slurm: Cluster, make_run: MakeRun) -> None:
    run = make_run(pauses={"one": 5.0})
    run.start()
    secret = run.server.secret_key
    seen = []
    while run.process is not None and run.process.poll() is None:
        for process in psutil.process_iter(["cmdline"]):
            seen.append(" ".join(process.info["cmdline"] or ()))
        for job in slurm.jobs():
            seen.append(slurm.ask("scontrol", "show", "job", job))
            seen.append(slurm.ask("scontrol", "write", "batch_script", job, "-"))
        time.sleep(0.3)
    assert run.wait() == 0
    assert any("JobId=" in text for text in seen)
    assert any("slurm-jobstep" in text for text in seen)
    seen += [run.output, *run.job_logs.values()]
    for log in (slurm.base / "log").iterdir():
        seen.append(log.read_text(errors="replace"))
    assert not [text for text in seen if secret in text]


def test_what_a_killed_job_leaves_is_cleaned_by_the_next(
    slurm: Cluster, make_run: MakeRun, tries: range
) -> None:
    run = make_run(pauses=dict.fromkeys(NAMES, 60.0))
    run.start()
    node = node_of(slurm, run)
    wait_for(node.mounted, 60, "nothing was mounted")
    slurm.ask("scancel", "--full", "--signal=KILL", *run.jobs)
    run.wait()
    slurm.wait_until_idle()
    if slurm.tracks_by_cgroup:
        assert node.daemons() == []
    slurm.ask("srun", "-w", node.name, *next_job())
    assert node.mounted() == []
    assert not list(node.disk.glob("copies/*/run-*"))
    heal([run])


def node_of(slurm: Cluster, run: Run) -> SlurmNode:
    """A node that has a job of a run."""
    wait_for(lambda: run.jobs and slurm.jobs(), 120, "nothing runs")
    name = slurm.ask("squeue", "-h", "-j", slurm.jobs()[0], "-o", "%N")
    return next(node for node in slurm.nodes if node.name == name)
