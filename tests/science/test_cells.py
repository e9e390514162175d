"""Cells of all kinds of grids: areas, and which cell holds a point."""

from __future__ import annotations

from pathlib import Path

import iris
import iris.util
import numpy as np
import pytest
from iris.coord_systems import GeogCS, LambertConformal, PolarStereographic
from iris.coords import DimCoord
from iris.cube import Cube

import area_statistics
import cells
import climate_data as data
import loading
import steps
from bad_data import DataError
from cells import GridType

#: The radius that Iris takes where a cube has none, in metres.
RADIUS = 6367470.0

#: That of `climate_data.EUROPE` and of the projections here.
LARGER = 6371229.0


def wave(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return 280 + 20 * np.sin(np.deg2rad(y)) ** 2 + np.cos(np.deg2rad(2 * x)) * np.cos(np.deg2rad(y))


def by_lhuilier(cube: Cube) -> np.ndarray:
    """Areas of four-cornered cells in steradians, each cut into two triangles."""
    boxes = [cube.coord(name).bounds for name in ("longitude", "latitude")]
    a, b, c, d = np.moveaxis(data.vectors(*boxes), -2, 0)
    return data.triangle_areas(a, b, c) + data.triangle_areas(a, c, d)


@pytest.mark.parametrize(
    ("cube", "kind"),
    [
        (data.regular(wave), GridType.REGULAR),
        (data.rotated(wave), GridType.PROJECTED),
        (data.tripolar(wave), GridType.IRREGULAR),
        (data.mesh(wave), GridType.UNSTRUCTURED),
        (data.mesh(wave, node_coords_only=True), GridType.UNSTRUCTURED),
    ],
)
def test_the_type_of_a_grid(cube: Cube, kind: GridType) -> None:
    assert cells.grid_type(cube) is kind
    assert cells.horizontal_dims(cube) == tuple(range(cube.ndim))


@pytest.mark.parametrize("step", [1.0, 0.1])
@pytest.mark.parametrize("south", [-60.0, 0.0, 45.0, 80.0])
def test_polygons_come_near_cells_between_circles_of_latitude(south: float, step: float) -> None:
    x = np.array([[10.0, 10 + step, 10 + step, 10.0]])
    y = np.array([[south, south, south + step, south + step]])
    (found,) = cells.polygon_areas(x, y)
    expected = np.deg2rad(step) * np.ptp(np.sin(np.deg2rad(y)))
    # A great circle leaves the circle of latitude towards the pole, by a share that
    # shrinks with the square of the step.
    assert found == pytest.approx(expected, rel=1e-3 * step**2)


def test_an_octant_has_an_eighth_of_the_sphere() -> None:
    (found,) = cells.polygon_areas(np.array([[0.0, 90.0, 0.0]]), np.array([[0.0, 0.0, 90.0]]))
    assert found == pytest.approx(np.pi / 2, rel=1e-14)


def test_a_small_polygon_keeps_its_digits() -> None:
    step = 1e-4
    x, y = np.array([[20, 20 + step, 20 + step, 20]]), np.array([[50, 50, 50 + step, 50 + step]])
    expected = np.deg2rad(step) * np.ptp(np.sin(np.deg2rad(y)))
    assert cells.polygon_areas(x, y)[0] == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize(
    "cube",
    [
        data.regular(wave),
        data.regular(wave, box=(-180, -90, 180, 90), north_first=True),
        data.tripolar(wave),
        data.tripolar(wave, halo=True),
        data.mesh(wave),
        data.mesh(wave, node_coords_only=True),
    ],
    ids=["0-360", "180, north first", "tripolar", "halo", "mesh", "unstructured"],
)
def test_cells_that_cover_the_globe_add_up_to_it(cube: Cube) -> None:
    assert cells.areas(cube).sum() == pytest.approx(4 * np.pi * RADIUS**2, rel=1e-5)
    series = area_statistics.area_mean(data.in_years(cube, np.arange(3.0)))
    # The mean of sin² φ over the sphere is 1/3, and of the wave 0.
    np.testing.assert_allclose(series.data, 280 + 20 / 3 + np.arange(3), atol=0.1)


def test_areas_on_a_tripolar_grid_by_another_formula() -> None:
    cube = data.tripolar(wave)
    expected = by_lhuilier(cube)
    np.testing.assert_allclose(cells.areas(cube), RADIUS**2 * expected, rtol=1e-5, atol=1e3)
    mask = np.random.default_rng(1).random(cube.shape) < 0.3
    masked = cube.copy(np.ma.array(cube.data, mask=mask))
    series = area_statistics.area_mean(data.in_years(masked, np.zeros(1)))
    mean = (expected * cube.data)[~mask].sum() / expected[~mask].sum()
    np.testing.assert_allclose(series.data, mean, rtol=1e-9)


def test_cells_that_a_tripolar_grid_repeats_count_once() -> None:
    cube = data.tripolar(wave, halo=True)
    inner = cube[:-1, :-2]
    found, expected = (
        area_statistics.area_mean(data.in_years(each, np.zeros(1))).data for each in (cube, inner)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    # The one that counts is one with data.
    masked = cube.copy(np.ma.array(cube.data, mask=False))
    masked.data[:, :2] = np.ma.masked
    found = area_statistics.area_mean(data.in_years(masked, np.zeros(1))).data
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_a_cell_measure_comes_first() -> None:
    cube = data.tripolar(wave, bounds=False, cell_area=True)
    series = area_statistics.area_mean(data.in_years(cube, np.zeros(1)))
    weights = np.ones(cube.shape)
    weights[0] = 2
    np.testing.assert_allclose(series.data, np.average(cube.data, weights=weights), rtol=1e-12)


def test_areas_on_a_rotated_grid_are_those_of_its_own_coordinates() -> None:
    cube = data.rotated(wave)
    bounds = {
        name: np.deg2rad(cube.coord(name).bounds) for name in ("grid_latitude", "grid_longitude")
    }
    expected = np.outer(
        np.ptp(np.sin(bounds["grid_latitude"]), axis=1), np.ptp(bounds["grid_longitude"], axis=1)
    )
    np.testing.assert_allclose(cells.areas(cube), LARGER**2 * expected, rtol=1e-6)
    series = area_statistics.area_mean(data.in_years(cube, np.zeros(1)))
    np.testing.assert_allclose(series.data, np.average(cube.data, weights=expected), rtol=1e-6)
    assert not series.coord_dims("latitude")


def test_areas_on_the_plane_of_a_stereographic_projection() -> None:
    system = PolarStereographic(90, 0, ellipsoid=GeogCS(LARGER))
    edges = np.linspace(-1000, 1000, 21)
    coords = [
        DimCoord(
            (edges[:-1] + edges[1:]) / 2,
            standard_name=f"projection_{axis}_coordinate",
            units="km",
            bounds=np.stack([edges[:-1], edges[1:]], axis=1),
            coord_system=system,
        )
        for axis in "yx"
    ]
    cube = Cube(np.zeros((20, 20)), dim_coords_and_dims=[(c, i) for i, c in enumerate(coords)])
    middle = 1e3 * coords[0].points
    # The scale is 2 / (1 + sin φ) = 1 + (d / 2r)², with the distance d from the pole.
    scale = 1 + (middle[:, None] ** 2 + middle[None] ** 2) / (2 * LARGER) ** 2
    np.testing.assert_allclose(cells.areas(cube), 1e10 / scale**2, rtol=1e-4)


def test_dimensions_in_another_order() -> None:
    cube = data.in_years(data.tripolar(wave), np.arange(2.0))
    expected = area_statistics.area_mean(cube).data
    cube.transpose([2, 0, 1])
    np.testing.assert_allclose(area_statistics.area_mean(cube).data, expected, rtol=1e-12)
    for field in (data.rotated(wave), data.regular(wave)):
        cube = data.in_years(field, np.arange(2.0))
        expected = area_statistics.area_mean(cube).data
        cube.transpose([2, 0, 1])
        np.testing.assert_allclose(area_statistics.area_mean(cube).data, expected, rtol=1e-12)


def test_radians_are_converted() -> None:
    cube = data.mesh(wave, node_coords_only=True)
    expected = cells.areas(cube)
    for name in ("longitude", "latitude"):
        cube.coord(name).convert_units("radians")
    np.testing.assert_allclose(cells.areas(cube), expected, rtol=1e-9)


def test_what_is_missing_is_named() -> None:
    with pytest.raises(DataError, match="irregular grid of which no areas are known: it needs a"):
        area_statistics.area_mean(data.tripolar(wave, bounds=False))
    # A station is its own mean.
    station = data.rotated(wave)[0, 0]
    assert area_statistics.area_mean(station) == station
    row = data.regular(wave)[:1]
    area_statistics.area_mean(row)
    row.coord("latitude").bounds = None
    with pytest.raises(DataError, match="air_temperature has no bounds of its latitude, and from"):
        area_statistics.area_mean(row)


@pytest.mark.filterwarnings("ignore:invalid value encountered in cast:RuntimeWarning")
@pytest.mark.parametrize(
    "field",
    [
        data.tripolar(wave, halo=True),
        data.tripolar(wave, bounds=False, cell_area=True),
        data.rotated(wave),
        data.mesh(wave),
        data.mesh(wave, node_coords_only=True),
    ],
    ids=["tripolar", "measure", "rotated", "mesh", "unstructured"],
)
def test_what_areas_need_survives_the_steps_of_the_workflow(field: Cube, tmp_path: Path) -> None:
    cube = data.in_years(field, np.array([0.0, 1.0, 4.0]))
    expected = area_statistics.area_mean(cube).data
    # Iris would have taken the bounds of the cube that it averages.
    assert cells.corners(cube) is not None or cube.cell_measures()
    cube.remove_coord("year")
    iris.save(cube, tmp_path / "in.nc")
    loaded = loading.load([str(tmp_path / "in.nc")], "air_temperature")
    steps.save(steps.annual_mean(loaded), str(tmp_path / "annual.nc"))
    series = area_statistics.area_mean(steps.load_result(str(tmp_path / "annual.nc")))
    np.testing.assert_allclose(series.data, expected, rtol=1e-9)
    steps.save(series, str(tmp_path / "series.nc"))
    assert steps.load_result(str(tmp_path / "series.nc")).shape == (3,)


def test_a_cube_that_is_nowhere() -> None:
    with pytest.raises(DataError, match="made is on no known grid"):
        area_statistics.area_mean(Cube(np.zeros((3, 4)), long_name="made"))


def test_lazy_data_stays_lazy() -> None:
    cube = data.in_years(data.tripolar(wave), np.arange(4.0))
    expected = area_statistics.area_mean(cube).data
    lazy = cube.copy(cube.lazy_data().rechunk((1, -1, -1)))
    series = area_statistics.area_mean(lazy)
    assert series.has_lazy_data()
    np.testing.assert_allclose(series.data, expected, rtol=1e-12)


@pytest.mark.parametrize(
    "cube",
    [
        data.regular(wave),
        data.regular(wave, box=(-180, -90, 180, 90), north_first=True),
        iris.util.reverse(data.regular(wave), "longitude"),
        data.rotated(wave),
        data.tripolar(wave),
        data.tripolar(wave, halo=True, west=73),
        data.tripolar(wave, bounds=False),
        data.mesh(wave),
    ],
    ids=["0-360", "180, north first", "east first", "rotated", "tripolar", "halo", "bare", "mesh"],
)
def test_each_centre_lies_in_its_cell(cube: Cube) -> None:
    x, y = cells.centres(cube)
    found = cells.locate(cube, x + 360, y).ravel()
    places = data.vectors(x, y).reshape(-1, 3)
    assert (found >= 0).all()
    # A repeated cell may be found for another.
    distance = np.linalg.norm(places[found] - places, axis=1)
    if cells.corners(cube) is not None:
        assert distance.max() < 1e-6
    else:
        # Without bounds, cells next to the poles of the grid are a guess.
        assert (distance > 1e-6).mean() < 0.02


@pytest.mark.parametrize("cube", [data.tripolar(wave), data.mesh(wave)], ids=["tripolar", "mesh"])
def test_each_point_of_the_globe_lies_in_the_cell_around_it(cube: Cube) -> None:
    chance = np.random.default_rng(2)
    x, y = chance.uniform(-180, 180, 5000), np.rad2deg(np.arcsin(chance.uniform(-1, 1, 5000)))
    found = cells.locate(cube, x, y)
    assert (found >= 0).mean() > 0.999
    # Inside, the triangles from the point to the edges add up to the cell.
    polygons = cells.corners(cube)
    assert polygons is not None
    kept = found >= 0
    around = data.vectors(*(each.reshape(-1, 4)[found[kept]] for each in polygons))
    point = data.vectors(x, y)[kept]
    fans = sum(data.triangle_areas(point, around[:, k], around[:, (k + 1) % 4]) for k in range(4))
    whole = cells.polygon_areas(*(each.reshape(-1, 4)[found[kept]] for each in polygons))
    np.testing.assert_allclose(fans, whole, rtol=1e-4, atol=1e-7)


def test_no_cell_lies_outside_of_a_region() -> None:
    cube = data.rotated(wave)
    found = cells.locate(cube, np.array([10.0, -120.0, 10.0, np.nan]), np.array([50.0, 50, -60, 0]))
    assert (found >= 0).tolist() == [True, False, False, False]
    bare = data.tripolar(wave, bounds=False)[10:20]
    found = cells.locate(bare, np.array([0.0, 0.0]), np.array([60.0, -50.0]))
    assert (found >= 0).tolist() == [False, True]


def test_a_lambert_grid_is_a_projected_one() -> None:
    system = LambertConformal(50, 10, ellipsoid=GeogCS(LARGER))
    coords = [
        DimCoord(
            np.linspace(-1e6, 1e6, 11),
            standard_name=f"projection_{axis}_coordinate",
            units="m",
            coord_system=system,
        )
        for axis in "yx"
    ]
    cube = Cube(np.zeros((11, 11)), dim_coords_and_dims=[(c, i) for i, c in enumerate(coords)])
    assert cells.locate(cube, np.array([10.0]), np.array([50.0])).tolist() == [60]
    assert cells.areas(cube)[5, 5] == pytest.approx(4e10, rel=0.05)
