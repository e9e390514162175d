"""Hybrid levels, whose height or pressure is derived from a field at the surface."""

from __future__ import annotations

from collections.abc import Sequence

from iris.coords import Coord
from iris.cube import Cube


def drop_varying(cube: Cube, *names: str) -> Cube:
    """Remove fields that vary along some coordinates, and what is derived from them.

    A mean over time or area has no use for the surface pressure of each time or place:
    Iris would keep the middle between the first and the last.  What does not vary along
    these coordinates, such as the orography in a mean over time, stays, and so do the
    coefficients of the levels.

    Parameters
    ----------
    cube : Cube
        On any levels.
    names : str
        Coordinates that are about to be averaged over.

    Returns
    -------
    Cube
        The same cube, if nothing has to be removed.
    """
    averaged = {
        dimension
        for name in names
        for coord in cube.coords(name)
        for dimension in cube.coord_dims(coord)
    }
    varying = [
        coord
        for coord in cube.aux_coords
        if len(cube.coord_dims(coord)) > 1
        and averaged & set(cube.coord_dims(coord))
        and coord.name() not in names
    ]
    if not varying:
        return cube
    cube = cube.copy()
    for factory in list(cube.aux_factories):
        if any(each in varying for each in factory.dependencies.values()):
            cube.remove_aux_factory(factory)
    for coord in varying:
        cube.remove_coord(coord)
    return cube


def differing_fields(cubes: Sequence[Cube]) -> set[str]:
    """Name the fields at the surface that differ between cubes of one time each."""
    first: dict[str, Coord] = {}
    differing = set()
    for cube in cubes:
        for factory in cube.aux_factories:
            for coord in factory.dependencies.values():
                if coord is not None and coord.ndim > 1:
                    known = first.setdefault(coord.name(), coord)
                    if known is not coord and known != coord:
                        differing.add(coord.name())
    return differing
