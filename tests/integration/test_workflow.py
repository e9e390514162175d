"""The workflow of the demo, end to end."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import iris
import netCDF4
import numpy as np
import pytest
import yaml

from conftest import (
    ROOT,
    WITHOUT_DEVICE,
    MakeBucket,
    daemons,
    mounted,
    output_of,
    snakemake_command,
)
from demo import COPY_BELOW
from integration.conftest import SAMPLES, Demo, Project, demo_config
from s3fuse.urls import S3Url

pytestmark = pytest.mark.fuse

DATASETS = ["a1b", "a1b_global", "e1", "e1_global", "sea_ice"]
STEPS = ["annual_mean", "anomaly", "climatology", "series"]
RESULTS = sorted(
    [f"{step}/{dataset}.nc" for step in STEPS for dataset in DATASETS]
    + [f"figures/map_{dataset}.{kind}" for dataset in DATASETS for kind in ("png", "pdf")]
    + ["figures/series.png", "figures/series.pdf", "record.html"]
)


def jobs_of(text: str) -> dict[str, int]:
    """The table of jobs that Snakemake prints first; empty when there is nothing to do."""
    if "Nothing to be done" in text:
        return {}
    table = text.split("Job stats:")[1].split("total")[0]
    return {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", table, re.MULTILINE)}


def assert_equal(one: Path, other: Path) -> None:
    """Compare two results: cubes by all they hold, figures by their being there."""
    if one.suffix in (".png", ".pdf", ".html"):
        assert min(one.stat().st_size, other.stat().st_size) > 10_000
        return
    (here,), (there,) = iris.load(one), iris.load(other)
    for cube in (here, there):
        # When it was made, and of which objects or files.
        assert cube.attributes.pop("history")
        assert cube.attributes.pop("source_objects")
    assert here.metadata == there.metadata, one
    assert here.coords() == there.coords(), one
    assert here.dtype == there.dtype, one
    np.testing.assert_array_equal(here.data, there.data, err_msg=str(one))
    assert np.ma.is_masked(here.data) == np.ma.is_masked(there.data)


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="a namespace of mounts needs root")
def test_without_the_device_the_results_are_equal(
    demo: Demo, make_bucket: MakeBucket, tmp_path: Path
) -> None:
    results = make_bucket()
    project = Project(tmp_path, demo.project.environment)
    project.configure(demo_config(str(demo.inputs.url), str(results.url)))
    words = ["--snakefile", ROOT / "Snakefile", "--profile", ROOT / "profiles/s3", COPY_BELOW]
    run = subprocess.run(
        [*WITHOUT_DEVICE, *snakemake_command(*words)],
        cwd=tmp_path,
        env={**os.environ, **project.environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "copied instead of mounted: /dev/fuse is missing" in output_of(run)
    assert "Mounted" not in output_of(run)
    for name in RESULTS:
        assert_equal(demo.results.folder / name, results.folder / name)


def assert_nothing_left() -> None:
    assert mounted() == []
    assert [name for name in daemons() if name.startswith("s3fs")] == []


def test_every_result_is_in_the_bucket_and_nothing_is_left(demo: Demo) -> None:
    assert demo.results.keys() == RESULTS
    assert_nothing_left()
    assert not list((demo.project.workdir / ".snakemake/storage").rglob("*.nc"))


def test_large_files_were_mounted_and_the_bucket_only_once(demo: Demo) -> None:
    log = output_of(demo.first)
    assert log.count(f"Mounted {demo.inputs.url} read-only.") == 1
    assert log.count(f"Unmounted {demo.inputs.url}.") == 1
    assert f"Mounted {demo.results.url}" not in log


def test_results_name_their_sources_and_steps(demo: Demo) -> None:
    sources = [f"{demo.inputs.url}/E1_north_america.nc"]
    for step in STEPS:
        with netCDF4.Dataset(demo.results.folder / f"{step}/e1.nc") as file:
            history, objects = file.history.split("\n"), file.source_objects.split("\n")
        steps = [line.rpartition("of e1")[0].split()[-1] for line in history if " of e1" in line]
        assert steps == ["annual_mean", step][: 1 + (step != "annual_mean")]
        assert [line.split(" ETag ")[0] for line in objects] == sources
        for line in objects:
            name, etag = line.split(" ETag ")
            url = S3Url.parse(name)
            assert demo.inputs.store.head(url).etag == etag  # type: ignore[union-attr]


@pytest.mark.slow
def test_results_equal_those_of_a_run_on_local_folders(
    demo: Demo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = Project(tmp_path, {})
    config = demo_config(str(SAMPLES), "results")
    local.configure(config)
    run = local.snakemake()
    assert run.returncode == 0, run.stderr
    assert "Mounted" not in output_of(run)
    for name in RESULTS:
        assert_equal(demo.results.folder / name, tmp_path / "results" / name)
    # Without a server, nothing of S3 is needed for a dry run either.
    assert "Nothing to be done" in output_of(local.snakemake("--dry-run"))


def test_nothing_to_be_done_mounts_nothing(demo: Demo) -> None:
    run = demo.project.snakemake()
    assert run.returncode == 0
    assert "Nothing to be done" in output_of(run)
    assert "Mounted" not in output_of(run)


def test_a_fresh_clone_finds_the_results(demo: Demo, tmp_path: Path) -> None:
    clone = demo.elsewhere(tmp_path)
    run = clone.snakemake()
    assert run.returncode == 0
    assert "Nothing to be done" in output_of(run)
    assert "Mounted" not in output_of(run)


def test_a_dry_run_is_exact_without_any_mount(
    demo: Demo, make_bucket: MakeBucket, tmp_path: Path
) -> None:
    project = Project(tmp_path, demo.project.environment)
    project.configure(demo_config(str(demo.inputs.url), str(make_bucket().url)))
    run = project.snakemake("--dry-run")
    assert run.returncode == 0, run.stderr
    assert jobs_of(output_of(run)) == {
        "mount": 1,
        "annual_mean": 5,
        "climatology": 5,
        "anomaly": 5,
        "series": 5,
        "map_figure": 5,
        "series_figure": 1,
        "record": 1,
        "all": 1,
    }
    assert "Mounted" not in output_of(run)
    assert not list(tmp_path.rglob("@folder"))
    assert_nothing_left()


@pytest.mark.parametrize("clone", [False, True], ids=["same directory", "fresh clone"])
def test_one_missing_output_runs_what_needs_it_and_no_more(
    demo: Demo, make_bucket: MakeBucket, tmp_path: Path, clone: bool
) -> None:
    # On a copy of the results, as other tests look at them too.
    results = make_bucket()
    results.upload(demo.results.folder)
    project = Project(tmp_path, demo.project.environment)
    project.configure(demo_config(str(demo.inputs.url), str(results.url)))
    if not clone:
        shutil.copytree(demo.project.workdir / ".snakemake", tmp_path / ".snakemake")
    results.remove("annual_mean/e1.nc")
    run = project.snakemake(f".snakemake/storage/s3/run-0/{results.name}/annual_mean/e1.nc")
    assert run.returncode == 0, run.stderr
    assert jobs_of(output_of(run)) == {"mount": 1, "annual_mean": 1}
    assert (results.folder / "annual_mean/e1.nc").exists()
    # What depends on it follows, and nothing else; the bucket is not needed again.
    run = project.snakemake("--dry-run")
    assert jobs_of(output_of(run)) == {
        "climatology": 1,
        "anomaly": 1,
        "series": 1,
        "map_figure": 1,
        "series_figure": 1,
        "record": 1,
        "all": 1,
    }
    assert_nothing_left()


def test_the_report_shows_every_figure_with_its_caption(demo: Demo, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    run = demo.project.snakemake("--report", str(page))
    assert run.returncode == 0, run.stderr
    text = page.read_text()
    for dataset in DATASETS:
        assert f"map_{dataset}.png" in text
    assert "weighted by the area of the grid cells" in text
    assert_nothing_left()


def test_it_starts_from_the_inner_snakefile_too(demo: Demo) -> None:
    run = demo.project.snakemake("--snakefile", str(ROOT / "workflow/Snakefile"), "--dry-run")
    assert "Nothing to be done" in output_of(run), run.stderr


@pytest.mark.slow
@pytest.mark.parametrize("access", ["mount", "copy"])
def test_either_access_gives_the_same(
    demo: Demo, make_bucket: MakeBucket, tmp_path: Path, access: str
) -> None:
    results = make_bucket()
    config = demo_config(str(demo.inputs.url), str(results.url))
    config["datasets"] = {
        name: entry
        for name, entry in config["datasets"].items()  # type: ignore[attr-defined]
        if name == "e1_global"
    }
    project = Project(tmp_path, demo.project.environment)
    project.configure(config)
    run = project.snakemake("--storage-s3fuse-access", access)
    assert run.returncode == 0, run.stderr
    assert (f"Mounted {demo.inputs.url}" in output_of(run)) == (access == "mount")
    name = "anomaly/e1_global.nc"
    (ours,), (first,) = iris.load(results.folder / name), iris.load(demo.results.folder / name)
    np.testing.assert_array_equal(ours.data, first.data)
    assert_nothing_left()


def test_a_changed_setup_rule_neither_runs_nor_hides_what_is_missing(
    demo: Demo, tmp_path: Path
) -> None:
    # Snakemake does not look at jobs behind one whose code has changed, and
    # the setup rule stands before all others.
    shutil.copytree(ROOT / "workflow", tmp_path / "workflow")
    project = demo.elsewhere(tmp_path)
    shutil.copytree(demo.project.workdir / ".snakemake", tmp_path / ".snakemake")
    rule = tmp_path / "workflow/rules/mounts.smk"
    text = rule.read_text()
    rule.write_text(text.replace("(wildcards.bucket)", "(str(wildcards.bucket))"))
    assert rule.read_text() != text
    run = project.snakemake("--snakefile", "workflow/Snakefile", "--dry-run")
    assert jobs_of(output_of(run)) == {}
    before = demo.results.contents()
    demo.results.remove("figures/map_e1.png")
    run = project.snakemake("--snakefile", "workflow/Snakefile", "--dry-run")
    for key in ("figures/map_e1.png", "record.html"):
        demo.results.write(key, before[key])
    assert jobs_of(output_of(run)) == {"map_figure": 1, "record": 1, "all": 1}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_example_of_products(demo: Demo, make_bucket: MakeBucket, tmp_path: Path) -> None:
    results = make_bucket()
    text = (ROOT / "config/products.yaml").read_text()
    text = text.replace("s3://climate-data", str(demo.inputs.url))
    config = yaml.safe_load(text.replace("s3://climate-results", str(results.url)))
    project = Project(tmp_path, demo.project.environment)
    project.configure(config)
    run = project.snakemake(timeout=600)
    assert run.returncode == 0, run.stderr
    made = {key.removeprefix("products/") for key in results.contents()}
    wanted = {
        f"{p}/{name}.nc" for name, entry in config["datasets"].items() for p in entry["products"]
    }
    assert made >= {*wanted, "ensemble/glosea4.nc"}
    # Ten years of months have come down to twelve, and members to two cubes.
    assert iris.load_cube(results.folder / "products/monthly_climatology/sea_ice.nc").shape[0] == 12
    assert len(iris.load(results.folder / "products/ensemble/glosea4.nc")) == 2


@pytest.mark.parametrize(
    ("products", "sentence"),
    [
        ({"trends": None}, "'trends' was unexpected"),
        ({"percentiles": {"percents": [101]}}, "101 is greater than the maximum of 100"),
        ({"regridded": {"step": 2, "scheme": "cubic"}}, "One of linear, nearest, area_weighted."),
    ],
)
def test_products_that_are_none(
    demo: Demo, tmp_path: Path, products: dict[str, object], sentence: str
) -> None:
    project = Project(tmp_path, demo.project.environment)
    config = demo.config
    config["datasets"]["e1"]["products"] = products  # type: ignore[index]
    project.configure(config)
    run = project.snakemake("--dry-run")
    assert run.returncode == 2
    assert sentence in run.stderr
    assert "Traceback" not in run.stderr
