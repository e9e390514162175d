"""Hybrid levels through all steps; pressures and heights by their formulas in CF."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import iris
import iris.cube
import netCDF4
import numpy as np
import pytest
from iris.coords import DimCoord
from iris.cube import Cube
from iris_sample_data import path as SAMPLES

import area_statistics
import loading
import seasons
import spread
import steps
from bad_data import DataError

AP, B = np.array([0.0, 1e4, 1e4]), np.array([1.0, 0.5, 0.0])
MONTHS = 36


@pytest.fixture(params=["static", "varying"])
def pressures(request: pytest.FixtureRequest) -> np.ndarray:
    """Surface pressure, for each time or for all."""
    shape = (3, 4) if request.param == "static" else (MONTHS, 3, 4)
    return 1e5 + 500 * np.random.default_rng(1).normal(size=shape)


@pytest.fixture
def values() -> np.ndarray:
    return np.random.default_rng(0).normal(280, 10, (MONTHS, 3, 3, 4))


@pytest.fixture
def path(tmp_path: Path, pressures: np.ndarray, values: np.ndarray) -> str:
    """Months of 30 days on hybrid pressure levels, with the areas of cells."""
    lengths = {"time": MONTHS, "lev": 3, "lat": 3, "lon": 4, "bnds": 2}
    days = 30.0 * np.arange(MONTHS)
    with netCDF4.Dataset(tmp_path / "in.nc", "w") as file:
        for name, length in lengths.items():
            file.createDimension(name, length)

        def variable(name: str, dimensions: str, data: object, **attributes: str) -> None:
            made = file.createVariable(name, "f8", tuple(dimensions.split()))
            made.setncatts(attributes)
            made[...] = data

        time = {"units": "days since 2000-01-01", "calendar": "360_day", "bounds": "time_bnds"}
        variable("time", "time", days + 15, standard_name="time", **time)
        variable("time_bnds", "time bnds", np.stack([days, days + 30], axis=1))
        variable(
            "lev",
            "lev",
            AP / 1e5 + B,
            standard_name="atmosphere_hybrid_sigma_pressure_coordinate",
            formula_terms="ap: ap b: b ps: ps",
            units="1",
            positive="down",
        )
        variable("ap", "lev", AP, units="Pa")
        variable("b", "lev", B, units="1")
        dimensions = "time lat lon" if pressures.ndim == 3 else "lat lon"
        surface = {"standard_name": "surface_air_pressure", "units": "Pa"}
        variable("ps", dimensions, pressures, **surface)
        latitudes = {"standard_name": "latitude", "units": "degrees_north"}
        variable("lat", "lat", [-60, 0, 60], **latitudes)
        longitudes = {"standard_name": "longitude", "units": "degrees_east"}
        variable("lon", "lon", [0, 90, 180, 270], **longitudes)
        bands = np.broadcast_to([[1.0], [2.0], [1.0]], (3, 4))
        variable("areacella", "lat lon", bands, standard_name="cell_area", units="m2")
        variable(
            "ta",
            "time lev lat lon",
            values,
            standard_name="air_temperature",
            units="K",
            cell_measures="area: areacella",
        )
    return str(tmp_path / "in.nc")


def saved(cube: Cube, tmp_path: Path) -> Cube:
    # A file of its own for each, as results stay lazy.
    path = tmp_path / f"out{len(list(tmp_path.iterdir()))}.nc"
    steps.save(cube, str(path))
    return steps.load_result(str(path))


def has_pressure(cube: Cube, pressures: np.ndarray) -> None:
    """Compare the pressure of a cube with that of the formula, or see that it has none."""
    if pressures.ndim == 3:
        assert not cube.coords("air_pressure")
        assert not cube.coords("surface_air_pressure")
    else:
        expected = AP[:, None, None] + B[:, None, None] * pressures
        np.testing.assert_allclose(cube.coord("air_pressure").points, expected)
    np.testing.assert_array_equal(cube.coord(var_name="ap").points, AP)


def test_all_steps_take_hybrid_pressure(
    path: str, tmp_path: Path, pressures: np.ndarray, values: np.ndarray
) -> None:
    cube = loading.load([path], "air_temperature")
    assert cube.coord("air_pressure").shape[-3:] == (3, 3, 4)
    annual = saved(steps.annual_mean(cube), tmp_path)
    years = values.reshape(3, 12, 3, 3, 4).mean(axis=1)
    np.testing.assert_allclose(annual.data, years)
    has_pressure(annual, pressures)

    normal = saved(steps.climatology(annual, [2000, 2001]), tmp_path)
    np.testing.assert_allclose(normal.data, years[:2].mean(axis=0))
    has_pressure(normal, pressures)

    anomaly = saved(steps.anomaly(annual, normal), tmp_path)
    np.testing.assert_allclose(anomaly.data, years - years[:2].mean(axis=0), atol=1e-9)
    has_pressure(anomaly, pressures)

    result = spread.trend(annual)
    slope = np.polyfit([0, 1, 2], years.reshape(3, -1), 1)[0].reshape(3, 3, 4)
    np.testing.assert_allclose(result.data, 10 * slope)
    has_pressure(result, pressures)

    series = saved(area_statistics.area_mean(annual), tmp_path)
    bands = np.array([0.25, 0.5, 0.25])
    np.testing.assert_allclose(series.data, years.mean(axis=-1) @ bands, rtol=1e-6)
    assert not series.coords("surface_air_pressure")


@pytest.mark.parametrize(
    "product",
    [
        lambda cube: seasons.climatology(cube, [2000, 2001], "month"),
        lambda cube: seasons.climatology(cube, [2000, 2001], "season"),
        lambda cube: spread.percentiles(cube, [5, 50]),
    ],
    ids=["months", "seasons", "percentiles"],
)
def test_products_over_time(
    path: str, tmp_path: Path, pressures: np.ndarray, product: Callable[[Cube], Cube]
) -> None:
    result = product(loading.load([path], "air_temperature"))
    steps.save(result, str(tmp_path / "out.nc"))
    has_pressure(iris.load_cube(tmp_path / "out.nc", "air_temperature"), pressures)


def test_what_keeps_its_times_keeps_its_pressure(path: str, pressures: np.ndarray) -> None:
    cube = loading.load([path], "air_temperature")
    result = seasons.anomaly(cube, seasons.climatology(cube, [2000, 2001], "month"), "month")
    expected = AP[:, None, None] + B[:, None, None] * pressures[..., None, :, :]
    found = result.coord("air_pressure").points
    np.testing.assert_allclose(found, np.broadcast_to(np.squeeze(expected), found.shape))


@pytest.mark.parametrize("edges", [[0, 12, 13, 36], range(37)], ids=["some", "all"])
def test_files_of_one_time_each(
    path: str, tmp_path: Path, values: np.ndarray, pressures: np.ndarray, edges: Sequence[int]
) -> None:
    whole = loading.load([path], "air_temperature")
    files = []
    for number, (start, end) in enumerate(pairwise(edges)):
        part = whole[start] if end == start + 1 else whole[start:end]
        files.append(str(tmp_path / f"part{number}.nc"))
        iris.save(part, files[-1])
    cube = loading.load(files, "air_temperature")
    np.testing.assert_array_equal(cube.data, values)
    np.testing.assert_array_equal(cube.coord("surface_air_pressure").points, pressures)
    found = cube.coord("air_pressure").points
    expected = AP[:, None, None] + B[:, None, None] * pressures[..., None, :, :]
    np.testing.assert_allclose(found, np.broadcast_to(np.squeeze(expected), found.shape))


def test_hybrid_heights_of_the_unified_model(tmp_path: Path) -> None:
    sample = iris.load_cube(f"{SAMPLES}/hybrid_height.nc", "air_potential_temperature")
    for name in ("forecast_period", "forecast_reference_time"):
        sample.remove_coord(name)
    parts = iris.cube.CubeList()
    for number, day in enumerate((180, 540, 900)):
        part = sample.copy(data=sample.data + number)
        part.remove_coord("time")
        part.add_aux_coord(DimCoord([day], "time", units="days since 2000-01-01"))
        parts.append(part)
    iris.save(parts.merge_cube(), tmp_path / "in.nc")
    cube = loading.load([str(tmp_path / "in.nc")], "air_potential_temperature")
    annual = saved(steps.annual_mean(cube), tmp_path)
    assert annual.coord("year").points.tolist() == [2000, 2001, 2002]
    normal = saved(steps.climatology(annual, [2000, 2002]), tmp_path)
    anomaly = saved(steps.anomaly(annual, normal), tmp_path)
    np.testing.assert_allclose(anomaly.data[2], 1, atol=1e-3)
    with netCDF4.Dataset(f"{SAMPLES}/hybrid_height.nc") as file:
        names = dict(zip("ab", ("level_height", "sigma"), strict=True))
        a, b = (np.asarray(file[name][:], "f8") for name in names.values())
        orography = np.asarray(file["surface_altitude"][:], "f8")
    expected = a[:, None, None] + b[:, None, None] * orography
    np.testing.assert_allclose(anomaly.coord("altitude").points, expected, rtol=1e-5)


def test_a_result_beside_other_variables(path: str, tmp_path: Path) -> None:
    out = str(tmp_path / "out.nc")
    annual = steps.annual_mean(loading.load([path], "air_temperature"))
    steps.save(annual, out)
    with netCDF4.Dataset(out, "a") as file:
        for name in ("sftlf", "mask"):
            variable = file.createVariable(name, "f8", ("lat", "lon"))
            variable.long_name = name
            variable[:] = 1
    assert steps.load_result(out).name() == "air_temperature"
    iris.save([annual, steps.renamed(annual.copy(), "other")], out)
    with pytest.raises(DataError, match="has 2 results instead of one"):
        steps.load_result(out)
