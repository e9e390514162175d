"""Parts by values of coordinates; against indices that are counted here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from iris.coords import AuxCoord, DimCoord
from iris.cube import Cube

import coordinates
import loading
from bad_data import DataError
from science.netcdf import write

PRESSURES = np.array([100000.00000001, 92500.00000001, 85000, 50000.00000001, 1])


def levels(points: np.ndarray = PRESSURES, units: str = "Pa") -> Cube:
    coord = DimCoord(points, standard_name="air_pressure", units=units)
    return Cube(np.arange(len(points)), long_name="x", dim_coords_and_dims=[(coord, 0)])


def globe(points: np.ndarray) -> Cube:
    longitude = DimCoord(points, standard_name="longitude", units="degrees")
    latitude = DimCoord([-45.0, 45.0], standard_name="latitude", units="degrees")
    data = np.stack([points % 360, points % 360])
    return Cube(data, long_name="x", dim_coords_and_dims=[(latitude, 0), (longitude, 1)])


@pytest.mark.parametrize(
    ("value", "index"),
    [
        (100000, 0),
        (100000.0001, 0),
        ("1000 hPa", 0),
        ("1000hPa", 0),
        ("850 hPa", 2),
        ("85000", 2),
        ("8.5e4 Pa", 2),
        ("0.01 mbar", 4),
        ({"nearest": "840 hPa"}, 2),
        ({"nearest": 92000}, 1),
        ({"nearest": "1100 mbar"}, None),
        ({"nearest": "1030 hPa"}, 0),
        (100001, None),
        ("850.1 hPa", None),
    ],
)
def test_one_level(value: Any, index: int | None) -> None:
    for name in ("air_pressure", "pressure"):
        part = coordinates.extract_one(levels(), name, value)
        if index is None:
            assert part is None
        else:
            assert part is not None
            assert part.shape == ()
            assert part.data == index


@pytest.mark.parametrize(
    ("value", "indices"),
    [
        (["700 hPa", "900 hPa"], [2]),
        (["900 hPa", "700 hPa"], [2]),
        ([92500, 50000], [1, 2, 3]),
        (["500 hPa", 100000], [0, 1, 2, 3]),
        ([60000, 70000], None),
    ],
)
def test_ranges_of_levels_keep_their_dimension(value: Any, indices: list[int] | None) -> None:
    part = coordinates.extract_one(levels(), "air_pressure", value)
    assert (None if part is None else part.data.tolist()) == indices


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("850 K", "850 K cannot be converted to Pa, the units of air_pressure"),
        ("850 hPaa", "850 hPaa cannot be converted to Pa"),
        ("high", "'high' cannot be compared with air_pressure"),
        (84000, "x has no pressure 84000; air_pressure has 1, 50000, 85000, 92500, 100000 Pa"),
        ({"nearest": "2000 hPa"}, "x has no pressure near 2000 hPa; air_pressure has"),
    ],
)
def test_levels_that_are_none(value: Any, sentence: str) -> None:
    with pytest.raises(DataError) as refused:
        coordinates.extract(levels(), {"pressure": value})
    assert sentence in str(refused.value)


def test_a_coordinate_that_is_not_there() -> None:
    with pytest.raises(DataError, match="x has no depth 5; the coordinates are air_pressure"):
        coordinates.extract(levels(), {"depth": 5})


def test_times_and_fields_cannot_be_selected_by_value() -> None:
    cube = levels()
    cube.add_aux_coord(AuxCoord(np.arange(5.0), "time", units="days since 2000-01-01"), 0)
    with pytest.raises(DataError, match="time cannot be selected by value"):
        coordinates.extract(cube, {"time": 3})
    cube = globe(np.arange(4.0))
    cube.add_aux_coord(AuxCoord(np.zeros((2, 4)), "air_pressure", units="Pa"), (0, 1))
    with pytest.raises(DataError, match="air_pressure of x has 2 dimensions"):
        coordinates.extract(cube, {"pressure": "1 hPa"})


def test_texts_match_as_they_are() -> None:
    cube = levels()
    cube.add_aux_coord(AuxCoord(["a", "b", "c", "d", "e"], long_name="basin"), 0)
    assert coordinates.extract(cube, {"basin": "d"}).data == 3


RUNNING = {
    "0 to 360": np.arange(0.0, 360, 10),
    "-180 to 180": np.arange(-180.0, 180, 10),
    "downwards": np.arange(350.0, -1, -10),
    "off by rounding": np.arange(0.0, 360, 10) + 1e-9,
    "single precision": np.arange(0, 360, 10, dtype="f4"),
}


@pytest.mark.parametrize("points", RUNNING.values(), ids=RUNNING)
@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ([-10, 30], [-10, 0, 10, 20, 30]),
        ([350, 30], [350, 0, 10, 20, 30]),
        ([350, 390], [350, 0, 10, 20, 30]),
        ([170, -170], [170, 180, 190]),
        ([40, 60], [40, 50, 60]),
        ([-60, -40], [300, 310, 320]),
        ([-180, 180], range(-180, 180, 10)),
        ([0, 360], range(0, 360, 10)),
    ],
    ids=str,
)
def test_longitudes_wrap(points: np.ndarray, ends: list[float], expected: list[int]) -> None:
    part = coordinates.extract(globe(points), {"longitude": ends})
    found = np.round(part.data[0], 6) % 360
    assert sorted(found.tolist()) == sorted(float(value % 360) for value in expected)
    inside = part.coord("longitude").points
    assert ends[0] - 1e-4 <= inside.min()
    assert inside.max() <= ends[1] + 360 * (ends[1] < ends[0]) + 1e-4


@pytest.mark.parametrize("points", RUNNING.values(), ids=RUNNING)
@pytest.mark.parametrize("value", [-10, 350, "350 degrees", {"nearest": -7}, {"nearest": 354}])
def test_one_longitude_wraps(points: np.ndarray, value: Any) -> None:
    part = coordinates.extract(globe(points), {"longitude": value})
    np.testing.assert_allclose(part.data, [350, 350])


def test_a_single_longitude_in_a_range() -> None:
    part = globe(np.arange(0.0, 360, 10))[:, 35]
    assert coordinates.extract(part, {"longitude": [-20, 0]}).shape == (2,)
    with pytest.raises(DataError, match="x has no longitude from 0 to 20"):
        coordinates.extract(part, {"longitude": [0, 20]})


def test_longitudes_of_files_wrap(tmp_path: Path) -> None:
    """Which fell away west of Greenwich without a word."""
    longitudes = np.arange(0.0, 360, 10)
    values = np.random.default_rng(1).normal(280, 10, (2, 3, 36)).astype("f4")
    path = write(tmp_path / "in.nc", values, np.array([15.0, 45.0]), longitudes=longitudes)
    spec = {"name": "air_temperature", "coordinates": {"longitude": [-10, 30]}}
    cube = loading.load([path], spec)
    np.testing.assert_array_equal(cube.data, values[:, :, [35, 0, 1, 2, 3]])


@pytest.mark.parametrize(
    ("wish", "index"),
    [
        ("850 hPa", 1),
        (85000, 1),
        ({"nearest": "880 hPa"}, 1),
        (["840 hPa", "1000 hPa"], slice(0, 2)),
    ],
)
def test_levels_of_files(tmp_path: Path, wish: Any, index: Any) -> None:
    pressures = np.array([100000.00000001, 85000.00000001, 50000.00000001])
    values = np.random.default_rng(1).normal(280, 10, (2, 3, 3, 4)).astype("f4")
    path = write(tmp_path / "in.nc", values, np.array([15.0, 45.0]), levels=pressures)
    spec = {"name": "air_temperature", "coordinates": {"air_pressure": wish}}
    np.testing.assert_array_equal(loading.load([path], spec).data, values[:, index])


def test_lazy_data_stay_lazy() -> None:
    cube = globe(np.arange(0.0, 360, 10))
    cube = cube.copy(data=cube.lazy_data())
    part = coordinates.extract(cube, {"longitude": [-10, 30], "latitude": {"nearest": 40}})
    assert part.has_lazy_data()
