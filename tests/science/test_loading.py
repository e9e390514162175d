"""Files of a dataset become one cube, or a sentence says why not; against netCDF4 and NumPy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cftime
import iris
import iris_sample_data
import netCDF4
import numpy as np
import pytest
from iris.coords import AuxCoord
from iris.cube import Cube, CubeList

import loading
import steps
from bad_data import DataError
from science.netcdf import LATITUDES, LONGITUDES, write
from science.test_steps import DAYS, LEAP, monthly


@pytest.fixture
def two_years() -> Cube:
    values = np.random.default_rng(3).normal(280, 10, (24, 3, 4))
    return monthly(np.concatenate([DAYS, LEAP]), values)


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(280, 10, shape).astype("f4")


def dates(cube: Cube) -> list[str]:
    return [f"{cell.point.year}-{cell.point.month:02}" for cell in cube.coord("time").cells()]


def test_files_of_one_year_each_become_one_cube(tmp_path: Path, two_years: Cube) -> None:
    for number, part in enumerate((two_years[:12], two_years[12:])):
        part.attributes["history"] = f"written as part {number}"
        iris.save(part, tmp_path / f"{number}.nc")
    cube = loading.load([str(tmp_path / "0.nc"), str(tmp_path / "1.nc")], "air_temperature")
    np.testing.assert_array_equal(cube.data, two_years.data)
    assert "history" not in cube.attributes
    assert cube.attributes["source"] == "made for this test"


def test_a_constraint_takes_values_and_ranges_of_coordinates(
    tmp_path: Path, two_years: Cube
) -> None:
    path = str(tmp_path / "levels.nc")
    levels = [two_years.copy(), two_years.copy()]
    for level, cube in zip((850, 500), levels, strict=True):
        cube.add_aux_coord(AuxCoord(float(level), long_name="pressure", units="hPa"))
    iris.save(CubeList(levels).merge(), path)
    spec = {"name": "air_temperature", "coordinates": {"pressure": 500, "latitude": [-10, 90]}}
    cube = loading.load([path], spec)
    assert cube.coord("pressure").points == [500]
    assert list(cube.coord("latitude").points) == [0, 60]


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("wind", "matches the constraint 'wind'; it has: air_temperature"),
        (
            {"name": "air_temperature", "coordinates": {"latitude": [70, 80]}},
            "has latitude from 70 to 80: latitude has -60, 0, 60 degrees",
        ),
    ],
)
def test_a_constraint_that_matches_nothing(
    tmp_path: Path, two_years: Cube, spec: object, sentence: str
) -> None:
    iris.save(two_years, tmp_path / "in.nc")
    with pytest.raises(DataError, match=sentence):
        loading.load([str(tmp_path / "in.nc")], spec)  # type: ignore[arg-type]


def test_more_than_one_cube(tmp_path: Path, two_years: Cube) -> None:
    other = two_years.copy()
    other.convert_units("celsius")
    iris.save([two_years, other], tmp_path / "in.nc")
    with pytest.raises(DataError, match="fits into 2 cubes, not one"):
        loading.load([str(tmp_path / "in.nc")], "air_temperature")


def test_files_with_their_own_time_reference(tmp_path: Path) -> None:
    values = random(3, 12, 3, 4)
    middle = np.arange(12) * 30.0 + 15
    files = [
        write(
            tmp_path / f"{year}.nc",
            values[n],
            middle,
            f"days since {year}-01-01",
            calendar="360_day",
        )
        for n, year in enumerate((1999, 2000, 2001))
    ]
    cube = loading.load(files, "air_temperature")
    assert dates(cube) == [f"{year}-{m:02}" for year in (1999, 2000, 2001) for m in range(1, 13)]
    np.testing.assert_array_equal(cube.data, values.reshape(36, 3, 4))


def test_a_file_for_each_month_with_a_scalar_time(tmp_path: Path) -> None:
    values = random(5, 3, 4)
    files = [
        write(tmp_path / f"{n}.nc", values[n], np.float64(1), f"hours since 2000-{n + 1:02}-01")
        for n in range(5)
    ]
    cube = loading.load(reversed(files), "air_temperature")
    assert dates(cube) == ["2000-01", "2000-02", "2000-03", "2000-04", "2000-05"]
    np.testing.assert_array_equal(cube.data, values)


def test_one_month_joins_files_of_many(tmp_path: Path) -> None:
    values = random(4, 3, 4)
    files = [
        write(tmp_path / "a.nc", values[:3], np.array([15.0, 45.0, 75.0])),
        write(tmp_path / "b.nc", values[3], np.float64(105)),
    ]
    cube = loading.load(files, "air_temperature")
    np.testing.assert_array_equal(cube.data, values)


def test_integer_and_real_times(tmp_path: Path) -> None:
    values = random(2, 2, 3, 4)
    files = [
        write(tmp_path / "a.nc", values[0], np.array([0, 31]), "days since 2000-01-01"),
        write(tmp_path / "b.nc", values[1], np.array([0.0, 744.0]), "hours since 2000-03-01"),
    ]
    cube = loading.load(files, "air_temperature")
    np.testing.assert_array_equal(cube.data, values.reshape(4, 3, 4))
    assert dates(cube) == ["2000-01", "2000-02", "2000-03", "2000-04"]


def test_calendars_that_agree_are_one_and_others_are_refused(tmp_path: Path) -> None:
    values = random(3, 2, 3, 4)
    files = [
        write(tmp_path / f"{n}.nc", values[n], 59.0 * n + np.array([15.0, 45.0]), calendar=calendar)
        for n, calendar in enumerate(("standard", "proleptic_gregorian", "365_day"))
    ]
    cube = loading.load(files[:2], "air_temperature")
    np.testing.assert_array_equal(cube.data, values[:2].reshape(4, 3, 4))
    assert dates(cube) == ["2000-01", "2000-02", "2000-03", "2000-04"]
    with pytest.raises(DataError, match=r"2\.nc differ: their calendars are standard and 365_day"):
        loading.load([files[0], files[2], files[1]], "air_temperature")


def test_what_differed_between_the_attributes_is_recorded(tmp_path: Path) -> None:
    values = random(2, 2, 3, 4)
    files = [
        write(
            tmp_path / f"{n}.nc",
            values[n],
            59.0 * n + np.array([15.0, 45.0]),
            of_file={"source_id": "A", "history": f"{n}", "tracking_id": f"{n}", **more},
            attributes={"original_name": f"T{n}"},
        )
        for n, more in enumerate([{"experiment_id": "historical"}, {"experiment_id": "ssp585"}])
    ]
    cube = loading.load(files, "air_temperature")
    assert cube.attributes["attributes_that_differed"] == "history, original_name, tracking_id"
    assert cube.attributes["experiment_id"] == "historical, ssp585"
    assert cube.attributes["source_id"] == "A"
    one = loading.load(files[:1], "air_temperature")
    assert "attributes_that_differed" not in one.attributes
    assert one.attributes["history"] == "0"
    assert "tracking_id" not in one.attributes


@pytest.mark.parametrize("key", ["source_id", "variant_label"])
def test_two_models_are_no_dataset(tmp_path: Path, key: str) -> None:
    files = [
        write(tmp_path / f"{n}.nc", random(1, 3, 4), np.array([30.0 * n]), of_file={key: f"m{n}"})
        for n in range(2)
    ]
    with pytest.raises(DataError, match=rf"0\.nc and .*1\.nc .*their {key} is m0 and m1"):
        loading.load(files, "air_temperature")


@pytest.mark.parametrize(
    "other",
    [
        {"levels": np.array([100000.00000001, 92500.00000001])},
        {"levels": np.array([100000, 92500], "f4")},
        {"levels": np.array([100000, 92500])},
        {"latitudes": LATITUDES + 1e-10},
        {"longitudes": LONGITUDES + 1e-10},
        {"longitudes": (LONGITUDES + 1e-6).astype("f4")},
        {"scalars": {"height": (2, "m")}},
        {"scalars": {"height": (2.0000000001, "m")}},
        {"scalars": {"height": (np.float32(2), "m")}},
        {"scalars": {"height": (200.0, "cm")}},
        {"scalars": {}},
    ],
    ids=str,
)
def test_coordinates_that_differ_by_rounding(tmp_path: Path, other: dict[str, Any]) -> None:
    values = random(2, 2, 2, 3, 4)
    same: dict[str, Any] = {
        "levels": np.array([100000.0, 92500.0]),
        "scalars": {"height": (2.0, "m")},
    }
    files = [
        write(tmp_path / "a.nc", values[0], np.array([15.0, 45.0]), **same),
        write(tmp_path / "b.nc", values[1], np.array([75.0, 105.0]), **{**same, **other}),
    ]
    cube = loading.load(files, "air_temperature")
    np.testing.assert_array_equal(cube.data, values.reshape(4, 2, 3, 4))
    np.testing.assert_array_equal(cube.coord("air_pressure").points, [100000, 92500])
    np.testing.assert_array_equal(cube.coord("latitude").points, LATITUDES)
    if other.get("scalars") != {}:
        assert cube.coord("height").points == [2]


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        (
            {"latitudes": LATITUDES + 1e-3},
            r"latitude has -60 to 60 .* and -59.999 to 60.001",
        ),
        ({"latitudes": LATITUDES[:2]}, r"differ: .*latitude has -60 to 60.*3.* and -60 to 0.*2"),
        ({"scalars": {"height": (10.0, "m")}}, "height has 2 m and 10 m"),
        ({"attributes": {"units": "celsius"}}, r"units differs: Unit\('K'\) != Unit\('celsius'\)"),
        ({"attributes": {"cell_methods": "time: maximum"}}, "cell_methods differ"),
    ],
)
def test_files_that_do_not_fit(tmp_path: Path, other: dict[str, Any], sentence: str) -> None:
    same: dict[str, Any] = {"scalars": {"height": (2.0, "m")}}
    shape = (2, len(other.get("latitudes", LATITUDES)), 4)
    files = [
        write(tmp_path / "a.nc", random(2, 3, 4), np.array([15.0, 45.0]), **same),
        write(tmp_path / "b.nc", random(2, 3, 4), np.array([75.0, 105.0]), **same),
        write(tmp_path / "c.nc", random(*shape), np.array([135.0, 165.0]), **{**same, **other}),
    ]
    with pytest.raises(DataError, match=sentence) as refused:
        loading.load(files, "air_temperature")
    assert "fits into 2 cubes, not one" in str(refused.value)
    assert f"{files[0]} and {files[2]} differ" in str(refused.value)


@pytest.mark.parametrize("start", [28.0, 31.0, 45.0, 50.0])
def test_files_that_overlap(tmp_path: Path, start: float) -> None:
    files = [
        write(tmp_path / "0.nc", random(2, 3, 4), np.array([-45.0, -15.0])),
        write(tmp_path / "a.nc", random(3, 3, 4), np.array([15.0, 45.0, 75.0])),
        write(tmp_path / "b.nc", random(3, 3, 4), start + np.array([0.0, 28.0, 60.0])),
    ]
    first = cftime.num2date(max(start, 15), "days since 2000-01-01").strftime("%Y-%m-%d")
    with pytest.raises(DataError) as refused:
        loading.load(files, "air_temperature")
    assert f"{files[1]} and {files[2]} overlap: both have data of {first}" in str(refused.value)


def test_the_same_month_in_two_files(tmp_path: Path) -> None:
    files = [
        write(tmp_path / f"{n}.nc", random(3, 4), np.float64(month * 30 + 15))
        for n, month in enumerate((0, 1, 1, 2))
    ]
    with pytest.raises(DataError, match=r"1\.nc and .*2\.nc overlap: both have data of 2000-02-15"):
        loading.load(files, "air_temperature")


def test_times_of_two_files_that_alternate(tmp_path: Path) -> None:
    files = [
        write(tmp_path / f"{n}.nc", random(2, 3, 4), np.array([15.0, 75.0]) + 30 * n)
        for n in range(2)
    ]
    with pytest.raises(DataError, match=r"0\.nc and .*1\.nc overlap"):
        loading.load(files, "air_temperature")


def unpacked(path: str, name: str = "ta") -> np.ma.MaskedArray:
    """Unpack by the formula of CF: value * scale_factor + add_offset."""
    with netCDF4.Dataset(path) as file:
        variable = file[name]
        variable.set_auto_maskandscale(False)
        stored, fill = variable[:], variable.getncattr("_FillValue")
        scale = float(getattr(variable, "scale_factor", 1))
        offset = float(getattr(variable, "add_offset", 0))
        return np.ma.masked_where(stored == fill, stored.astype("f8") * scale + offset)


def test_packed_files_with_scales_of_their_own(tmp_path: Path) -> None:
    """As ERA5 was: shorts in netCDF classic, hours since 1900, gaps."""
    values = np.ma.array(random(3, 2, 3, 4), mask=False)
    values[1, 0, 0, 1] = values[2, 1, 2, 3] = np.ma.masked
    files = []
    for n, part in enumerate(values):
        scale, offset = np.float64(part.std() / 5000), np.float64(part.mean())
        packing = {"dtype": "i2", "_FillValue": -32767, "missing_value": np.int16(-32767)}
        if n < 2:
            packing |= {"scale_factor": scale, "add_offset": offset}
        else:
            packing = {"dtype": "f4", "_FillValue": np.float32(-32767)}
        hours = np.array([876576, 876576 + 744], "i4") + 1488 * n
        files.append(
            write(
                tmp_path / f"{n}.nc",
                part,
                hours,
                "hours since 1900-01-01 00:00:00.0",
                calendar="gregorian",
                packing=packing,
                file_format="NETCDF3_64BIT_OFFSET",
            )
        )
    cube = loading.load(files, "air_temperature")
    assert cube.has_lazy_data() or cube.data.size < 1000
    expected = np.ma.concatenate([unpacked(file) for file in files])
    np.testing.assert_array_equal(np.ma.getmaskarray(cube.data), np.ma.getmaskarray(expected))
    np.testing.assert_allclose(cube.data.compressed(), expected.compressed(), rtol=1e-6)
    np.testing.assert_allclose(cube.data.compressed(), values.compressed(), atol=2e-3)
    assert dates(cube)[0] == "2000-01"


def test_cells_end_at_the_poles(two_years: Cube, tmp_path: Path) -> None:
    two_years.coord("latitude").points = [-90, 0, 90]
    two_years.coord("latitude").bounds = [[-100, -45], [-45, 45], [45, 100]]
    iris.save(two_years, tmp_path / "in.nc")
    cube = loading.load([str(tmp_path / "in.nc")], "air_temperature")
    assert cube.coord("latitude").bounds.tolist() == [[-90, -45], [-45, 45], [45, 90]]


@pytest.mark.filterwarnings("ignore:Not all file objects were parsed")
def test_reanalysis_as_the_climate_data_store_delivers_it(tmp_path: Path) -> None:
    """Times named valid_time, a text for each of them, latitudes from the north."""
    values = random(2, 12, 3, 4)
    files = []
    for n, part in enumerate(values):
        path = tmp_path / f"{n}.nc"
        with netCDF4.Dataset(path, "w") as file:
            firsts = [cftime.datetime(2000 + n, month + 1, 1) for month in range(12)]
            seconds = cftime.date2num(firsts, "seconds since 1970-01-01")
            axes = {"valid_time": seconds, "latitude": [60.0, 0, -60], "longitude": LONGITUDES}
            for name, points in axes.items():
                file.createDimension(name, len(points))
                variable = file.createVariable(name, "i8" if "time" in name else "f8", (name,))
                variable[:] = points
            file["valid_time"].setncatts(
                {
                    "standard_name": "time",
                    "long_name": "time",
                    "units": "seconds since 1970-01-01",
                    "calendar": "proleptic_gregorian",
                }
            )
            file["latitude"].setncatts({"standard_name": "latitude", "units": "degrees_north"})
            file["longitude"].setncatts({"standard_name": "longitude", "units": "degrees_east"})
            file.createVariable("number", "i8", ())[...] = 0
            file.createVariable("expver", str, ("valid_time",))[:] = np.array(["0001"] * 12, "O")
            options = {"fill_value": np.float32("nan"), "zlib": True}
            variable = file.createVariable("t2m", "f4", tuple(axes), **options)
            variable.setncatts({"long_name": "2 metre temperature", "units": "K"})
            variable.coordinates = "number valid_time latitude longitude expver"
            variable[:] = part
        files.append(str(path))
    cube = loading.load(files, "t2m", "celsius")
    np.testing.assert_allclose(cube.data, values.reshape(24, 3, 4) - 273.15, atol=1e-4)
    annual = steps.annual_mean(cube)
    np.testing.assert_allclose(annual.data, values.mean(axis=1) - 273.15, atol=1e-3)
    steps.save(annual, str(tmp_path / "out.nc"))
    assert steps.load_result(str(tmp_path / "out.nc")).coord("year").points.tolist() == [2000, 2001]


def test_gaps_in_real_numbers_that_are_nan_or_filled(tmp_path: Path) -> None:
    values = np.ma.array(random(2, 3, 4), mask=False)
    values[1, 2, 3] = np.ma.masked
    packing = {"_FillValue": np.float32(1e20)}
    file = write(tmp_path / "in.nc", values, np.array([15.0, 45.0]), packing=packing)
    cube = loading.load([file], "air_temperature")
    np.testing.assert_array_equal(np.ma.getmaskarray(cube.data), values.mask)


def test_a_file_without_the_level_leaves_no_gap(tmp_path: Path) -> None:
    levels = np.array([85000.0, 50000.0])
    values = random(3, 2, 2, 3, 4)
    files = [
        write(tmp_path / f"{n}.nc", values[n], 59.0 * n + np.array([15.0, 45.0]), levels=points)
        for n, points in enumerate((levels, levels + 100, levels))
    ]
    spec = {"name": "air_temperature", "coordinates": {"pressure": "850 hPa"}}
    with pytest.raises(DataError, match=r"1\.nc has pressure 850 hPa, which other files have: "):
        loading.load(files, spec)
    cube = loading.load([files[0], files[2]], spec)
    np.testing.assert_array_equal(cube.data, values[[0, 2], :, 0].reshape(4, 3, 4))


def test_files_of_one_level_each(tmp_path: Path) -> None:
    values = random(4, 2, 3, 4)
    files = [
        write(
            tmp_path / f"{n}.nc",
            part,
            59.0 * (n // 2) + np.array([15.0, 45.0]),
            scalars={"air_pressure": ((85000.0, 50000.0)[n % 2], "Pa")},
        )
        for n, part in enumerate(values)
    ]
    both = loading.load(files, "air_temperature")
    assert both.coord("air_pressure").points.tolist() == [50000, 85000]
    order = [both.coord_dims("air_pressure")[0], both.coord_dims("time")[0]]
    found = np.moveaxis(both.data, order, [0, 1])
    np.testing.assert_array_equal(found[1], values[[0, 2]].reshape(4, 3, 4))
    spec = {"name": "air_temperature", "coordinates": {"pressure": "500 hPa"}}
    cube = loading.load(files, spec)
    np.testing.assert_array_equal(cube.data, values[[1, 3]].reshape(4, 3, 4))


@pytest.mark.filterwarnings("ignore:Missing CF-netCDF measure variable")
def test_an_ocean_whose_records_are_counted_anew_in_each_file() -> None:
    # Three months of NEMO: the dimension is a counter from zero, and time lies along it.
    folder = Path(iris_sample_data.path) / "NEMO"
    files = sorted(map(str, folder.glob("*.nc")))
    assert len(files) == 3
    cube = loading.load(files, "sea_surface_temperature")
    assert dates(cube) == ["2015-01", "2015-02", "2015-03"]
    assert not cube.coords("time_counter")
    assert cube.coord("time") in cube.dim_coords
    for number, path in enumerate(files):
        with netCDF4.Dataset(path) as file:
            np.testing.assert_array_equal(cube.data[number], file["tos"][0])
