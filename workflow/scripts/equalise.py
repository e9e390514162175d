"""Remove differences between the files of one dataset that have no meaning.

Each function changes cubes in place.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import iris.util
import numpy as np
from cf_units import Unit
from iris.coords import Coord, DimCoord
from iris.cube import Cube

from coordinates import nearly_equal

#: Identifies one file, so a file that is made of it cannot have it.
OF_ONE_FILE = ("tracking_id", "creation_date")

#: Identify the data of CMIP.
IDENTITIES = (
    "institution_id",
    "source_id",
    "model_id",
    "experiment_id",
    "variant_label",
)

#: Heights of near-surface quantities, which some files of a dataset state and some do not.
NEAR_SURFACE = 10.0

#: Calendars that agree from this year on.
SAME_CALENDARS, SAME_SINCE = {"standard", "proleptic_gregorian"}, 1583


def equalise(cubes: Sequence[Cube]) -> None:
    """Remove all differences that this module knows."""
    equalise_attributes(cubes)
    if len(cubes) > 1:
        equalise_times(cubes)
        equalise_coordinates(cubes)
        equalise_names_and_types(cubes)


def equalise_attributes(cubes: Sequence[Cube]) -> None:
    """Remove attributes that differ between cubes, and those that identify one file.

    The names of attributes that differ are kept in an attribute
    ``attributes_that_differed``.  Those that identify the data stay with all their
    values, such as the experiments historical and ssp585.
    """
    for name in IDENTITIES:
        values = dict.fromkeys(
            str(cube.attributes[name]) for cube in cubes if name in cube.attributes
        )
        if len(values) > 1:
            for cube in cubes:
                cube.attributes.globals[name] = ", ".join(values)
    removed = iris.util.equalise_attributes(cubes) if len(cubes) > 1 else []
    differed = sorted({name for attributes in removed for name in attributes})
    for cube in cubes:
        for name in OF_ONE_FILE:
            cube.attributes.pop(name, None)
        if differed:
            cube.attributes.globals["attributes_that_differed"] = ", ".join(differed)


def equalise_times(cubes: Sequence[Cube]) -> None:
    """Give all coordinates of time one reference, and one calendar where they agree.

    Time takes the place of a mere counter of records, which begins anew in each file.
    """
    for cube in cubes:
        _number_by_time(cube)
    times = [
        coord for cube in cubes for coord in _coordinates(cube) if coord.units.is_time_reference()
    ]
    alike = [coord for coord in times if coord.units.calendar in SAME_CALENDARS]
    if len({coord.units.calendar for coord in alike}) > 1 and all(map(_is_recent, alike)):
        for coord in alike:
            reference = "days since 1850-01-01"
            coord.convert_units(Unit(reference, calendar=coord.units.calendar))
            coord.units = Unit(reference, calendar="standard")
    if len({(coord.units, coord.dtype, coord.bounds_dtype) for coord in times}) > 1:
        iris.util.unify_time_units(cubes)
    known: dict[str, Coord] = {}
    for coord in times:
        _equalise_metadata(coord, known.setdefault(coord.name(), coord))


def equalise_coordinates(cubes: Sequence[Cube]) -> None:
    """Replace coordinates that differ by rounding, or in their type, by those of the first cube.

    Coordinates along time, and lengths of time, are left alone.
    """
    _remove_partial_heights(cubes)
    known: dict[tuple[str, tuple[int, ...]], list[Coord]] = {}
    same: list[tuple[Coord, Coord]] = []
    for cube in cubes:
        along_time = {
            dimension for coord in cube.coords("time") for dimension in cube.coord_dims(coord)
        }
        for coord in _coordinates(cube):
            is_time = coord.units.is_time_reference() or coord.units.is_convertible("s")
            if is_time or along_time & set(cube.coord_dims(coord)):
                continue
            others = known.setdefault((coord.name(), coord.shape), [])
            # Fields are large, and those that vary, such as surface pressure, are all different.
            for other in others if coord.ndim == 1 else others[:1]:
                if _differs_by_rounding(coord, other):
                    same.append((coord, other))
                    break
            else:
                others.append(coord)
    # Only now have those that others are made equal to the bounds that any has.
    for coord, other in same:
        if coord != other or (coord.dtype, coord.bounds_dtype) != (other.dtype, other.bounds_dtype):
            coord.bounds = None
            coord.points, coord.bounds = other.points, other.bounds
            coord.units = other.units
            _equalise_metadata(coord, other)


def equalise_names_and_types(cubes: Sequence[Cube]) -> None:
    """Give variables that have a standard name in common one long name, and all one type."""
    first = cubes[0]
    for cube in cubes:
        if cube.standard_name and (cube.standard_name, cube.var_name) == (
            first.standard_name,
            first.var_name,
        ):
            cube.long_name = first.long_name
    types = {cube.dtype for cube in cubes}
    # Files may be packed in other ways, or not at all.
    if len(types) > 1 and all(dtype.kind == "f" for dtype in types):
        for cube in cubes:
            cube.data = cube.core_data().astype(np.result_type(*types))


def _coordinates(cube: Cube) -> list[Coord]:
    """List the coordinates without those that are derived."""
    return [*cube.dim_coords, *cube.aux_coords]


def _number_by_time(cube: Cube) -> None:
    for time in cube.coords("time", dim_coords=False):
        dims = cube.coord_dims(time)
        counters = cube.coords(dimensions=dims, dim_coords=True) if len(dims) == 1 else []
        if len(dims) == 1 and not any(counter.standard_name for counter in counters):
            for counter in counters:
                cube.remove_coord(counter)
            # Stays as it is where times are in no order.
            with contextlib.suppress(ValueError):
                iris.util.promote_aux_coord_to_dim_coord(cube, time)


def _is_recent(time: Coord) -> bool:
    """Whether all dates are the same in all of `SAME_CALENDARS`."""
    return bool(time.units.num2date(float(np.min(time.points))).year >= SAME_SINCE)


def _remove_partial_heights(cubes: Sequence[Cube]) -> None:
    """Remove a scalar height near the surface that only some cubes have."""
    found = [cube.coords("height", dimensions=()) for cube in cubes]
    with_height = [coords[0] for coords in found if len(coords) == 1]
    if not with_height or len(with_height) == len(cubes):
        return
    points = np.array([coord.points[0] for coord in with_height], float)
    if np.ptp(points) == 0 and with_height[0].units == "m" and points[0] <= NEAR_SURFACE:
        for cube, coords in zip(cubes, found, strict=True):
            for coord in coords:
                cube.remove_coord(coord)


def _differs_by_rounding(coord: Coord, other: Coord) -> bool:
    """Whether two coordinates are equal up to rounding; the other takes bounds that it lacks."""
    if coord.dtype.kind in "SU" or other.dtype.kind in "SU":
        return bool(np.array_equal(coord.points, other.points))
    if coord.units != other.units:
        if not coord.units.is_convertible(other.units):
            return False
        coord = coord.copy()
        coord.convert_units(other.units)
    if not nearly_equal(other.points, coord.points):
        return False
    if coord.has_bounds() and not other.has_bounds():
        other.bounds = coord.bounds
    if not coord.has_bounds():
        return True
    return other.bounds.shape == coord.bounds.shape and nearly_equal(other.bounds, coord.bounds)


def _equalise_metadata(coord: Coord, other: Coord) -> None:
    """Copy names and attributes from another coordinate of the same name."""
    if coord is other:
        return
    coord.standard_name, coord.long_name = other.standard_name, other.long_name
    coord.var_name, coord.attributes = other.var_name, other.attributes
    if isinstance(coord, DimCoord) and isinstance(other, DimCoord):
        coord.circular = other.circular
