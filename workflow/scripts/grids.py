"""Parts of the globe, and common grids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import iris
import iris.analysis
import iris.exceptions
import numpy as np
from iris.coord_systems import GeogCS
from iris.coords import DimCoord
from iris.cube import Cube
from iris.fileformats.pp import EARTH_RADIUS

from bad_data import DataError

SCHEMES = {
    "linear": iris.analysis.Linear(extrapolation_mode="mask"),
    "nearest": iris.analysis.Nearest(extrapolation_mode="mask"),
    "area_weighted": iris.analysis.AreaWeighted(mdtol=0.5),
}


def extract(
    cube: Cube,
    region: Sequence[float] | None = None,
    levels: Mapping[str, Sequence[float]] | None = None,
    years: Sequence[int] | None = None,
) -> Cube:
    """Take part of a cube; what is not touched is not read.

    Parameters
    ----------
    cube : Cube
        With the coordinates that are asked for.
    region : sequence of float, optional
        West, south, east and north in degrees; the west may be east of the east,
        across the end of the longitudes.
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
            west, south, east, north = region
            east += 360 if east < west else 0
            result = result.intersection(
                longitude=(west, east), latitude=(south, north), ignore_bounds=True
            )
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
        for axis in ("x", "y"):
            coord = source.coord(axis=axis, dim_coords=True)
            if scheme == "area_weighted" and not coord.has_bounds():
                coord.guess_bounds()
            if coord.coord_system is None:
                coord.coord_system = sphere
        return source.regrid(target, SCHEMES[scheme])
    except (ValueError, KeyError, iris.exceptions.IrisError) as error:
        raise DataError(f"{cube.name()} cannot be regridded: {error}") from error
