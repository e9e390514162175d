"""Regions by box and by name, on grids of all types, against NumPy."""

from __future__ import annotations

import csv
import itertools
from pathlib import Path

import numpy as np
import pytest
import yaml
from iris.coords import CellMeasure
from iris.cube import Cube

import area_statistics
import cells
import climate_data as data
import grids
import regions
import steps
from bad_data import DataError
from conftest import ROOT


def place(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A value that tells the place: 1000 times the latitude, plus the longitude from 0 to 360."""
    return np.round(1000 * (y + 90), 6) + np.round(x % 360, 6)


GRIDS = {
    "0-360": data.regular(place, (36, 72)),
    "180": data.regular(place, (36, 72), box=(-180, -90, 180, 90)),
    "north first": data.regular(place, (36, 72), north_first=True),
    "rotated": data.rotated(place),
    "tripolar": data.tripolar(place),
    "mesh": data.mesh(place),
    "unstructured": data.mesh(place, node_coords_only=True),
}


def values_in_box(cube: Cube, west: float, south: float, east: float, north: float) -> list[float]:
    """The values of all cells in a box from -180 to 180, by their own arithmetic."""
    x, y = cells.centres(cube)
    x = np.where(x % 360 > 180, x % 360 - 360, x % 360)
    across = west > east
    between = (x >= west) | (x <= east) if across else (x >= west) & (x <= east)
    return sorted(cube.data[between & (y >= south) & (y <= north)])


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize(
    "box",
    [(-10, 35, 30, 60), (350, 35, 30, 60), (170, -40, -150, 70), (-180, 40, 180, 90)],
    ids=["across Greenwich", "0-360", "across the date line", "all around"],
)
def test_a_box_holds_the_cells_whose_centres_lie_in_it(
    name: str, box: tuple[float, float, float, float]
) -> None:
    cube = GRIDS[name]
    west, south, east, north = box
    expected = values_in_box(cube, west - 360 if west > 180 else west, south, east, north)
    many = data.in_years(cube, np.zeros(2))
    lazy = many.copy(many.lazy_data())
    if not expected:
        with pytest.raises(DataError, match="nothing can be extracted: no cell lies in"):
            grids.extract(lazy, region=list(box))
        return
    part = grids.extract(lazy, region=list(box))
    assert part.has_lazy_data()
    for year in part.data:
        np.testing.assert_array_equal(np.sort(np.ma.compressed(year)), expected)
    # What is around the region is left out, not masked.
    assert part.data.size < many.data.size
    if np.ma.isMaskedArray(part.data):
        kept = ~np.ma.getmaskarray(part.data[0])
        assert all(kept.any(axis=axis)[[0, -1]].all() for axis in range(kept.ndim))


# Cities and their region, by the map of Iturbide et al. (2020).
PLACES = {
    "MED": (12.5, 41.9),
    "NEU": (-0.1, 51.5),
    "WCE": (2.35, 48.85),
    "SAS": (77.2, 28.6),
    "NES": (-38.5, -12.9),
    "CNA": (-95.4, 39.0),
    "RAR": (-175.0, 67.0),
    "SPO": (178.4, -17.0),
    "NZ": (174.8, -41.3),
    "EAN": (0.0, -90.0),
    "ARO": (-180.0, 90.0),
    "SOO": (180.0, -60.0),
}


@pytest.mark.parametrize("name", PLACES)
@pytest.mark.parametrize("turn", [0, 360, -360])
def test_places_lie_in_their_region_and_no_other(name: str, turn: int) -> None:
    x, y = np.array([PLACES[name][0] + turn]), np.array([PLACES[name][1]])
    assert [each for each in regions.ipcc() if regions.inside(each, x, y).all()] == [name]


@pytest.mark.parametrize("offset", [0, 0.5])
def test_each_place_lies_in_one_region(offset: float) -> None:
    x, y = np.meshgrid(np.arange(0, 360, 2.0) + offset, np.arange(-90, 90.1, 2) + offset)
    found = sum(regions.inside(name, x, np.clip(y, -90, 90)).astype(int) for name in regions.ipcc())
    assert (found == 1).mean() > 0.9998
    assert found.max() <= 2


def test_the_schema_names_the_regions() -> None:
    schema = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text())
    _box, named = schema["$defs"]["region"]["anyOf"]
    assert named["enum"] == sorted(regions.ipcc())
    with regions.TABLE.open() as file:
        rows = list(csv.reader(line for line in file if not line.startswith("#")))
    assert {row[3].rstrip("*") for row in rows[1:]} == set(regions.ipcc())


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("name", ["MED", "RAR", "NPO", "EAN", "ARO"])
def test_a_named_region_holds_its_cells(grid: str, name: str) -> None:
    cube = GRIDS[grid]
    x, y = cells.centres(cube)
    # By crossings of a ray to the east, in plain Python.
    inside = np.array(
        [_in_region(name, a, b) for a, b in zip(x.ravel(), y.ravel(), strict=True)]
    ).reshape(x.shape)
    if not inside.any():
        with pytest.raises(DataError, match=f"no cell lies in {name}"):
            grids.extract(cube, region=name)
        return
    part = grids.extract(cube, region=name)
    assert sorted(np.ma.compressed(part.data)) == sorted(cube.data[inside])
    assert part.data.size < cube.data.size


def _in_region(name: str, x: float, y: float) -> bool:
    x = (x + 180) % 360 - 180
    crossings = 0
    for polygon in regions.ipcc()[name].geoms:
        corners = list(polygon.exterior.coords)
        for (x0, y0), (x1, y1) in itertools.pairwise(corners):
            if (y0 >= y) != (y1 >= y) and x <= x0 + (y - y0) / (y1 - y0) * (x1 - x0):
                crossings += 1
    return crossings % 2 == 1


def test_a_region_that_is_none() -> None:
    with pytest.raises(DataError, match="There is no region 'ATLANTIS'; the IPCC's are ARO, ARP"):
        grids.extract(GRIDS["180"], region="ATLANTIS")


@pytest.mark.parametrize("grid", ["0-360", "tripolar", "mesh"])
def test_cell_measures_stay_with_their_cells(grid: str) -> None:
    cube = GRIDS[grid].copy()
    dims = tuple(range(cube.ndim))
    cube.add_cell_measure(CellMeasure(cube.data, "cell_area", units="m2", measure="area"), dims)
    part = grids.extract(cube, region=[-10, 35, 30, 60])
    (measure,) = part.cell_measures()
    assert measure.name() == "cell_area"
    kept = ~np.ma.getmaskarray(part.data)
    np.testing.assert_array_equal(measure.data[kept], part.data[kept])


@pytest.mark.parametrize(
    ("region", "label"),
    [
        ("MED", "MED"),
        ([-10, 35, 30, 60], "10W-30E 35N-60N"),
        ([350, -10.5, 30, 0], "10W-30E 10.5S-0"),
        ([0, 0, 190, 5], "0-170W 0-5N"),
    ],
)
def test_labels(region: list[float] | str, label: str) -> None:
    assert regions.label(region) == label


@pytest.mark.parametrize("grid", GRIDS)
def test_means_of_regions(grid: str, tmp_path: Path) -> None:
    cube = data.in_years(GRIDS[grid], np.array([0.0, 1.0, 5.0]))
    if grid == "0-360":
        # Bounds are guessed before a region leaves a single row.
        cube.coord("latitude").bounds = None
    wanted = ["WCE", [-10, 42.5, 30, 46], "MED"]
    found = area_statistics.regional_means(cube, wanted)
    assert found.coord("region").points.tolist() == ["WCE", "10W-30E 42.5N-46N", "MED"]
    assert found.shape == (3, 3)
    areas = cells.areas(GRIDS[grid])
    for row, region in zip(found.data, wanted, strict=True):
        inside = regions.inside(region, *cells.centres(GRIDS[grid]))
        expected = np.average(GRIDS[grid].data[inside], weights=areas[inside])
        np.testing.assert_allclose(row, expected + np.array([0, 1, 5]), rtol=1e-6)
    steps.save(found, str(tmp_path / "out.nc"))
    again = steps.load_result(str(tmp_path / "out.nc"))
    assert again.coord("region").points.tolist() == found.coord("region").points.tolist()
    assert area_statistics.regional_means(cube, ["MED"]).shape == (1, 3)
