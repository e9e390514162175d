"""Figures of products, by what is written and drawn in them."""

from __future__ import annotations

import calendar
from collections.abc import Iterator
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
from iris.coords import AuxCoord, DimCoord
from iris.cube import Cube, CubeList
from matplotlib.figure import Figure

import climate_data as data
import product_figures
import seasons
import spread
import steps


@pytest.fixture(autouse=True)
def _coarse(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("maps.PIXELS", 20_000)
    yield
    plt.close("all")


def field(name: str = "air_temperature", units: str = "K", middle: float = 280.0) -> Cube:
    cube = data.regular(lambda x, y: middle + y / 9)
    cube.rename(name)
    cube.units = units
    return cube


def monthly(name: str = "air_temperature", units: str = "K", middle: float = 280.0) -> Cube:
    """Three years of months, warmer by a tenth each month."""
    first = field(name, units, middle)
    edges = np.cumsum([0, *[31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] * 3])
    time = DimCoord(
        (edges[:-1] + edges[1:]) / 2,
        "time",
        units="days since 2001-01-01",
        bounds=np.stack([edges[:-1], edges[1:]], axis=1),
    )
    time.units = time.units.__class__(str(time.units), calendar="365_day")
    values = first.data[None] + 0.1 * np.arange(36)[:, None, None]
    y, x = first.dim_coords
    return Cube(values, name, units=units, dim_coords_and_dims=[(time, 0), (y, 1), (x, 2)])


def titles(figure: Figure) -> list[str]:
    return [axis.get_title() for axis in figure.axes if axis.images and axis.get_title()]


def colours(figure: Figure) -> set[str]:
    return {image.get_cmap().name for axis in figure.axes for image in axis.images}


def label(figure: Figure) -> str:
    return str(figure.axes[-1].get_xlabel())


def heading(figure: Figure) -> str:
    return figure.get_suptitle()


@pytest.mark.parametrize(
    ("part", "names"),
    [
        ("season", ["DJF", "MAM", "JJA", "SON"]),
        (
            "month",
            list(calendar.month_name)[1:],
        ),
    ],
)
def test_each_part_of_the_year_has_its_map(part: str, names: list[str]) -> None:
    cube = seasons.climatology(monthly(), (2001, 2003), part)
    product = {"month": "monthly", "season": "seasonal"}[part] + "_climatology"
    figure = product_figures.draw(product, [cube], "Made", {})
    assert sorted(titles(figure)) == sorted(names)
    assert heading(figure) == f"Made: {product.replace('_', ' ')}"
    assert label(figure) == "Air temperature (K)"
    assert colours(figure) == {"viridis"}


def test_maps_of_one_figure_share_their_colours() -> None:
    cube = seasons.climatology(monthly(), (2001, 2003), "season")
    figure = product_figures.draw("seasonal_climatology", [cube], "Made", {})
    norms = [image.norm for axis in figure.axes for image in axis.images]
    assert len(norms) == 4
    assert all(np.array_equal(norms[0].boundaries, norm.boundaries) for norm in norms)
    drawn = np.concatenate([image.get_array().compressed() for image in figure.axes[0].images])
    assert norms[0].boundaries[0] <= drawn.min() + 1


@pytest.mark.parametrize(
    ("name", "units", "middle", "expected"),
    [
        ("eastward_wind", "m s-1", 0.0, "PuOr_r"),
        ("precipitation_minus_evaporation_flux", "kg m-2 s-1", 0.0, "BrBG"),
        ("eastward_wind", "m s-1", 40.0, "viridis"),
        # A few below zero are no second direction.
        ("eastward_wind", "m s-1", 9.0, "viridis"),
        # Zero degrees Celsius are no middle.
        ("air_temperature", "celsius", 0.0, "viridis"),
    ],
)
def test_zero_has_a_colour_where_it_is_a_middle(
    name: str, units: str, middle: float, expected: str
) -> None:
    cube = monthly(units=units, middle=middle)
    cube.rename(name)
    figure = product_figures.draw("regridded", [cube], "Made", {})
    assert colours(figure) == {expected}
    bounds = next(iter(figure.axes[0].images)).norm.boundaries
    assert np.allclose(bounds, -bounds[::-1]) == (expected != "viridis")


def test_a_trend_says_of_how_many_years() -> None:
    cube = spread.trend(steps.annual_mean(monthly()))
    figure = product_figures.draw("trend", [cube], "Made", {})
    assert label(figure).endswith("(K per 10 years)")
    assert colours(figure) == {"RdBu_r"}
    image = next(iter(figure.axes[0].images))
    # A tenth each month.
    assert np.allclose(image.get_array().compressed(), 12, rtol=0.01)


def test_levels_and_percentiles_are_named() -> None:
    level = DimCoord([850.0, 500.0], "air_pressure", units="hPa")
    cubes = CubeList()
    for point in level.points:
        each = monthly()
        each.add_aux_coord(DimCoord(point, "air_pressure", units="hPa"))
        cubes.append(each)
    figure = product_figures.draw("regridded", [cubes.merge_cube()], "Made", {})
    assert set(titles(figure)) == {"Air pressure 850 hPa", "Air pressure 500 hPa"}
    cube = spread.percentiles(monthly(), [5, 95])
    assert titles(product_figures.draw("percentiles", [cube], "Made", {})) == ["5 %", "95 %"]


def test_an_anomaly_of_times_is_a_line() -> None:
    cube = monthly()
    normal = seasons.climatology(cube, (2001, 2003), "month")
    figure = product_figures.draw(
        "monthly_anomaly", [seasons.anomaly(cube, normal, "month")], "Made", {}
    )
    (axis,) = figure.axes
    line = axis.lines[0]
    assert line.get_xdata()[0] == pytest.approx(2001 + 15 / 365, abs=0.01)
    # Each month is a tenth warmer than the one before, so 1.2 K than that of the year before.
    np.testing.assert_allclose(line.get_ydata(), np.repeat([-1.2, 0, 1.2], 12), atol=1e-3)


def test_an_ensemble_has_its_mean_and_its_spread() -> None:
    cubes = []
    for number in range(3):
        cube = monthly(middle=280.0 + number)
        cube.add_aux_coord(AuxCoord(np.int32(number), "realization", units="1"))
        cubes.append(cube)
    found = spread.mean_and_spread(spread.ensemble(cubes))
    # The order of a file is that of names.
    for given in (found, found[::-1]):
        figure = product_figures.draw("ensemble", list(given), "Made", {})
        upper, lower = (axis for axis in figure.axes if axis.images)
        assert upper.get_title() == "Made: ensemble, mean"
        assert np.allclose(lower.images[0].get_array().compressed(), 1)
        assert colours(figure) == {"viridis", "Purples"}


def draw_without_map(cube: Any) -> str:
    figure = product_figures.draw("extracted", [cube], "Made", {})
    assert not figure.axes
    return " ".join(text.get_text() for text in figure.texts)


def test_what_cannot_be_a_map_is_a_sentence() -> None:
    series = monthly()[:, 0, 0]
    assert "it has no horizontal dimension" in draw_without_map(series)
    many = data.in_years(field(), np.arange(13.0))
    many.remove_coord("time")
    assert "it would have 13 maps" in draw_without_map(many)
