"""Series of all monthly models of esmvaltool-sample-data, against netCDF4 and NumPy alone."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import cftime
import netCDF4
import numpy as np
import pytest

import area_statistics
import loading
import steps


def folders() -> list[Path]:
    """List the folder of each model; importing the package would load all of Iris's extras."""
    found = find_spec("esmvaltool_sample_data")
    if found is None or found.origin is None:
        return []
    data = Path(found.origin).parent / "data/timeseries/CMIP6"
    return sorted({path.parent for path in data.glob("**/Amon/**/*.nc")})


FOLDERS = folders()
pytestmark = pytest.mark.skipif(not FOLDERS, reason="esmvaltool-sample-data is not installed")


def edges(file: netCDF4.Dataset, name: str) -> np.ndarray:
    """Bounds of cells as the file has them, or half way between the points."""
    variable = file[name]
    if name != "time" and not hasattr(variable, "bounds"):
        points = variable[:].data
        middle = (points[1:] + points[:-1]) / 2
        outer = [1.5 * points[0] - points[1] / 2, *middle, 1.5 * points[-1] - points[-2] / 2]
        return np.stack([outer[:-1], outer[1:]], axis=1)
    return np.asarray(file[variable.bounds][:].data, "f8")


def expected(folder: Path, pressure: float) -> dict[int, float]:
    """Mean of each year over the area, from the numbers in the files."""
    sums: dict[int, float] = {}
    days: dict[int, float] = {}
    for path in folder.glob("*.nc"):
        with netCDF4.Dataset(path) as file:
            level = int(np.abs(file["plev"][:] - pressure).argmin())
            values = np.asarray(file["ta"][:, level].filled(np.nan), "f8")
            assert np.isfinite(values).all()
            south, north = np.deg2rad(np.clip(edges(file, "lat"), -90, 90)).T
            west, east = edges(file, "lon").T
            area = np.outer(np.abs(np.sin(north) - np.sin(south)), np.abs(east - west))
            means = (values * area).sum(axis=(1, 2)) / area.sum()
            time = file["time"]
            # CESM2 dates a day by its end, which may lie in the next year.
            begins, ends = edges(file, "time").T
            dates = cftime.num2date((begins + ends) / 2, time.units, time.calendar)
            lengths = ends - begins
            for date, length, mean in zip(dates, lengths, means, strict=True):
                sums[date.year] = sums.get(date.year, 0.0) + length * mean
                days[date.year] = days.get(date.year, 0.0) + length
    return {year: sums[year] / days[year] for year in sums}


def test_there_are_42_models() -> None:
    assert len(FOLDERS) == 42


#: All of them take a minute and a half, so every sixth is tried where that counts.
MODELS = [
    pytest.param(
        folder,
        id=folder.parents[5].name,
        marks=[pytest.mark.slow] if number % 6 else [],
    )
    for number, folder in enumerate(FOLDERS)
]


@pytest.mark.parametrize("folder", MODELS)
def test_the_series_of_a_model(folder: Path) -> None:
    files = sorted(map(str, folder.glob("*.nc")))
    spec = {"name": "air_temperature", "coordinates": {"pressure": "925 hPa"}}
    cube = loading.load(files, spec)
    # Lazy means of a few numbers spend seconds on their graphs.
    cube.data  # noqa: B018
    series = area_statistics.area_mean(steps.annual_mean(cube))
    wanted = expected(folder, 92500)
    assert series.coord("year").points.tolist() == sorted(wanted)
    np.testing.assert_allclose(series.data, [wanted[year] for year in sorted(wanted)], rtol=1e-5)
    assert series.attributes["source_id"] == folder.parts[-7]
    assert series.attributes["variant_label"] == "r1i1p1f1"
