"""The science, against NumPy on the bare numbers."""

from __future__ import annotations

from pathlib import Path

import dask.array
import numpy as np
import pytest
from cf_units import Unit
from iris.coords import CellMethod, DimCoord
from iris.cube import Cube

import area_statistics
import steps

# Days of the months of two years; 2004 is a leap year.
DAYS = np.array([31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31], float)
LEAP = DAYS + (np.arange(12) == 1)


def monthly(lengths: np.ndarray, values: np.ndarray, first: str = "2003-01-01") -> Cube:
    """A cube of months of the given lengths on a grid of 3 by 4."""
    edges = np.concatenate([[0], np.cumsum(lengths)])
    time = DimCoord(
        (edges[:-1] + edges[1:]) / 2,
        standard_name="time",
        units=Unit(f"days since {first}", calendar="standard"),
        bounds=np.stack([edges[:-1], edges[1:]], axis=1),
    )
    latitude = DimCoord([-60.0, 0.0, 60.0], standard_name="latitude", units="degrees")
    longitude = DimCoord(
        [0.0, 90.0, 180.0, 270.0], standard_name="longitude", units="degrees", circular=True
    )
    return Cube(
        values,
        standard_name="air_temperature",
        units="K",
        cell_methods=[CellMethod("mean", "time", intervals="1 hour")],
        attributes={"source": "made for this test", "model": "none"},
        dim_coords_and_dims=[(time, 0), (latitude, 1), (longitude, 2)],
    )


@pytest.fixture
def two_years() -> Cube:
    values = np.random.default_rng(3).normal(280, 10, (24, 3, 4))
    return monthly(np.concatenate([DAYS, LEAP]), values)


def test_annual_means_are_weighted_by_the_length_of_the_months(two_years: Cube) -> None:
    annual = steps.annual_mean(two_years)
    data = two_years.data
    expected = [
        np.tensordot(DAYS, data[:12], 1) / 365,
        np.tensordot(LEAP, data[12:], 1) / 366,
    ]
    np.testing.assert_allclose(annual.data, expected, rtol=1e-12)
    assert list(annual.coord("year").points) == [2003, 2004]
    assert annual.units == "K"
    assert annual.standard_name == "air_temperature"
    assert annual.attributes == two_years.attributes
    assert annual.cell_methods[0] == two_years.cell_methods[0]
    assert str(annual.cell_methods[1]) == "time: mean"
    assert annual.coord("time").bounds.tolist() == [[0, 365], [365, 731]]


def test_a_year_of_three_months_is_left_out(two_years: Cube) -> None:
    annual = steps.annual_mean(two_years[:15])
    assert list(annual.coord("year").points) == [2003]
    assert annual.coord_dims("time") == (0,)


def test_annual_data_stays_as_it_is(two_years: Cube) -> None:
    annual = steps.annual_mean(two_years)
    again = steps.annual_mean(annual)
    np.testing.assert_array_equal(again.data, annual.data)


def test_climatology_is_the_mean_of_the_years_of_the_baseline(two_years: Cube) -> None:
    annual = steps.annual_mean(two_years)
    both = steps.climatology(annual, [2003, 2004])
    np.testing.assert_allclose(both.data, (annual.data[0] + annual.data[1]) / 2, rtol=1e-12)
    one = steps.climatology(annual, [2004, 2004])
    np.testing.assert_array_equal(one.data, annual.data[1])
    assert both.units == "K"
    assert str(both.cell_methods[-1]) == "time: mean"
    assert both.attributes["baseline"] == "2003-2004"
    assert not both.coord_dims("time")


def test_anomalies_and_climatology_add_up(two_years: Cube) -> None:
    annual = steps.annual_mean(two_years)
    normal = steps.climatology(annual, [2003, 2003])
    result = steps.anomaly(annual, normal)
    np.testing.assert_allclose(result.data, annual.data - annual.data[0], atol=1e-12)
    assert result.standard_name == "air_temperature_anomaly"
    assert result.units == "K"
    assert result.attributes["baseline"] == "2003-2003"
    assert result.cell_methods == annual.cell_methods


def test_anomalies_of_what_cf_has_no_name_for(two_years: Cube) -> None:
    two_years.rename("northward_sea_ice_velocity")
    annual = steps.annual_mean(two_years)
    result = steps.anomaly(annual, steps.climatology(annual, [2003, 2004]))
    assert result.standard_name is None
    assert result.long_name == "northward_sea_ice_velocity_anomaly"


def test_the_area_mean_weighs_by_the_area_on_the_sphere(two_years: Cube) -> None:
    series = area_statistics.area_mean(two_years)
    # Cells reach from -90 to -30, to 30 and to 90 degrees; their areas are as
    # the differences of the sines of these latitudes.
    bands = np.diff(np.sin(np.deg2rad([-90, -30, 30, 90])))
    np.testing.assert_allclose(bands, [0.5, 1, 0.5])
    expected = two_years.data.mean(axis=2) @ bands / bands.sum()
    np.testing.assert_allclose(series.data, expected, rtol=1e-6)
    assert series.units == "K"
    assert series.shape == (24,)


def test_masked_cells_do_not_count(two_years: Cube) -> None:
    data = np.ma.array(two_years.data, mask=False)
    data[:, 1, :] = 1e6
    data[:, 1, :] = np.ma.masked
    series = area_statistics.area_mean(two_years.copy(data))
    expected = two_years.data[:, [0, 2], :].mean(axis=(1, 2))
    np.testing.assert_allclose(series.data, expected, rtol=1e-6)


def test_data_is_read_when_it_is_saved(tmp_path: Path, two_years: Cube) -> None:
    # Iris itself reads variables of less than 5 kB at once.
    cube = two_years.copy(dask.array.from_array(two_years.data))
    annual = steps.annual_mean(cube)
    normal = steps.climatology(annual, [2003, 2004])
    lazy = [cube, annual, normal, steps.anomaly(annual, normal), area_statistics.area_mean(annual)]
    assert all(each.has_lazy_data() for each in lazy)
    steps.save(annual, str(tmp_path / "out.nc"))
    np.testing.assert_array_equal(steps.load_result(str(tmp_path / "out.nc")).data, annual.data)


def test_a_baseline_outside_the_data(two_years: Cube) -> None:
    annual = steps.annual_mean(two_years)
    with pytest.raises(
        steps.DataError, match="has 0 of the 30 years 1961-1990; it covers 2003-2004"
    ):
        steps.climatology(annual, [1961, 1990])


def test_no_grid_no_area(two_years: Cube) -> None:
    two_years.remove_coord("latitude")
    with pytest.raises(steps.DataError, match="air_temperature is on no known grid"):
        area_statistics.area_mean(two_years)


@pytest.mark.parametrize(
    ("shape", "chunk"),
    [
        ((), ()),
        ((5,), (5,)),
        ((240, 37, 49), (144, 37, 49)),
        ((1000, 360, 720), (1, 360, 720)),
        ((1000, 3, 720, 1440), (1, 1, 182, 1440)),
        ((10**7,), (2**18,)),
    ],
)
def test_chunks_of_a_file_are_whole_fields(shape: tuple[int, ...], chunk: tuple[int, ...]) -> None:
    assert steps.stored_chunk(shape) == chunk
