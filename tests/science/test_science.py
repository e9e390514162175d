"""More of the science, against NumPy on the bare numbers."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
from iris.coords import AuxCoord, DimCoord
from iris.cube import Cube

import grids
import seasons
import spread
import steps
from bad_data import DataError
from science.test_steps import DAYS, LEAP, monthly


@pytest.fixture
def two_years() -> Cube:
    values = np.random.default_rng(5).normal(280, 10, (24, 3, 4))
    return monthly(np.concatenate([DAYS, LEAP]), values)


def test_a_monthly_climatology_is_weighted_by_the_days(two_years: Cube) -> None:
    normal = seasons.climatology(two_years, [2003, 2004], "month")
    data = two_years.data
    for month in range(12):
        first, second = DAYS[month], LEAP[month]
        expected = (first * data[month] + second * data[12 + month]) / (first + second)
        np.testing.assert_allclose(normal.data[month], expected, rtol=1e-12)
    assert list(normal.coord("month_number").points) == list(range(1, 13))
    assert normal.units == two_years.units
    assert normal.attributes["baseline"] == "months of 2003-2004"


def test_a_seasonal_climatology(two_years: Cube) -> None:
    normal = seasons.climatology(two_years, [2004, 2004], "season")
    data, days = two_years.data[12:], LEAP
    names = normal.coord("season").points.tolist()
    for name, months in {"djf": [0, 1, 11], "mam": [2, 3, 4], "jja": [5, 6, 7]}.items():
        expected = np.tensordot(days[months], data[months], 1) / days[months].sum()
        np.testing.assert_allclose(normal.data[names.index(name)], expected, rtol=1e-12)


def test_monthly_anomalies_of_one_year_against_itself_are_zero(two_years: Cube) -> None:
    normal = seasons.climatology(two_years, [2003, 2003], "month")
    lazy = two_years.copy(data=two_years.lazy_data())
    anomaly = seasons.anomaly(lazy, normal, "month")
    assert anomaly.has_lazy_data()
    np.testing.assert_allclose(anomaly.data[:12], 0, atol=1e-10)
    np.testing.assert_allclose(anomaly.data[12:], two_years.data[12:] - two_years.data[:12])
    assert anomaly.standard_name == "air_temperature_anomaly"


def test_an_anomaly_needs_its_month_in_the_baseline(two_years: Cube) -> None:
    normal = seasons.climatology(two_years[:6], [2003, 2003], "month")
    with pytest.raises(DataError, match="the baseline has no month 7"):
        seasons.anomaly(two_years, normal, "month")


@pytest.mark.parametrize(
    ("region", "longitudes"),
    [([0, -90, 180, 90], [0, 90, 180]), ([270, -90, 90, 90], [270, 360, 450])],
    ids=["east", "across the end"],
)
def test_a_region(two_years: Cube, region: list[float], longitudes: list[float]) -> None:
    part = grids.extract(two_years, region=region)
    assert part.coord("longitude").points.tolist() == longitudes
    columns = [round(longitude / 90) % 4 for longitude in longitudes]
    np.testing.assert_array_equal(part.data, two_years.data[..., columns])


def test_levels_and_years() -> None:
    cube = monthly(np.concatenate([DAYS, LEAP]), np.arange(288.0).reshape(24, 3, 4))
    height = AuxCoord([0.0, 10.0, 20.0], long_name="height", units="m")
    cube.add_aux_coord(height, 1)
    part = grids.extract(cube, levels={"height": [5, 30]}, years=[2004, 2004])
    np.testing.assert_array_equal(part.data, cube.data[12:, 1:])


@pytest.mark.parametrize(
    ("wish", "sentence"),
    [
        ({"years": [1900, 1910]}, "no time is in 1900-1910"),
        ({"levels": {"longitude": [1, 2]}}, "longitude has no value from 1 to 2"),
        ({"levels": {"depth": [1, 2]}}, "nothing can be extracted"),
        ({"region": [1, 1, 2, 2]}, "nothing can be extracted"),
    ],
)
def test_what_is_not_there_cannot_be_extracted(
    two_years: Cube, wish: dict[str, object], sentence: str
) -> None:
    with pytest.raises(DataError, match=sentence):
        grids.extract(two_years, **wish)


def globe(rows: int, columns: int) -> Cube:
    """Degrees of latitude, doubled, plus 10 on every other column of a regular grid."""
    latitude = -90 + 180 / rows * (np.arange(rows) + 0.5)
    longitude = 360 / columns * (np.arange(columns) + 0.5)
    coords = [
        DimCoord(latitude, standard_name="latitude", units="degrees"),
        DimCoord(longitude, standard_name="longitude", units="degrees", circular=True),
    ]
    values = 2 * latitude[:, None] + 10.0 * (np.arange(columns) % 2)
    return Cube(
        values, long_name="made", dim_coords_and_dims=[(c, i) for i, c in enumerate(coords)]
    )


def test_area_weighted_regridding_to_half_the_resolution_averages_by_area() -> None:
    cube = globe(36, 72)
    coarse = grids.regrid(cube, 10, "area_weighted")
    edges = np.sin(np.deg2rad(np.linspace(-90, 90, 37)))
    area = np.diff(edges)[:, None] * np.ones(72)
    blocks = (18, 2, 36, 2)
    expected = (cube.data * area).reshape(blocks).sum((1, 3)) / area.reshape(blocks).sum((1, 3))
    np.testing.assert_allclose(coarse.data, expected, rtol=1e-6)


def test_linear_regridding_is_exact_for_what_is_linear() -> None:
    cube = globe(36, 72)[:, ::2]
    fine = grids.regrid(cube, 2.5)
    inside = np.abs(fine.coord("latitude").points) < 87
    expected = 2 * fine.coord("latitude").points[inside, None] * np.ones(144)
    np.testing.assert_allclose(fine.data[inside], expected, atol=1e-9)


def test_a_grid_that_is_none(two_years: Cube) -> None:
    with pytest.raises(DataError, match="air_temperature cannot be regridded"):
        grids.regrid(two_years[:, 0, 0], 5)


def test_the_mean_and_spread_of_an_ensemble(two_years: Cube) -> None:
    chance = np.random.default_rng(7)
    values = chance.normal(size=(5, *two_years.shape))
    members = [two_years.copy(data=member) for member in values]
    both = spread.ensemble(members)
    assert both.coord("realization").points.tolist() == list(range(5))
    mean, deviation = spread.mean_and_spread(both)
    np.testing.assert_allclose(mean.data, values.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(deviation.data, values.std(axis=0, ddof=1))
    assert (mean.name(), deviation.name()) == ("air_temperature", "air_temperature_spread")


def test_members_that_started_at_different_times(two_years: Cube) -> None:
    members = []
    for start in range(3):
        member = two_years.copy()
        periods = AuxCoord(np.arange(24.0) + start, "forecast_period", units="days")
        member.add_aux_coord(periods, 0)
        members.append(member)
    both = spread.ensemble(members)
    assert both.shape == (3, 24, 3, 4)
    assert not both.coords("forecast_period")


def test_members_that_do_not_fit(two_years: Cube) -> None:
    other = two_years.copy()
    other.units = "Pa"
    with pytest.raises(DataError, match="do not fit together"):
        spread.ensemble([two_years, other])


def test_a_trend_is_the_slope_of_polyfit(two_years: Cube) -> None:
    values = np.random.default_rng(9).normal(size=(20, 3, 4)).cumsum(axis=0)
    annual = monthly(np.full(20, 365.25), values, "1981-01-01")
    annual = steps.annual_mean(annual)
    result = spread.trend(annual)
    years = annual.coord("year").points
    expected = np.polyfit(years, values.reshape(20, -1), 1)[0].reshape(3, 4)
    np.testing.assert_allclose(result.data, 10 * expected, rtol=1e-9)
    assert result.units == "K / (10 year)"
    with pytest.raises(DataError, match="has one year"):
        spread.trend(annual[:1])


def test_percentiles_over_time(two_years: Cube) -> None:
    result = spread.percentiles(two_years, [5, 50, 95])
    expected = np.percentile(two_years.data, [5, 50, 95], axis=0)
    order = [result.coord_dims("percentile_over_time")[0]]
    np.testing.assert_allclose(np.moveaxis(result.data, order[0], 0), expected)
    assert result.units == two_years.units


@pytest.mark.parametrize("percents", [[50], [5, 50, 95]])
@pytest.mark.parametrize("group", [1, 1000, 2**24])
def test_percentiles_of_lazy_data_are_the_same(
    two_years: Cube, percents: list[float], group: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("places.GROUP", group)
    data = np.ma.array(two_years.data, "f8", copy=True)
    data[:, 0, 0] = np.ma.masked
    data[3:9, 1, 1] = np.ma.masked
    cube = two_years.copy(data=da.from_array(data, chunks=(5, 1, -1)))
    result = spread.percentiles(cube, percents)
    found = np.ma.filled(result.data, np.nan)
    if len(percents) > 1:
        found = np.moveaxis(found, result.coord_dims("percentile_over_time")[0], 0)
    found = found.reshape(len(percents), *data.shape[1:])
    for place in np.ndindex(data.shape[1:]):
        values = data[(slice(None), *place)].compressed()
        expected = np.percentile(values, percents) if len(values) else [np.nan] * len(percents)
        np.testing.assert_allclose(found[(slice(None), *place)], expected)
    assert np.ma.getmaskarray(result.data).sum() == len(percents)
