"""Data of ten times the memory that a job may use."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import netCDF4
import numpy as np
import pytest

from bench.limits import memory
from conftest import ROOT

LIMIT = 512 * 2**20
#: Fields of 1 MB, ten times the limit together.
SHAPE = (5200, 360, 720)
#: Of years of the same size, three times the limit.
YEARS = 1500
#: What is made of them, and a value at the first point by which to see that it is right.
PRODUCTS = {
    "steps.annual_mean(cube)": 250.0,
    "seasons.climatology(cube, (2000, 2009), 'month')": 250.0,
    "seasons.anomaly(cube, seasons.climatology(cube, (2000, 2009), 'month'), 'month')": 0.0,
    "spread.trend(steps.annual_mean(cube))": 0.0,
    "grids.regrid(cube, 5.0)": 250.0,
    "spread.percentiles(cube, [5, 95])": 250.0,
}
JOB = """
import sys
import dask
import grids, loading, seasons, spread, steps
dask.config.set(num_workers=1)
cube = loading.load([sys.argv[1]], "air_temperature")
result = eval(sys.argv[3])
steps.save(result, sys.argv[2])
"""
#: All that is made of a dataset of an archive.
MODEL = """
import sys
from pathlib import Path
import dask
import loading, models, steps
dask.config.set(num_workers=1)
cube = loading.load([sys.argv[1]], "air_temperature")
save = lambda result, path: steps.save(result, str(path))
models.make(cube, Path(sys.argv[2]), (2000, 2009), {}, save)
"""
#: The change of many models.
MODELS = """
import sys
from functools import partial
from pathlib import Path
import dask
import models, multi_model, steps
dask.config.set(num_workers=1)
fields = multi_model.Models()
for folder in sys.argv[2:]:
    make = partial(models.mapped, Path(folder), {"step": 0.5}, (2000, 2009), (2100, 2699))
    fields.add(folder, make)
assert not fields.left_out, fields.left_out
steps.save(multi_model.statistics(fields.kept, signed=True), sys.argv[1])
"""
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Temperatures that grow from the south to the north, and do not change."""
    path = tmp_path_factory.mktemp("large") / "large.nc"
    write(path, SHAPE[0], np.arange(SHAPE[0]) + 0.5)
    return path


def write(path: Path, count: int, times: np.ndarray, **attributes: str) -> None:
    field = np.broadcast_to(np.linspace(250, 300, SHAPE[1], dtype="f4")[:, None], SHAPE[1:])
    with netCDF4.Dataset(path, "w") as file:
        points = {
            "time": (times, "days since 2000-01-01"),
            "latitude": (np.arange(SHAPE[1]) / 2 - 89.75, "degrees_north"),
            "longitude": (np.arange(SHAPE[2]) / 2 + 0.25, "degrees_east"),
        }
        for name, (values, units) in points.items():
            file.createDimension(name, len(values))
            variable = file.createVariable(name, "f8", (name,))
            variable[:] = values
            variable.units, variable.standard_name = units, name
        options = {"zlib": True, "complevel": 1, "chunksizes": (1, *SHAPE[1:])}
        variable = file.createVariable("tas", "f4", tuple(points), **options)
        variable.units, variable.standard_name = "K", "air_temperature"
        variable.setncatts(attributes)
        for number in range(count):
            variable[number] = field


def run(script: str, folder: Path, *arguments: object) -> None:
    """Run a job in a process whose memory is limited."""
    with memory(LIMIT) as enter:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", script, *map(str, arguments)],
            env={"PYTHONPATH": str(ROOT / "workflow/scripts"), "TMPDIR": str(folder)},
            preexec_fn=enter,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, f"{arguments[-1]}: {done.returncode} {done.stderr}"


def test_memory_does_not_grow_with_the_data(large: Path, tmp_path: Path, tries: range) -> None:
    # All of them take ten minutes.
    products = PRODUCTS if len(tries) >= 10 else list(PRODUCTS)[:1]
    for product in products:
        output = tmp_path / "output.nc"
        run(JOB, tmp_path, large, output, product)
        with netCDF4.Dataset(output) as file:
            result = max(file.variables.values(), key=lambda variable: variable.ndim)
            first = np.ma.ravel(result[..., :1, :1])[0]
        assert first == pytest.approx(PRODUCTS[product], abs=1), product
        output.unlink()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All that is made of a dataset of an archive, of years that are three times the limit."""
    folder = tmp_path_factory.mktemp("model")
    write(folder / "years.nc", YEARS, 365.2425 * np.arange(YEARS) + 180)
    run(MODEL, folder, folder / "years.nc", folder / "results")
    return folder / "results"


def test_memory_does_not_grow_with_a_dataset_of_an_archive(model: Path) -> None:
    with netCDF4.Dataset(model / "climatology.nc") as file:
        zonal = file["tas"][:, 0]
    np.testing.assert_allclose(zonal, np.linspace(250, 300, SHAPE[1]), rtol=1e-5)


@pytest.mark.long
def test_memory_does_not_grow_with_the_number_of_models(model: Path, tmp_path: Path) -> None:
    folders = [tmp_path / f"model_{number}" for number in range(10)]
    for folder in folders:
        folder.symlink_to(model)
    run(MODELS, tmp_path, tmp_path / "models.nc", *folders)
    with netCDF4.Dataset(tmp_path / "models.nc") as file:
        assert np.all(file["number_of_models"][:] == len(folders))
        np.testing.assert_allclose(file["percentile_95"][:], 0, atol=1e-3)
