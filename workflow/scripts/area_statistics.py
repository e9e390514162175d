"""Statistics over the horizontal dimensions, weighted by the area of grid cells."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import dask.array as da
import iris.analysis
import iris.util
from iris.coords import AuxCoord
from iris.cube import Cube, CubeList
from iris.mesh import MeshCoord
from iris.warnings import IrisVagueMetadataWarning

import cells
import grids
import hybrid
import regions
from bad_data import DataError


def regional_means(cube: Cube, wanted: Sequence[Sequence[float] | str]) -> Cube:
    """Average over each of several regions, weighted by the area of the grid cells.

    Parameters
    ----------
    cube : Cube
        On a grid of any type; of shape (time, latitude, longitude), for example.
    wanted : sequence
        Regions by box or name; see `regions.inside`.

    Returns
    -------
    Cube
        Of shape (region, time), with the coordinate ``region``, in the units of `cube`.

    Raises
    ------
    DataError
        If no cell of the grid lies in one of them, or the areas of cells are not known.
    """
    means = CubeList()
    # Of a single row or column no bounds can be guessed, so they are guessed before.
    cube = cells.with_bounds(cube)
    dims = set(cells.horizontal_dims(cube))
    horizontal = [coord.name() for coord in cube.coords() if dims & {*cube.coord_dims(coord)}]
    for number, region in enumerate(wanted):
        mean = area_mean(grids.extract_region(cube, region))
        for name in horizontal:
            # The middle and the ends of a region, which may be no box.
            mean.remove_coord(name)
        mean.add_aux_coord(AuxCoord(number, long_name="number", units="1"))
        means.append(iris.util.new_axis(mean, "number"))
    result = means.concatenate_cube()
    # Iris joins by numbers, not by names.
    result.remove_coord("number")
    result.add_aux_coord(AuxCoord([*map(regions.label, wanted)], long_name="region"), 0)
    return result


def area_mean(cube: Cube) -> Cube:
    """Average over the horizontal dimensions, weighted by the area of the grid cells.

    See `cells.areas` for where the areas come from.  Masked cells are left out.

    Parameters
    ----------
    cube : Cube
        On a grid of any type; of shape (time, latitude, longitude), for example.

    Returns
    -------
    Cube
        Without the horizontal dimensions, in the units of `cube`; lazy as `cube` is.  Of a
        single place, such as a station, the same.

    Raises
    ------
    DataError
        If the areas of its cells are not known.
    """
    dims = cells.horizontal_dims(cube)
    if not dims:
        return cube
    areas = cells.areas(cube)
    if not areas.any():
        raise DataError(f"{cube.name()}: no cell of its grid has an area.")
    if cube.has_lazy_data():
        chunks = cube.lazy_data().chunks
        weights = iris.util.broadcast_to_shape(da.from_array(areas), cube.shape, dims, chunks)
    else:
        weights = iris.util.broadcast_to_shape(areas, cube.shape, dims)
    has_axes = cells.grid_type(cube) in (cells.GridType.REGULAR, cells.GridType.PROJECTED)
    names = [axis.name() for axis in cells.axes(cube)] if has_axes else ["latitude", "longitude"]
    cube = hybrid.drop_varying(cube, "latitude", "longitude", *names)
    if not has_axes:
        # Iris takes bounds with many corners from the cube that it is given.
        cube = cube.copy()
        for coord in map(cube.coord, names):
            if not isinstance(coord, MeshCoord):
                coord.bounds = None
    with warnings.catch_warnings():
        # The bounds of two-dimensional coordinates do not say what was averaged.  By its
        # message: Iris removes a filter of the whole category while it collapses.
        warnings.filterwarnings("ignore", "Collaps|Cannot check", IrisVagueMetadataWarning)
        return cube.collapsed(names, iris.analysis.MEAN, weights=weights)
