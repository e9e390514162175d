"""The real workflow on real data, run once and looked at by many tests."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from conftest import ROOT, Bucket, MakeBucket, snakemake
from demo import COPY_BELOW, SAMPLES, iris_samples
from s3fuse.embedded_server import Server
from stores import STORES, NotInstalled, Start, StoreUnderTest


def demo_config(inputs: str, results: str) -> dict[str, object]:
    """The configuration of the demo, for other places."""
    text = (ROOT / "config/config.yaml").read_text()
    text = text.replace("s3://climate-data", inputs).replace("s3://climate-results", results)
    config = yaml.safe_load(text)
    assert isinstance(config, dict)
    return config


@dataclass
class Project:
    """A working directory with a configuration of its own, and a store to use."""

    workdir: Path
    environment: dict[str, str]

    def configure(self, config: dict[str, object]) -> None:
        (self.workdir / "config").mkdir(parents=True, exist_ok=True)
        (self.workdir / "config/config.yaml").write_text(yaml.safe_dump(config))

    def snakemake(
        self, *arguments: str, timeout: float = 240, profile: str | None = "profiles/s3"
    ) -> subprocess.CompletedProcess[str]:
        words = [COPY_BELOW, *arguments]
        if "--snakefile" not in words:
            words += ["--snakefile", ROOT / "Snakefile"]
        if profile:
            words += ["--profile", ROOT / profile]
        return snakemake(self.workdir, *words, environment=self.environment, timeout=timeout)


@dataclass
class Demo:
    """The demo after its first run."""

    project: Project
    inputs: Bucket
    results: Bucket
    first: subprocess.CompletedProcess[str]

    @property
    def config(self) -> dict[str, object]:
        return demo_config(str(self.inputs.url), str(self.results.url))

    def elsewhere(self, workdir: Path) -> Project:
        """As from a fresh clone: the same buckets, and nothing local."""
        project = Project(workdir, self.project.environment)
        project.configure(self.config)
        return project


@pytest.fixture(scope="session")
def demo(server: Server, make_bucket: MakeBucket, tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """Run the demo on buckets, once."""
    inputs, results = make_bucket(), make_bucket()
    for name in iris_samples():
        inputs.upload(SAMPLES / name, name)
    project = Project(tmp_path_factory.mktemp("demo"), server.environment)
    made = Demo(project, inputs, results, subprocess.CompletedProcess([], 1))
    project.configure(made.config)
    made.first = project.snakemake()
    assert made.first.returncode == 0, made.first.stderr
    return made


@pytest.fixture(scope="session", params=STORES)
def any_store(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[StoreUnderTest]:
    """Each S3 store in turn; the table in `stores` says which of them run when."""
    start: Start = request.param
    with ExitStack() as stack:
        try:
            connection = stack.enter_context(start(tmp_path_factory.mktemp(start.__name__)))
        except NotInstalled as reason:
            pytest.skip(str(reason))
        yield StoreUnderTest(start.__name__, connection)
