"""Parts of the globe, and common grids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import iris
import iris.analysis
import iris.exceptions
import iris.util
import numpy as np
from iris.coord_systems import GeogCS
from iris.coords import AuxCoord, DimCoord
from iris.cube import Cube
from iris.fileformats.pp import EARTH_RADIUS

import cells
import regions
from bad_data import DataError

SCHEMES = {
    "linear": iris.analysis.Linear(extrapolation_mode="mask"),
    "nearest": iris.analysis.Nearest(extrapolation_mode="mask"),
    "area_weighted": iris.analysis.AreaWeighted(mdtol=0.5),
}


#: Rounding of the number of points of a grid.
TOLERANCE = 1e-6


def extract(
    cube: Cube,
    region: Sequence[float] | str | None = None,
    levels: Mapping[str, Sequence[float]] | None = None,
    years: Sequence[int] | None = None,
) -> Cube:
    """Take part of a cube; what is not touched is not read.

    Parameters
    ----------
    cube : Cube
        With the coordinates that are asked for.
    region : sequence of float or str, optional
        West, south, east and north in degrees, in any convention of longitudes; the west
        may be east of the east, across the end of the longitudes.  Or the acronym of a
        reference region of the IPCC.  See `extract_region`.
    levels : mapping of str to sequence of float, optional
        For a vertical coordinate, its lowest and highest value.
    years : sequence of int, optional
        First and last calendar year.

    Returns
    -------
    Cube
        Lazy as `cube` is.

    Raises
    ------
    DataError
        If nothing is left, or a coordinate is missing.
    """
    result = cube
    try:
        if region is not None:
            result = extract_region(result, region)
        for name, (low, high) in (levels or {}).items():
            inside = lambda cell, low=low, high=high: low <= cell.point <= high  # noqa: E731
            result = result.extract(iris.Constraint(coord_values={name: inside}))
            if result is None:
                raise IndexError(f"{name} has no value from {low} to {high}")
        if years is not None:
            first, last = years
            within = iris.Constraint(time=lambda cell: first <= cell.point.year <= last)
            result = result.extract(within)
            if result is None:
                raise IndexError(f"no time is in {first}-{last}")
    except (IndexError, iris.exceptions.CoordinateNotFoundError) as error:
        raise DataError(f"{cube.name()}: nothing can be extracted: {error}.") from error
    return result


def extract_region(cube: Cube, region: Sequence[float] | str) -> Cube:
    """Take the cells of a cube whose centres lie in a region.

    Parameters
    ----------
    cube : Cube
        On a grid of any type.
    region : sequence of float or str
        West, south, east and north in degrees, or the acronym of a region; see
        `regions.inside`.

    Returns
    -------
    Cube
        Rows and columns around the region, with cells outside of it masked; of an
        unstructured grid, its cells in the region.  Lazy as `cube` is; cell measures stay.

    Raises
    ------
    DataError
        If no cell lies in the region, or none of its name is known.
    """
    nothing = DataError(f"{cube.name()}: nothing can be extracted: no cell lies in {region}.")
    if cells.grid_type(cube) is cells.GridType.REGULAR:
        try:
            cube = _intersection(cube, *regions.box(region))
        except IndexError as error:
            raise nothing from error
        if not isinstance(region, str):
            return cube
    inside = regions.inside(region, *cells.centres(cube))
    if not inside.any():
        raise nothing
    dims = cells.horizontal_dims(cube)
    index: list[Any] = [slice(None)] * cube.ndim
    if cells.grid_type(cube) is cells.GridType.UNSTRUCTURED:
        index[dims[0]] = np.flatnonzero(inside)
        return cube[tuple(index)]
    cut: list[Any] = []
    for number, dim in enumerate(dims):
        others = tuple(axis for axis in range(len(dims)) if axis != number)
        kept = np.flatnonzero(inside.any(axis=others))
        index[dim] = slice(kept[0], kept[-1] + 1)
        cut.append(index[dim])
    cube, inside = cube[tuple(index)], inside[tuple(cut)]
    return cube if inside.all() else iris.util.mask_cube(cube, ~inside, dim=dims)


def _intersection(cube: Cube, west: float, south: float, east: float, north: float) -> Cube:
    """Take the rows and columns of a regular grid within a box.

    Iris drops cell measures where the box crosses the end of the longitudes
    (https://github.com/SciTools/iris/issues/5413), so they pass as coordinates.
    """
    measures = cube.cell_measures()
    cube = cube.copy()
    for number, measure in enumerate(measures):
        stand_in = AuxCoord(measure.core_data(), long_name=f"cell measure {number}")
        cube.add_aux_coord(stand_in, cube.cell_measure_dims(measure))
        cube.remove_cell_measure(measure)
    cube = cube.intersection(longitude=(west, east), latitude=(south, north), ignore_bounds=True)
    for number, measure in enumerate(measures):
        stand_in = cube.coord(f"cell measure {number}")
        dims = cube.coord_dims(stand_in)
        cube.remove_coord(stand_in)
        cube.add_cell_measure(measure.copy(stand_in.core_points()), dims)
    return cube


def regrid(cube: Cube, step: float, scheme: str = "linear") -> Cube:
    """Bring a cube to a regular grid of the globe.

    Parameters
    ----------
    cube : Cube
        With horizontal dimensions.
    step : float
        Degrees between the points of latitude and longitude.
    scheme : str
        "linear", "nearest", or "area_weighted", which keeps area means.

    Returns
    -------
    Cube
        On points from half a step after the south pole and Greenwich, with bounds.

    Raises
    ------
    DataError
        If Iris cannot regrid from the grid of the cube by this scheme.
    """
    if abs(180 / step - round(180 / step)) > TOLERANCE:
        raise DataError(f"{cube.name()} cannot be regridded: {step:g} does not divide 180.")
    sphere = GeogCS(EARTH_RADIUS)
    target = Cube(np.zeros((round(180 / step), round(360 / step)), "i1"))
    for dimension, (name, start, span) in enumerate(
        [("latitude", -90.0, 180.0), ("longitude", 0.0, 360.0)]
    ):
        points = start + step * (np.arange(round(span / step)) + 0.5)
        circular = {"circular": True} if name == "longitude" else {}
        coord = DimCoord(
            points, standard_name=name, units="degrees", coord_system=sphere, **circular
        )
        coord.guess_bounds()
        target.add_dim_coord(coord, dimension)
    source = cube.copy()
    try:
        kind = cells.grid_type(source)
        for axis in ("x", "y"):
            coord = source.coord(axis=axis, dim_coords=True)
            if scheme == "area_weighted" and not coord.has_bounds():
                coord.guess_bounds()
            if coord.coord_system is None:
                if kind is not cells.GridType.REGULAR:
                    raise ValueError(f"nobody says where the poles of its {kind.value} grid are.")
                coord.coord_system = sphere
        return source.regrid(target, SCHEMES[scheme])
    except (ValueError, KeyError, iris.exceptions.IrisError) as error:
        raise DataError(f"{cube.name()} cannot be regridded: {error}") from error
