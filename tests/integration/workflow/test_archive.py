"""An archive in the layout of CMIP6: one template, a job for each model, figures of all."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pytest
import yaml

from conftest import ROOT, Bucket, MakeBucket, output_of
from demo import cmip6_samples
from integration.conftest import Project
from s3fuse.embedded_server import Server
from science.test_cmip6 import FOLDERS, expected

SIX = ["BCC-ESM1", "CESM2", "CanESM5", "IPSL-CM6A-LR", "MIROC6", "TaiESM1"]
BROKEN = ["BCC-ESM1", "CESM2", "MIROC6"]
ALL = sorted({key.split("/")[3] for key in cmip6_samples() if "/Amon/" in key})
FIGURES = [
    f"figures/multi_model_cmip6_{figure}.{form}"
    for figure in ("map", "series")
    for form in ("png", "pdf")
]
pytestmark = pytest.mark.skipif(not FOLDERS, reason="esmvaltool-sample-data is not installed")


def configuration(inputs: Bucket, results: Bucket, **facets: Any) -> dict[str, Any]:
    """The configuration of the demo, for other buckets and some models."""
    text = (ROOT / "config/cmip6.yaml").read_text()
    text = text.replace("s3://cmip6/", f"{inputs.url}/")
    config = yaml.safe_load(text)
    config["results"] = str(results.url)
    config["archives"]["cmip6"]["facets"].update(facets)
    assert isinstance(config, dict)
    return config


def upload(bucket: Bucket, *models: str) -> dict[str, list[str]]:
    """Upload the monthly data of models; return the keys of each."""
    keys: dict[str, list[str]] = {}
    for key, path in cmip6_samples().items():
        model = key.split("/")[3]
        if "/Amon/" in key and (model in models or not models):
            bucket.write(key, path.read_bytes())
            keys.setdefault(model, []).append(key)
    return keys


def series_of(results: Bucket, model: str) -> dict[int, float]:
    with netCDF4.Dataset(results.folder / f"models/{model}/series.nc") as file:
        (series,) = file.get_variables_by_attributes(standard_name="air_temperature")
        return dict(zip(file["year"][:].tolist(), series[:].tolist(), strict=True))


def jobs_of(text: str) -> dict[str, int]:
    """The table of jobs that a dry run prints."""
    table = text.partition("Job stats:")[2].partition("total")[0]
    return {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", table, re.MULTILINE)}


@pytest.mark.fuse
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "models",
    [pytest.param(SIX, marks=pytest.mark.slow), pytest.param(ALL, marks=pytest.mark.long)],
    ids=len,
)
def test_broken_models_are_left_out_and_mended_ones_come_back(
    tmp_path: Path, server: Server, bucket: Bucket, make_bucket: MakeBucket, models: list[str]
) -> None:
    results = make_bucket()
    keys = upload(bucket, *models)
    assert sorted(keys) == models
    samples = cmip6_samples()
    # Cut; another quantity below the right name; and too few years.
    cut = keys["BCC-ESM1"][0]
    bucket.write(cut, samples[cut].read_bytes()[:-20000])
    renamed = tmp_path / "renamed.nc"
    renamed.write_bytes(samples[keys["CESM2"][0]].read_bytes())
    with netCDF4.Dataset(renamed, "a") as file:
        file["ta"].standard_name = "relative_humidity"
        file["ta"].long_name = "Relative humidity"
    for key in keys["CESM2"]:
        bucket.write(key, renamed.read_bytes())
    for key in keys["MIROC6"][1:]:
        bucket.remove(key)

    project = Project(tmp_path, server.environment)
    project.configure(configuration(bucket, results))
    run = project.snakemake(timeout=400)
    assert run.returncode == 1, output_of(run)
    # All that could be made is there, and what could not is listed last.
    made = results.keys()
    assert set(FIGURES) < set(made)
    assert "record.html" in made
    heading = f"3 of {len(models)} models of cmip6 are left out, and 0 may be"
    assert heading in run.stderr
    last = run.stderr.rpartition(heading)[2]
    assert [line.partition(":")[0] for line in last.splitlines()[1:4]] == BROKEN
    assert f"{bucket.url}/{cut} cannot be read" in last
    assert "matches the constraint 'air_temperature'; it has: relative_humidity" in last
    assert "years 1950-1979; it covers" in last
    with netCDF4.Dataset(results.folder / "multi_model/cmip6_map.nc") as file:
        used = [name for name in models if name not in BROKEN]
        assert file.models == ", ".join(used)
        assert [line.partition(":")[0] for line in file.models_left_out.splitlines()] == BROKEN
    record = (results.folder / "record.html").read_text()
    assert "cannot be read" in record

    # Nothing has changed: the run fails again, and computes nothing.
    again = project.snakemake("--dry-run")
    assert jobs_of(output_of(again)) == {"complete": 1, "all": 1}
    # As many may be missing as are.
    allowed = configuration(bucket, results)
    allowed["multi_models"]["cmip6"]["allow_missing"] = 3
    project.configure(allowed)
    run = project.snakemake("--rerun-triggers", "mtime", timeout=400)
    assert run.returncode == 0, output_of(run)

    # Mended, only what they touch is made again.
    project.configure(configuration(bucket, results))
    upload(bucket, *BROKEN)
    dry = project.snakemake("--dry-run", "--rerun-triggers", "mtime", "input")
    assert jobs_of(output_of(dry)) == {
        "mount": 1,
        "model": 3,
        "multi_model": 1,
        "multi_model_figure": 1,
        "record": 1,
        "complete": 1,
        "all": 1,
    }, output_of(dry)
    run = project.snakemake(timeout=400)
    assert run.returncode == 0, output_of(run)
    assert json.loads((results.folder / "multi_model/cmip6_left_out.json").read_text()) == {}
    with netCDF4.Dataset(results.folder / "multi_model/cmip6_map.nc") as file:
        assert file.models == ", ".join(models)
        assert not hasattr(file, "models_left_out")


@pytest.mark.long
@pytest.mark.fuse
@pytest.mark.timeout(900)
def test_all_monthly_models(
    tmp_path: Path, server: Server, bucket: Bucket, make_bucket: MakeBucket
) -> None:
    results = make_bucket()
    upload(bucket)
    project = Project(tmp_path, server.environment)
    project.configure(configuration(bucket, results))
    run = project.snakemake(timeout=600)
    assert run.returncode == 0, output_of(run)
    assert len(FOLDERS) == 42
    anomalies: dict[int, list[float]] = {}
    for folder in FOLDERS:
        wanted = expected(folder, 92500)
        found = series_of(results, folder.parents[5].name)
        assert sorted(found) == sorted(wanted)
        np.testing.assert_allclose(
            [found[year] for year in sorted(found)],
            [wanted[year] for year in sorted(wanted)],
            rtol=1e-5,
        )
        normal = np.mean([value for year, value in wanted.items() if 1950 <= year <= 1979])
        for year in range(1950, 2015):
            anomalies.setdefault(year, []).append(wanted[year] - normal)
    with netCDF4.Dataset(results.folder / "multi_model/cmip6_series.nc") as file:
        assert file["year"][:].tolist() == list(anomalies)
        table = np.array(list(anomalies.values()))
        assert table.shape == (65, 42)
        tolerances = {"rtol": 1e-4, "atol": 2e-3}
        np.testing.assert_allclose(file["mean"][:], table.mean(axis=1), **tolerances)
        np.testing.assert_allclose(file["median"][:], np.median(table, axis=1), **tolerances)
        low, high = np.percentile(table, [5, 95], axis=1)
        np.testing.assert_allclose(file["percentile_5"][:], low, **tolerances)
        np.testing.assert_allclose(file["percentile_95"][:], high, **tolerances)
    assert set(FIGURES) < set(results.keys())


@pytest.mark.long
@pytest.mark.fuse
@pytest.mark.timeout(900)
def test_all_daily_models(
    tmp_path: Path, server: Server, bucket: Bucket, make_bucket: MakeBucket
) -> None:
    results = make_bucket()
    for key, path in cmip6_samples().items():
        if "/day/" in key:
            bucket.write(key, path.read_bytes())
    project = Project(tmp_path, server.environment)
    config = configuration(bucket, results, table="day")
    config["archives"]["cmip6"] |= {"baseline": [2000, 2002], "level": {"pressure": "850 hPa"}}
    del config["multi_models"]["cmip6"]["period"]
    project.configure(config)
    run = project.snakemake(timeout=600)
    assert run.returncode == 0, output_of(run)
    made = {key.split("/")[1] for key in results.keys() if key.startswith("models/")}  # noqa: SIM118
    assert len(made) == 34
    with netCDF4.Dataset(results.folder / "multi_model/cmip6_series.nc") as file:
        assert file["number_of_models"][:].min() == 34
    for folder in {path.parent for key, path in cmip6_samples().items() if "/day/" in key}:
        wanted = expected(folder, 85000)
        found = series_of(results, folder.parents[5].name)
        assert found.keys() <= wanted.keys()
        assert len(found) >= 3
        for year, value in found.items():
            assert value == pytest.approx(wanted[year], rel=1e-5)
