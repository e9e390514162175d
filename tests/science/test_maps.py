"""Maps, by the colours of pixels at places whose values are known."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cartopy.crs as ccrs
import matplotlib.pyplot as plt
import numpy as np
import pytest
from iris.coords import AuxCoord, DimCoord
from iris.cube import Cube
from matplotlib.figure import Figure
from PIL import Image

import climate_data as data
import colours
import figures
import grids
import labels
import maps
import views
from bad_data import DataError
from conftest import ROOT

#: West, south, east and north of boxes with the value 3; elsewhere it is -3.
BOXES = [(-10, 38, 30, 62), (115, -35, 155, -12), (-80, -20, -45, 8), (170, 60, 200, 75)]

#: Degrees from the edge of a box within which a coarse cell may lie on either side.
NEAR = 6.0


def boxes(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.where(depth(x, y) > 0, 3.0, -3.0)


def depth(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """How deep points lie in a box, in degrees; below zero outside of all."""
    found = []
    for west, south, east, north in BOXES:
        from_west = (x - west + 180) % 360 - 180
        sides = [from_west, (east - west) - from_west, y - south, north - y]
        found.append(np.min(sides, axis=0))
    return np.asarray(np.max(found, axis=0))


def anomaly(field: Cube, years: int = 30, baseline: str = "1961-1970") -> Cube:
    cube = data.in_years(field, np.zeros(years), 1961)
    cube.rename("air_temperature_anomaly")
    cube.attributes["baseline"] = baseline
    return cube


@pytest.fixture(autouse=True)
def _coarse(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("maps.PIXELS", 150_000)
    yield
    plt.close("all")


#: Pictures of grids and projections, to be looked at.
PICTURES = ROOT / "build/maps"


def keep(figure: Figure, *names: str) -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    figure.savefig(PICTURES / f"{' '.join(filter(None, names))}.png")


def pixels(figure: Figure) -> np.ndarray:
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].astype(int)  # type: ignore[attr-defined]


def positions(figure: Figure, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Columns and rows of the pixels of places; NaN outside of the map."""
    axis: Any = figure.axes[0]
    placed = axis.projection.transform_points(ccrs.Geodetic(), x, y)[:, :2]
    west, east = axis.get_xlim()
    south, north = axis.get_ylim()
    margin = 0.01 * (east - west)
    inside = (placed > [west + margin, south + margin]) & (placed < [east - margin, north - margin])
    if "PolarStereo" in type(axis.projection).__name__:
        # A disc.
        inside &= np.hypot(*placed.T)[:, None] < east - margin
    found = axis.transData.transform(np.where(inside.all(axis=1, keepdims=True), placed, np.nan))
    found[:, 1] = figure.canvas.get_width_height()[1] - found[:, 1]
    return np.asarray(found)


def colours_at(figure: Figure, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """For each place "red", "blue" or "white"; what most pixels around it are."""
    image = pixels(figure)
    found = []
    for column, row in positions(figure, x, y):
        if not np.isfinite(column):
            found.append("")
            continue
        c, r = round(column), round(row)
        around = image[r - 3 : r + 4, c - 3 : c + 4].reshape(-1, 3)
        red, _, blue = np.median(around, axis=0)
        found.append("red" if red > blue + 30 else "blue" if blue > red + 30 else "white")
    return np.array(found)


@pytest.fixture(scope="module")
def places() -> tuple[np.ndarray, np.ndarray]:
    chance = np.random.default_rng(4)
    return chance.uniform(-180, 180, 3000), np.rad2deg(np.arcsin(chance.uniform(-1, 1, 3000)))


GRIDS = {
    "0-360": data.regular(boxes, (60, 120)),
    "180, north first": data.regular(boxes, (60, 120), (-180, -90, 180, 90), north_first=True),
    "tripolar": data.tripolar(boxes, (90, 120), halo=True),
    "tripolar without bounds": data.tripolar(boxes, (90, 120), bounds=False, west=73),
    "mesh": data.mesh(boxes, 30),
    "unstructured": data.mesh(boxes, 30, node_coords_only=True),
}
VIEWS: list[dict[str, Any]] = [
    {},
    {"projection": "plate_carree", "central_longitude": 200},
    {"projection": "north_polar_stereographic"},
    {"projection": "south_polar_stereographic", "central_longitude": 90},
    {"projection": "mollweide", "central_longitude": -100},
]


@pytest.mark.parametrize(
    ("grid", "settings"),
    [(grid, VIEWS[0]) for grid in GRIDS] + [("tripolar", view) for view in VIEWS[1:]],
    ids=[*GRIDS, *(view["projection"] for view in VIEWS[1:])],
)
def test_colours_lie_where_the_data_lies(
    grid: str, settings: dict[str, Any], places: tuple[np.ndarray, np.ndarray]
) -> None:
    x, y = places
    figure = maps.plot_map(anomaly(GRIDS[grid]), "Made", settings)
    keep(figure, grid, settings.get("projection", ""))
    # The curvilinear grid without bounds has no cells right at the south pole.
    sure = (np.abs(depth(x, y)) > NEAR) & (y > -88)
    found = colours_at(figure, x[sure], y[sure])
    expected = np.where(depth(x[sure], y[sure]) > 0, "red", "blue")
    shown = found != ""
    assert shown.sum() > 100
    wrong = shown & (found != expected)
    # A fjord may be more ink than colour.
    assert wrong.sum() <= 0.01 * shown.sum(), list(
        zip(x[sure][wrong], y[sure][wrong], found[wrong], strict=True)
    )


@pytest.mark.parametrize("settings", [{}, {"projection": "plate_carree"}])
def test_a_regional_grid_is_shown_where_it_is_and_nowhere_else(settings: dict[str, Any]) -> None:
    figure = maps.plot_map(anomaly(data.rotated(boxes)), "Made", settings)
    keep(figure, "rotated", settings.get("projection", ""))
    # In and around the domain of EURO-CORDEX: Berlin, Cairo, the Azores, the Norwegian Sea.
    x, y = np.array([13.4, 31.2, -28.0, 3.0]), np.array([52.5, 30.0, 38.5, 68.0])
    found = colours_at(figure, x, y).tolist()
    assert found in (["red", "blue", "white", "blue"], ["red", "blue", "", "blue"])


@pytest.mark.parametrize("grid", ["180, north first", "tripolar", "mesh"])
def test_a_region_across_the_date_line_is_one_piece(grid: str) -> None:
    region = grids.extract(GRIDS[grid], region=[150, 45, -150, 80])
    figure = maps.plot_map(anomaly(region), "Made")
    assert isinstance(figure.axes[0].projection, ccrs.LambertConformal)  # type: ignore[attr-defined]
    x, y = np.array([185.0, 160.0, -160.0, 180.0]), np.array([68.0, 55.0, 55.0, 50.0])
    assert colours_at(figure, x, y).tolist() == ["red", "blue", "blue", "blue"]


# Capes: Roca, Agulhas, Comorin, Leeuwin, Horn, Florida Bay, North Cape, Dezhnev, and the ice
# shelves of Ross and Amery.
SHORES = np.array(
    [
        (-9.5, 38.8), (20.0, -34.8), (77.5, 8.1), (115.1, -34.4), (-67.3, -56.0), (-81.1, 25.1),
        (25.8, 71.2), (-169.7, 66.1), (180.0, -77.9), (72.0, -68.7),
    ]
)  # fmt: skip
OPEN = np.array(
    [
        (0.0, 0.0), (-30.0, 32.0), (-130.0, -32.0), (-160.0, 33.0), (70.0, -32.0), (23.0, 22.0),
        (134.0, -25.0), (-50.0, -8.0), (0.0, 87.0), (-100.0, -82.0), (-40.0, 72.0), (0.0, -62.0),
    ]
)  # fmt: skip


@pytest.mark.parametrize("settings", VIEWS, ids=lambda view: view.get("projection", "chosen"))
def test_coastlines_lie_where_they_are_and_nowhere_else(settings: dict[str, Any]) -> None:
    cube = anomaly(data.regular(lambda x, y: 0 * x))
    figure = maps.plot_map(cube, "Made", settings)
    dark = pixels(figure).max(axis=-1) < 110

    def ink(points: np.ndarray) -> list[int]:
        found = positions(figure, *points.T)
        found = found[np.isfinite(found).all(axis=1)].round().astype(int)
        return [int(dark[r - 5 : r + 6, c - 5 : c + 6].sum()) for c, r in found]

    assert min(ink(SHORES)) > 0
    assert max(ink(OPEN + 0.3)) == 0


@pytest.mark.parametrize(
    ("field", "name"),
    [
        (data.regular(boxes), "robinson"),
        (data.tripolar(boxes), "robinson"),
        (data.mesh(boxes), "robinson"),
        (data.rotated(boxes), "lambert_conformal"),
        (data.regular(boxes, box=(0, -30, 360, 30)), "plate_carree"),
        (data.regular(boxes, box=(-20, -35, 50, 35)), "plate_carree"),
        (data.regular(boxes, box=(-120, 30, -60, 50)), "lambert_conformal"),
        (data.regular(boxes, box=(110, -45, 160, -15)), "lambert_conformal"),
        (data.regular(boxes, box=(0, 60, 360, 90)), "north_polar_stereographic"),
        (data.regular(boxes, box=(0, -90, 360, -50)), "south_polar_stereographic"),
    ],
)
def test_the_projection_suits_the_place(field: Cube, name: str) -> None:
    view = views.choose_view(field)
    assert view.name == name
    assert views.choose_view(field, "mollweide").name == "mollweide"


def test_the_place_is_that_of_cells_with_data() -> None:
    field = data.regular(boxes)
    y = field.coord("latitude").points[:, None]
    field.data = np.ma.masked_where(np.broadcast_to(y < 65, field.shape), field.data)
    assert views.choose_view(field).name == "north_polar_stereographic"
    field.data[:] = np.ma.masked
    with pytest.raises(DataError, match="has no data at a known place"):
        views.choose_view(field)


def test_a_projection_that_shows_no_globe() -> None:
    with pytest.raises(DataError, match="lies all around the Earth, and the projection"):
        views.choose_view(data.regular(boxes), "lambert_conformal")


def test_a_map_shows_one_field() -> None:
    made = Cube(np.zeros((2, 2, 18, 36)), long_name="made_anomaly", attributes={"baseline": "1-1"})
    field = data.regular(boxes)
    made.add_dim_coord(DimCoord([500.0, 850], long_name="pressure", units="hPa"), 1)
    made.add_dim_coord(field.coord("latitude"), 2)
    made.add_dim_coord(field.coord("longitude"), 3)
    made.add_aux_coord(AuxCoord([1961, 1962], long_name="year"), 0)
    figure = maps.plot_map(made, "Made")
    assert "dimensions pressure, latitude, longitude" in " ".join(
        text.get_text().replace("\n", " ") for text in figure.texts
    )


def test_where_the_map_would_show_the_baseline_there_is_a_sentence() -> None:
    # Ten years of data, all of them the baseline: what differs is rounding.
    noise = anomaly(data.regular(lambda x, y: 1e-9 * np.sin(x)), 10, "1951-1970")
    figure = maps.plot_map(noise, "Sea ice")
    assert not figure.axes
    sentence = " ".join(text.get_text() for text in figure.texts)
    assert "There is no map: the last 10 years of the data are its baseline" in sentence
    missing = anomaly(data.regular(boxes))
    missing.data = np.ma.masked_all(missing.shape)
    text = maps.plot_map(missing, "Made").texts[-1]
    assert "missing everywhere" in text.get_text()
    # Thirty years, of which the last twenty are not all of the baseline.
    assert maps.plot_map(anomaly(data.regular(boxes), 30, "1961-1990"), "Made").axes


@pytest.mark.parametrize(
    ("largest", "step", "count"),
    [(3.0, 0.5, 6), (0.43, 0.1, 5), (8.0, 1, 8), (9.9, 2, 5), (1.9e-8, 2.5e-9, 8), (0.0, 0.2, 5)],
)
def test_levels_are_round_and_the_same_on_both_sides(
    largest: float, step: float, count: int
) -> None:
    levels = colours.symmetric_levels(np.ma.array([-largest, largest / 2] * 50))
    np.testing.assert_allclose(levels, step * np.arange(-count, count + 1), atol=step * 1e-9)


@pytest.mark.parametrize(
    ("units", "label"),
    [
        ("m s-1", "m s$^{-1}$"),
        ("kg m-2 s-1", "kg m$^{-2}$ s$^{-1}$"),
        ("celsius", "°C"),
        ("degC", "°C"),
        ("mm day^-1", "mm day$^{-1}$"),
        ("1e-3 kg", "1e-3 kg"),
        ("10^6 m2", "10$^{6}$ m$^{2}$"),
        ("W/m2", "W/m$^{2}$"),
        ("1", ""),
        ("%", "%"),
        ("(K) / (10 year)", "K per 10 years"),
        ("(kg m-2 s-1) / (10 year)", "kg m$^{-2}$ s$^{-1}$ per 10 years"),
        ("1 / (10 year)", "per 10 years"),
    ],
)
def test_units_as_in_print(units: str, label: str) -> None:
    assert labels.units_label(units) == label


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("air_temperature_anomaly", "RdBu_r"),
        ("sea_water_temperature_anomaly", "RdBu_r"),
        ("precipitation_flux_anomaly", "BrBG"),
        ("specific_humidity_anomaly", "BrBG"),
        ("eastward_wind_anomaly", "PuOr_r"),
    ],
)
def test_colours_by_quantity(name: str, expected: str) -> None:
    assert colours.colour_map(name) == expected


def test_figures_are_saved_for_screens_and_print(tmp_path: Path) -> None:
    for name in "ab":
        series = anomaly(data.regular(boxes))[:, 0, 0]
        series.units = "m s-1"
        figure = figures.plot_series([figures.Series("One", "Panel", series, (1961, 1970))])
        assert figure.axes[0].get_ylabel() == "Air temperature anomaly\n(m s$^{-1}$)"
        figures.save(figure, str(tmp_path / f"{name}.png"), str(tmp_path / f"{name}.pdf"))
    with Image.open(tmp_path / "a.png") as image:
        assert round(image.info["dpi"][0]) == 200
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")
    for kind in ("png", "pdf"):
        assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()
