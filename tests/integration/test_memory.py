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
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Temperatures that grow from the south to the north, and do not change."""
    path = tmp_path_factory.mktemp("large") / "large.nc"
    field = np.broadcast_to(np.linspace(250, 300, SHAPE[1], dtype="f4")[:, None], SHAPE[1:])
    with netCDF4.Dataset(path, "w") as file:
        points = {
            "time": (np.arange(SHAPE[0]) + 0.5, "days since 2000-01-01"),
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
        for number in range(SHAPE[0]):
            variable[number] = field
    return path


def test_memory_does_not_grow_with_the_data(large: Path, tmp_path: Path, tries: range) -> None:
    # All of them take ten minutes.
    products = PRODUCTS if len(tries) >= 10 else list(PRODUCTS)[:1]
    for product in products:
        output = tmp_path / "output.nc"
        with memory(LIMIT) as enter:
            done = subprocess.run(
                [sys.executable, "-W", "ignore", "-c", JOB, large, output, product],
                env={"PYTHONPATH": str(ROOT / "workflow/scripts"), "TMPDIR": str(tmp_path)},
                preexec_fn=enter,
                capture_output=True,
                text=True,
                check=False,
            )
        assert done.returncode == 0, f"{product}: {done.returncode} {done.stderr}"
        with netCDF4.Dataset(output) as file:
            result = max(file.variables.values(), key=lambda variable: variable.ndim)
            first = np.ma.ravel(result[..., :1, :1])[0]
        assert first == pytest.approx(PRODUCTS[product], abs=1), product
        output.unlink()
