"""Use by others: a workflow that only installs the wheel, and one that this is a module of."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from email.parser import Parser
from pathlib import Path
from zipfile import ZipFile

import iris
import numpy as np
import pytest
import yaml

from conftest import ROOT, Bucket, MakeBucket, mounted, output_of, snakemake
from demo import SAMPLES
from s3fuse import __version__
from s3fuse.embedded_server import Server

pytestmark = [pytest.mark.fuse, pytest.mark.slow]

HERE = Path(__file__).parent
PAGE = (ROOT / "docs/how-to/own-workflow.md").read_text()


def run(*words: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*map(str, words)], capture_output=True, text=True, check=False, **options
    )  # type: ignore[call-overload]
    assert done.returncode == 0, output_of(done)
    return done  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, as it would be published."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--wheel", "--outdir", folder, ROOT)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def fresh(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment with Snakemake and the wheel."""
    folder = tmp_path_factory.mktemp("fresh")
    run(sys.executable, "-m", "venv", folder)
    run(folder / "bin/python", "-m", "pip", "install", "--quiet", "snakemake", wheel)
    return folder / "bin"


def environment(server: Server) -> dict[str, str]:
    return {
        name: value for name, value in os.environ.items() if name != "PYTHONPATH"
    } | server.environment


def test_the_metadata_of_the_wheel(wheel: Path) -> None:
    run(sys.executable, "-m", "twine", "check", "--strict", wheel)
    with ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = [name for name in names if name.endswith("METADATA")]
        found = Parser().parsestr(archive.read(metadata).decode())
    assert found["Name"] == "snakemake-storage-plugin-s3fuse"
    assert found["Version"] == __version__
    assert found["License-Expression"] == "BSD-3-Clause"
    tops = {name.split("/")[0] for name in names if ".dist-info" not in name}
    assert tops == {"s3fuse", "snakemake_on_schedule", "snakemake_storage_plugin_s3fuse"}


def test_the_plugin_alone(
    fresh: Path, server: Server, make_bucket: MakeBucket, tmp_path: Path
) -> None:
    assert f"```python\n{(HERE / 'plugin.smk').read_text()}```" in PAGE
    assert "s3fuse storage plugin settings" in run(fresh / "snakemake", "--help").stdout
    inputs, results = make_bucket(), make_bucket()
    inputs.write("a.txt", "one\ntwo\n")
    text = (HERE / "plugin.smk").read_text()
    text = text.replace("my-bucket", inputs.name).replace("my-results", results.name)
    (tmp_path / "Snakefile").write_text(text)
    for access in ("mount", "copy"):
        words = ("--cores", "1", "--forceall", "--storage-s3fuse-access", access)
        done = run(fresh / "snakemake", *words, cwd=tmp_path, env=environment(server))
        assert ("Mounted" in output_of(done)) == (access == "mount")
        assert results.contents() == {"lines/a.txt": b"2\n"}
    assert mounted() == []
    # The command and the function come with it, and Iris does not.
    doctor = run(fresh / "s3fuse", "doctor", inputs.url, cwd=tmp_path, env=environment(server))
    assert "no scitools-iris" in doctor.stdout
    code = "import s3fuse, sys\nwith s3fuse.mounted(sys.argv[1]) as path: print(*path.iterdir())"
    listed = run(fresh / "python", "-c", code, inputs.url, cwd=tmp_path, env=environment(server))
    assert listed.stdout.endswith("a.txt\n")
    assert mounted() == []


def test_this_workflow_as_a_module(server: Server, bucket: Bucket, tmp_path: Path) -> None:
    # What the page says is what is tried here.
    (shown,) = re.findall(r"```python\n(module climate:.*?)```", PAGE, re.DOTALL)
    tried = (HERE / "module.smk").read_text()
    words = shown.replace('"path/to/this/project/', 'config["project"] + "/').split()
    assert " ".join(words) in " ".join(tried.split())
    sample = SAMPLES / "E1_north_america.nc"
    bucket.upload(sample, "e1.nc")
    mine = {
        "title": "Mine",
        "files": [f"{bucket.url}/e1.nc"],
        "constraint": "air_temperature",
        "baseline": [1860, 1890],
    }
    climate = {"results": "results", "datasets": {"mine": mine}}
    config = {"project": str(ROOT), "climate": climate}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    shutil.copy(HERE / "module.smk", tmp_path / "Snakefile")
    words = ["--profile", ROOT / "profiles/s3"]
    done = snakemake(tmp_path, *words, environment=server.environment)
    assert done.returncode == 0, output_of(done)
    assert (tmp_path / "answer.txt").exists()
    series = iris.load_cube(tmp_path / "results/series/mine.nc")
    assert series.shape == (240,)
    assert np.isfinite(series.data).all()
    assert "rule climate_mount" in output_of(done)
    assert mounted() == []
    again = snakemake(tmp_path, *words, environment=server.environment)
    assert "Nothing to be done" in output_of(again)
