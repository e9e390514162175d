"""The workflow of the demo on a cluster whose nodes see nothing of the head's mounts."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from conftest import MakeBucket, mounted, output_of
from integration.conftest import Demo, Project, demo, demo_config
from integration.test_workflow import RESULTS, assert_equal
from slurm.cluster import Cluster
from slurm.conftest import OPTIONS
from watching import Watching

__all__ = ["demo"]

pytestmark = [
    pytest.mark.fuse,
    pytest.mark.slurm,
    pytest.mark.timeout(900),
]


class Watch(Watching):
    """Notes what is mounted where, while it lasts."""

    interval = 0.1

    def __init__(self, cluster: Cluster) -> None:
        super().__init__()
        self.seen: dict[str, set[str]] = {"head": set(), **{n.name: set() for n in cluster.nodes}}
        self._cluster = cluster

    def look(self) -> None:
        self.seen["head"] |= {line.split()[1] for line in mounted()}
        for node in self._cluster.nodes:
            self.seen[node.name] |= {line.split()[1] for line in node.mounted()}


def test_the_demo_on_two_nodes(
    demo: Demo, slurm: Cluster, make_bucket: MakeBucket, tmp_path: Path
) -> None:
    results = make_bucket()
    project = Project(tmp_path, {**demo.project.environment, **slurm.environment})
    project.configure(demo_config(str(demo.inputs.url), str(results.url)))

    with Watch(slurm) as watch:
        run = project.snakemake(*map(str, OPTIONS), profile=None, timeout=840)

    assert run.returncode == 0, run.stderr[-3000:]
    assert results.keys() == RESULTS
    for name in RESULTS:
        assert_equal(demo.results.folder / name, results.folder / name)
    slurm.assert_unmounted()
    # Every job mounts for itself, and nobody else sees it.
    assert watch.seen["head"] == set()
    assert watch.seen["n1"]
    assert watch.seen["n2"]
    assert not watch.seen["n1"] & watch.seen["n2"]
    # A second run finds nothing to do, and asks no node.
    again = project.snakemake(*map(str, OPTIONS), profile=None)
    assert "Nothing to be done" in output_of(again)
    assert "SLURM jobid" not in output_of(again)


@pytest.mark.parametrize("location", ["results", "files"])
def test_local_folders_are_refused_in_one_sentence(
    slurm: Cluster, tmp_path: Path, demo: Demo, location: str
) -> None:
    project = Project(tmp_path, {**demo.project.environment, **slurm.environment})
    config = demo_config(
        "data" if location == "files" else str(demo.inputs.url),
        "results" if location == "results" else str(demo.results.url),
    )
    project.configure(config)
    run: subprocess.CompletedProcess[str] = project.snakemake(*map(str, OPTIONS), profile=None)
    assert run.returncode == 2
    assert "is on this machine; jobs on other nodes need s3:// locations." in run.stderr
    assert "Traceback" not in run.stderr


def test_the_settings_for_kubernetes_are_accepted(demo: Demo, tmp_path: Path) -> None:
    """As far as a dry run goes; there is no cluster to run it on."""
    project = Project(tmp_path, demo.project.environment)
    project.configure(demo_config(str(demo.inputs.url), str(demo.results.url)))
    run = project.snakemake("--dry-run", profile="profiles/kubernetes")
    assert run.returncode == 0, run.stderr
    assert "Nothing to be done" in output_of(run)
