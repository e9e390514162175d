"""Data that versions before took for something else: right now, or refused."""

from __future__ import annotations

from pathlib import Path

import cftime
import dask.array as da
import iris
import iris.util
import netCDF4
import numpy as np
import pytest
from cf_units import Unit
from iris.coord_systems import GeogCS, RotatedGeogCS
from iris.coords import AuxCoord, CellMethod, DimCoord
from iris.cube import Cube
from matplotlib.figure import Figure

import area_statistics
import coordinates
import derived
import grids
import loading
import maps
import multi_model
import seasons
import spread
import steps
from bad_data import DataError

MONTHS = Unit("days since 1850-01-01", calendar="standard")
#: Days of the months of 2001.
DAYS = np.array([31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])


def monthly(first: int, last: int, stamp: str = "middle", months: int = 12) -> Cube:
    """A cube of months whose value is the number of the month."""
    starts = [
        (cftime.datetime(year, month, 1), cftime.datetime(year + month // 12, month % 12 + 1, 1))
        for year in range(first, last + 1)
        for month in range(1, months + 1)
    ]
    bounds = np.array([[MONTHS.date2num(day) for day in pair] for pair in starts], float)
    points = {"middle": bounds.mean(axis=1), "end": bounds[:, 1], "start": bounds[:, 0]}[stamp]
    time = DimCoord(points, "time", units=MONTHS, bounds=bounds)
    values = np.array([pair[0].month for pair in starts], float)
    data = np.broadcast_to(values[:, None, None], (len(values), 2, 3)).copy()
    return Cube(
        data,
        "air_temperature",
        units="K",
        dim_coords_and_dims=[
            (time, 0),
            (DimCoord([-45.0, 45.0], "latitude", units="degrees"), 1),
            (DimCoord([0.0, 120.0, 240.0], "longitude", units="degrees"), 2),
        ],
    )


def loaded(cube: Cube, path: Path) -> Cube:
    iris.save(cube, path)
    return loading.load([str(path)], {"name": cube.name()})


@pytest.mark.parametrize("stamp", ["start", "middle", "end"])
def test_months_are_those_of_their_bounds(tmp_path: Path, stamp: str) -> None:
    cube = loaded(monthly(2001, 2003, stamp), tmp_path / "x.nc")
    usual = seasons.climatology(cube, [2001, 2003], "month")
    assert usual.coord("month_number").points.tolist() == list(range(1, 13))
    np.testing.assert_allclose(usual.data[:, 0, 0], range(1, 13))
    annual = steps.annual_mean(cube)
    assert annual.coord("year").points.tolist() == [2001, 2002, 2003]
    np.testing.assert_allclose(annual.data[0, 0, 0], np.average(range(1, 13), weights=DAYS))


def test_a_baseline_needs_nine_tenths_of_its_years() -> None:
    annual = steps.annual_mean(monthly(2000, 2018))
    assert steps.climatology(annual, [2000, 2019]).attributes["baseline"] == "2000-2019"
    with pytest.raises(DataError, match="has 19 of the 25 years 1995-2019; it covers 2000-2018"):
        steps.climatology(annual, [1995, 2019])
    with pytest.raises(DataError, match="has 19 of the 25 years 1995-2019"):
        seasons.climatology(monthly(2000, 2018), [1995, 2019], "month")


@pytest.mark.parametrize(
    ("part", "months"),
    [
        (slice(0, 3), "January to March"),
        (slice(0, None, 12), "January"),
        (slice(6, 12), "July to December"),
        (slice(0, 36), None),
        (slice(0, 15), None),
    ],
)
@pytest.mark.parametrize("has_bounds", [True, False])
def test_a_mean_of_a_part_of_a_year_says_so(
    part: slice, months: str | None, has_bounds: bool
) -> None:
    cube = monthly(2001, 2004)[part]
    if not has_bounds:
        cube.coord("time").bounds = None
    annual = steps.annual_mean(cube)
    # One time a year without bounds may stand for the year.
    expected = None if part.step and not has_bounds else months
    assert annual.attributes.get("part_of_year") == expected
    normal = steps.climatology(annual, [2001, 2001])
    figure = maps.plot_map(steps.anomaly(annual, normal), "It")
    texts = [text.get_text() for text in figure.texts] + [axis.get_title() for axis in figure.axes]
    assert any(f"({months})" in text for text in texts) == (expected is not None)


def test_a_time_now_and_then_covers_its_year() -> None:
    days = np.arange(2, 365, 5.0)
    time = DimCoord(days, "time", units="days since 2001-01-01", bounds=days[:, None] + [0.0, 1.0])
    cube = Cube(days, "air_temperature", units="K", dim_coords_and_dims=[(time, 0)])
    np.testing.assert_allclose(steps.annual_mean(cube).data, [days.mean()])


@pytest.mark.parametrize("lazy", [True, False])
def test_no_number_is_a_gap(tmp_path: Path, lazy: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    cube = monthly(2001, 2002)
    cube.data[:, 0, 0] = np.nan
    monkeypatch.setattr(steps, "SMALL", 0 if lazy else 2**24)
    found = loaded(cube, tmp_path / "x.nc")
    annual = steps.annual_mean(found)
    assert np.ma.getmaskarray(annual.data)[:, 0, 0].all()
    assert not np.ma.getmaskarray(annual.data)[:, 1].any()
    assert np.isfinite(area_statistics.area_mean(annual).data).all()


def test_a_rotated_model_comes_to_its_place_on_the_common_grid() -> None:
    system = RotatedGeogCS(39.25, -162.0, ellipsoid=GeogCS(6371229.0))
    rows = DimCoord(
        np.arange(-20, 20.5, 0.5), "grid_latitude", units="degrees", coord_system=system
    )
    columns = DimCoord(
        np.arange(-20, 20.5, 0.5), "grid_longitude", units="degrees", coord_system=system
    )
    mesh = np.meshgrid(columns.points, rows.points)
    _, latitudes = iris.analysis.cartography.unrotate_pole(*mesh, -162.0, 39.25)
    cube = Cube(latitudes, "latitude", units="degrees")
    cube.add_dim_coord(rows, 0)
    cube.add_dim_coord(columns, 1)
    found = multi_model.on_grid(cube, {"step": 1, "scheme": "linear"})
    there = np.broadcast_to(found.coord("latitude").points[:, None], found.shape)
    data = np.ma.masked_invalid(found.data)
    assert data.count() > 500
    assert np.ma.abs(data - there).max() < 0.05


def test_a_grid_of_which_the_pole_is_not_known_is_not_regridded() -> None:
    cube = Cube(np.zeros((3, 4)), "air_temperature", units="K")
    cube.add_dim_coord(DimCoord(np.arange(3.0), "grid_latitude", units="degrees"), 0)
    cube.add_dim_coord(DimCoord(np.arange(4.0), "grid_longitude", units="degrees"), 1)
    places = np.zeros((3, 4))
    cube.add_aux_coord(AuxCoord(places + 50, "latitude", units="degrees"), (0, 1))
    cube.add_aux_coord(AuxCoord(places + 10, "longitude", units="degrees"), (0, 1))
    with pytest.raises(DataError, match=r"cannot be regridded: .* irregular"):
        grids.regrid(cube, 10)


def test_series_of_models_have_one_unit() -> None:
    year = DimCoord(np.arange(2000, 2004, dtype="i4"), long_name="year")
    first = Cube([1.0, 2.0, 3.0, 4.0], "air_pressure_at_mean_sea_level", units="Pa")
    second = Cube([0.01, 0.02, 0.03, 0.06], "air_pressure_at_mean_sea_level", units="hPa")
    for cube in (first, second):
        cube.add_dim_coord(year, 0)
    found = multi_model.series({"one": first, "two": second})
    mean = next(cube for cube in found if "mean" in cube.name())
    np.testing.assert_allclose(mean.data, [1.0, 2.0, 3.0, 5.0])
    assert second.units == "hPa"


def test_the_nearest_longitude_is_near() -> None:
    longitude = DimCoord([5.0, 15.0, 25.0], "longitude", units="degrees")
    cube = Cube(np.arange(3.0), "air_temperature", units="K", dim_coords_and_dims=[(longitude, 0)])
    for value in (200, 31, -1):
        with pytest.raises(DataError):
            coordinates.extract(cube, {"longitude": {"nearest": value}})
    for value, expected in ((29, 2), (361, 0), (-340, 1)):
        found = coordinates.extract(cube, {"longitude": {"nearest": value}})
        assert float(found.data) == expected


def test_the_only_level_is_not_the_nearest_of_all() -> None:
    cube = Cube(np.arange(3.0), "air_temperature", units="K")
    cube.add_aux_coord(AuxCoord(500.0, "air_pressure", units="hPa"))
    with pytest.raises(DataError):
        coordinates.extract(cube, {"air_pressure": {"nearest": "850 hPa"}})
    assert coordinates.extract(cube, {"air_pressure": {"nearest": "50000 Pa"}}) == cube
    layer = AuxCoord(500.0, "air_pressure", units="hPa", bounds=[450.0, 550.0])
    cube.replace_coord(layer)
    assert coordinates.extract(cube, {"air_pressure": {"nearest": "520 hPa"}}) == cube


@pytest.mark.parametrize(
    ("part", "first", "expected"),
    [
        ("month", 0, [(2001, 1, 1), (2003, 2, 1)]),
        ("month", 11, [(2001, 12, 1), (2004, 1, 1)]),
        ("season", "djf", [(2000, 12, 1), (2004, 3, 1)]),
        ("season", "jja", [(2001, 6, 1), (2003, 9, 1)]),
    ],
)
def test_climatologies_say_over_which_parts_of_years(
    tmp_path: Path, part: str, first: int | str, expected: list[tuple[int, int, int]]
) -> None:
    usual = seasons.climatology(monthly(2001, 2003), [2001, 2003], part)
    steps.save(usual, str(tmp_path / "x.nc"))
    found = steps.load_result(str(tmp_path / "x.nc"))
    time = found.coord("time")
    assert time.climatological
    names = found.coord("season" if part == "season" else "month_number").points.tolist()
    place = names.index(first) if part == "season" else first
    dates = [MONTHS.num2date(bound) for bound in time.bounds[place]]
    assert [(date.year, date.month, date.day) for date in dates] == expected
    said = [str(each) for each in found.cell_methods]
    assert said[-2:] == ["time: mean within years", "time: mean over years"]


def with_gaps() -> np.ma.MaskedArray:
    """Straight lines through ten years at three places, one of which lacks its last year."""
    years = np.arange(10.0)
    lines = np.ma.array(288 + years[:, None] * [0.02, 0.5, -0.1] + np.sin(years)[:, None])
    lines[9, 1] = np.ma.masked
    lines[:5, 2] = np.ma.masked
    return lines


@pytest.mark.parametrize("lazy", [True, False])
def test_a_trend_is_that_of_the_years_that_are_there(lazy: bool) -> None:
    values = with_gaps()
    year = DimCoord(np.arange(2000, 2010, dtype="i4"), long_name="year")
    annual = Cube(values, "air_temperature", units="K", dim_coords_and_dims=[(year, 0)])
    if lazy:
        annual.data = da.from_array(values, chunks=(4, 2))
    found = spread.trend(annual).data
    for place in (0, 1):
        there = ~values.mask[:, place]
        expected = np.polyfit(np.arange(10)[there], values.data[there, place], 1)[0]
        assert found[place] == pytest.approx(10 * expected, rel=1e-9)
    # Half of the years are not enough.
    assert np.ma.getmaskarray(found).tolist() == [False, False, True]


def test_a_place_without_data_has_no_trend() -> None:
    values = with_gaps()
    values[:, 0] = np.ma.masked
    year = DimCoord(np.arange(2000, 2010, dtype="i4"), long_name="year")
    annual = Cube(values, "air_temperature", units="K", dim_coords_and_dims=[(year, 0)])
    assert np.ma.getmaskarray(spread.trend(annual).data).tolist() == [True, False, True]


def test_models_agree_on_nothing_where_there_is_nothing() -> None:
    values = np.zeros((10, 4))
    # No change at all; one model of ten; half of them, of which four agree; all of them.
    values[:, 1:3] = np.nan
    values[0, 1] = 1.0
    values[:5, 2] = [1, 1, 1, 1, -1]
    values[:, 3] = 2.0
    year = DimCoord(np.arange(4.0), long_name="place")
    models = {
        str(n): Cube(
            da.ma.masked_invalid(da.from_array(row)),
            "air_temperature",
            units="K",
            dim_coords_and_dims=[(year, 0)],
        )
        for n, row in enumerate(values)
    }
    found = multi_model.statistics(models, signed=True)
    agreement = next(cube for cube in found if cube.var_name == "agreement").data
    assert np.ma.getmaskarray(agreement).tolist() == [True, True, False, False]
    np.testing.assert_allclose(agreement.compressed(), [0.8, 1.0])


@pytest.mark.parametrize(("units", "expected"), [("celsius", 8.0), ("degF", 8 / 1.8), ("K", 8.0)])
def test_a_difference_of_temperatures_is_in_kelvin(units: str, expected: float) -> None:
    highest = Cube([20.0], "air_temperature", units=units)
    lowest = Cube([12.0], "air_temperature", units=units)
    for cube, method in ((highest, "maximum"), (lowest, "minimum")):
        cube.add_cell_method(CellMethod(method, "time"))
        cube.add_cell_method(CellMethod("mean", "area"))
    found = derived.evaluate("tx - tn", {"tx": highest, "tn": lowest}, "range")
    assert str(found.units) == "K"
    np.testing.assert_allclose(found.data, [expected])
    assert [str(each) for each in found.cell_methods] == ["area: mean"]


def test_a_column_that_is_there_twice_counts_once(tmp_path: Path) -> None:
    longitude = DimCoord(np.arange(0, 361, 10.0), "longitude", units="degrees")
    latitude = DimCoord([-45.0, 45.0], "latitude", units="degrees")
    time = DimCoord([0.0], "time", units="days since 2000-01-01")
    data = np.zeros((1, 2, 37))
    data[..., [0, 36]] = 1.0
    cube = Cube(data, "air_temperature", units="K")
    for number, coord in enumerate((time, latitude, longitude)):
        cube.add_dim_coord(coord, number)
    found = loaded(cube, tmp_path / "x.nc")
    assert found.shape == (1, 2, 36)
    np.testing.assert_allclose(area_statistics.area_mean(found).data, 1 / 36)
    box = grids.extract_region(found, [-20, -90, 20, 90])
    assert sorted(box.coord("longitude").points % 360) == [0, 10, 20, 340, 350]


@pytest.mark.parametrize("step", [7, 50, 0.7])
def test_a_crooked_grid_is_refused(step: float) -> None:
    with pytest.raises(DataError, match="does not divide 180"):
        grids.regrid(monthly(2001, 2001), step)


def test_members_of_other_times_are_no_ensemble() -> None:
    def member(first: int) -> Cube:
        cube = monthly(first, first)
        cube.add_aux_coord(AuxCoord(np.arange(12.0), "forecast_period", units="days"), 0)
        iris.util.promote_aux_coord_to_dim_coord(cube, "forecast_period")
        return cube

    with pytest.raises(DataError, match="The members do not fit together: their times differ"):
        spread.ensemble([member(2001), member(2011)])


def test_a_single_member_has_no_spread() -> None:
    with pytest.raises(DataError, match="has 1 member, and a spread needs two"):
        spread.mean_and_spread(spread.ensemble([monthly(2001, 2001)]))


def test_models_that_cannot_be_compared_are_left_out() -> None:
    def field(units: str = "K", order: tuple[int, ...] = (0, 1)) -> Cube:
        cube = monthly(2001, 2001)[0]
        cube.remove_coord("time")
        cube.units = units
        cube.transpose(order)
        cube.data = cube.lazy_data()
        return cube

    models = multi_model.Models()
    models.add("without units", lambda: field("unknown"))
    models.add("first", field)
    models.add("other order", lambda: field(order=(1, 0)))
    models.add("no units", lambda: field("no_unit"))
    assert list(models.kept) == ["first", "other order"]
    assert models.left_out.keys() == {"without units", "no units"}
    found = multi_model.statistics(models.kept, signed=False)
    np.testing.assert_allclose(found[0].data, 1.0)


@pytest.mark.parametrize("units", ["months since 2000-01-01", "years since 2000-01-01"])
def test_times_that_cannot_be_read_are_named(tmp_path: Path, units: str) -> None:
    path = tmp_path / "x.nc"
    iris.save(monthly(2001, 2001), path)
    with netCDF4.Dataset(path, "a") as file:
        file["time"].units = units
    with pytest.raises(DataError, match=r"x\.nc") as caught:
        loading.load([str(path)], {"name": "air_temperature"})
    assert units in str(caught.value)


def sentence_of(figure: Figure) -> str:
    return " ".join(text.get_text() for text in figure.texts)


def anomalies(baseline: str) -> Cube:
    annual = steps.annual_mean(monthly(2001, 2003))
    annual.attributes["baseline"] = baseline
    return annual


def test_where_there_is_no_map_a_sentence_says_why() -> None:
    station = anomalies("2001-2002")[:, 0, 0]
    assert "of a single place" in sentence_of(maps.plot_map(station, "A station"))
    levels = iris.util.new_axis(anomalies("2001-2002"))
    levels.add_dim_coord(DimCoord([850.0], "air_pressure", units="hPa"), 0)
    assert "air_pressure" in sentence_of(maps.plot_map(levels, "Levels"))


def test_a_baseline_may_lie_before_the_year_one() -> None:
    figure = maps.plot_map(anomalies("-20000--18000"), "The ice age")
    assert "-20000" in figure.axes[0].get_title()
