"""Statistics of many models, against loops over numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import dask.array as da
import iris.util
import numpy as np
import pytest
from iris.coord_systems import GeogCS
from iris.coords import DimCoord
from iris.cube import Cube

import models
import multi_model
from bad_data import DataError

RANDOM = np.random.default_rng(20)


def field(values: np.ndarray, **options: Any) -> Cube:
    """A lazy field of a model on a grid of some degrees, or of years and that grid."""
    rows, columns = values.shape[-2:]
    y = DimCoord(np.linspace(-80, 80, rows), "latitude", units="degrees")
    x = DimCoord(np.linspace(0, 350, columns), "longitude", units="degrees")
    dims = [(y, values.ndim - 2), (x, values.ndim - 1)]
    data = da.from_array(values, chunks=values.shape)
    return Cube(data, "air_temperature", units=options.get("units", "K"), dim_coords_and_dims=dims)


def yearly(values: dict[int, float]) -> Cube:
    year = DimCoord(list(values), long_name="year", units="1")
    return Cube(
        np.array(list(values.values())),
        "air_temperature",
        units="K",
        dim_coords_and_dims=[(year, 0)],
    )


def percentile(values: list[float], percent: float) -> float:
    """Interpolate linearly between sorted values."""
    values = sorted(values)
    place = (len(values) - 1) * percent / 100
    low = math.floor(place)
    high = min(low + 1, len(values) - 1)
    return values[low] + (place - low) * (values[high] - values[low])


@pytest.mark.parametrize("gaps", [0.0, 0.4])
def test_statistics_at_each_place(gaps: float) -> None:
    stack = RANDOM.normal(0.3, 1, (7, 5, 6)).astype("f4")
    holes = RANDOM.random(stack.shape) < gaps
    holes[:, 0, 0] = gaps > 0
    named = {
        f"m{number}": field(np.ma.array(values, mask=hole))
        for number, (values, hole) in enumerate(zip(stack, holes, strict=True))
    }
    found = {cube.var_name: cube for cube in multi_model.statistics(named, signed=True)}
    assert list(found) == list(multi_model.STATISTICS)
    for row, column in np.ndindex(5, 6):
        known = [float(each) for each in stack[:, row, column][~holes[:, row, column]]]
        here = {name: cube.data[row, column] for name, cube in found.items()}
        assert here["number_of_models"] == len(known)
        if not known:
            assert here.pop("number_of_models") == 0
            assert all(np.ma.is_masked(value) for value in here.values())
            continue
        mean = sum(known) / len(known)
        assert here["mean"] == pytest.approx(mean, rel=1e-5, abs=1e-6)
        for name, percent in (("median", 50), ("percentile_5", 5), ("percentile_95", 95)):
            assert here[name] == pytest.approx(percentile(known, percent), rel=1e-5, abs=1e-6)
        same = [each for each in known if (each > 0) == (mean > 0)]
        if len(known) >= 4:
            assert here["agreement"] == pytest.approx(len(same) / len(known))
        else:
            # Of seven models, fewer than half.
            assert np.ma.is_masked(here["agreement"])
    assert found["mean"].units == "K"
    assert found["number_of_models"].units == found["agreement"].units == "1"


def test_the_agreement_is_of_changes_only() -> None:
    named = {name: field(np.ones((2, 3))) for name in "ab"}
    found = [cube.var_name for cube in multi_model.statistics(named, signed=False)]
    assert "agreement" not in found


def test_models_on_grids_of_their_own_meet_on_a_common_one() -> None:
    """A plane is the same on each grid, wherever it is interpolated."""
    fields = {}
    for name, rows, columns in (("coarse", 9, 18), ("fine", 81, 72)):
        cube = field(np.zeros((rows, columns)))
        y, x = (cube.coord(axis).points for axis in ("latitude", "longitude"))
        cube.data = 2 * y[:, None] + np.where(x < 300, x, np.nan)[None, :]
        cube.data = np.ma.masked_invalid(cube.data)
        # Models state Earths of slightly different size.
        system = GeogCS(6371229.0 if name == "fine" else 6367470.0)
        for axis in ("latitude", "longitude"):
            cube.coord(axis).coord_system = system
        fields[name] = multi_model.on_grid(cube, {"step": 10.0})
    found = {cube.var_name: cube for cube in multi_model.statistics(fields, signed=False)}
    data = found["mean"].data
    # Half a step from the pole and Greenwich; without what lies outside of the models.
    for row, latitude in enumerate(np.arange(-85, 90, 10)):
        for column, longitude in enumerate(np.arange(5, 280, 10)):
            if abs(latitude) > 80:
                assert np.ma.is_masked(data[row, column])
            else:
                assert data[row, column] == pytest.approx(2 * latitude + longitude, rel=1e-5)
    np.testing.assert_allclose(found["percentile_95"].data, found["percentile_5"].data, rtol=1e-5)


def test_a_change_is_the_mean_of_a_period() -> None:
    values = np.arange(30.0)[:, None, None] * np.ones((1, 2, 3))
    anomaly = field(values)
    anomaly.add_dim_coord(DimCoord(np.arange(1990, 2020), long_name="year", units="1"), 0)
    found = multi_model.change(anomaly, [2010, 2014])
    np.testing.assert_allclose(found.data, 22)
    assert found.shape == (2, 3)


@pytest.mark.parametrize(
    ("period", "is_enough"), [([1990, 1999], True), ([1989, 1998], True), ([1988, 1997], False)]
)
def test_a_model_has_nine_tenths_of_a_period(period: list[int], is_enough: bool) -> None:
    annual = yearly(dict.fromkeys(range(1990, 2020), 0.0))
    if is_enough:
        multi_model.change(annual, period)
    else:
        with pytest.raises(DataError, match="has 8 of the 10 years 1988-1997; it covers 1990-2019"):
            multi_model.change(annual, period)


def test_what_does_not_fit_is_left_out_with_a_reason() -> None:
    def broken() -> Cube:
        raise DataError("it is cut")

    level = field(np.ones((2, 3)))
    level = iris.util.new_axis(level)
    level.add_dim_coord(DimCoord([850.0], "air_pressure", units="hPa"), 0)
    cases: dict[str, Callable[[], Cube]] = {
        "first": lambda: field(np.ones((2, 3))),
        "other units": lambda: field(np.ones((2, 3)), units="celsius"),
        "other quantity": lambda: field(np.ones((2, 3)), units="m"),
        "with levels": lambda: level,
        "other grid": lambda: field(np.ones((3, 3))),
        "broken": broken,
    }
    found = multi_model.Models()
    for name, make in cases.items():
        found.add(name, make)
    assert list(found.kept) == ["first", "other units"]
    np.testing.assert_allclose(found.kept["other units"].data, 274.15)
    assert found.left_out == {
        "other quantity": "air_temperature is in m, and in K of the other models.",
        "with levels": "air_temperature has the dimensions air_pressure, latitude, longitude, and "
        "latitude, longitude in the other models.",
        "other grid": "air_temperature has another latitude than in the other models.",
        "broken": "it is cut",
    }


def test_one_model_is_no_ensemble() -> None:
    found = multi_model.Models(left_out={"AWI": "it is cut"})
    found.add("first", lambda: field(np.ones((2, 3))))
    with pytest.raises(DataError, match=r"1 models can be used.* Of AWI: it is cut"):
        found.require_two()


def test_series_of_the_years_that_all_have() -> None:
    named = {
        "a": yearly({2000: 1.0, 2001: 2.0, 2002: 6.0}),
        "b": yearly({2001: 4.0, 2002: 2.0, 2003: 9.0}),
        "c": yearly({2001: 9.0, 2002: 4.0}),
    }
    found = {cube.var_name: cube for cube in multi_model.series(named)}
    assert found["mean"].coord("year").points.tolist() == [2001, 2002]
    np.testing.assert_allclose(found["mean"].data, [5, 4])
    np.testing.assert_allclose(found["median"].data, [4, 4])
    np.testing.assert_allclose(found["number_of_models"].data, [3, 3])
    np.testing.assert_allclose(found["models"].data, [[2, 6], [4, 2], [9, 4]])
    assert found["models"].coord("model").points.tolist() == ["a", "b", "c"]


def test_series_of_the_years_that_any_has() -> None:
    named = {"a": yearly({2000: 1.0, 2001: 2.0}), "b": yearly({2001: 4.0, 2002: 7.0})}
    found = {cube.var_name: cube for cube in multi_model.series(named, span="full")}
    np.testing.assert_allclose(found["mean"].data, [1, 3, 7])
    np.testing.assert_allclose(found["number_of_models"].data, [1, 2, 1])
    assert np.ma.getmaskarray(found["models"].data).tolist() == [
        [False, False, True],
        [True, False, False],
    ]
    named["b"] = yearly({2005: 1.0})
    with pytest.raises(DataError, match="2 models have no year in common; with 'span: full'"):
        multi_model.series(named)


def test_a_fault_of_the_system_is_none_of_the_data() -> None:
    error = DataError("x cannot be read")
    error.__cause__ = OSError(5, "Input/output error")
    assert models.is_of_system(error)
    error.__cause__ = OSError(-101, "NetCDF: HDF error")
    assert not models.is_of_system(error)
    assert not models.is_of_system(DataError("no such level"))
