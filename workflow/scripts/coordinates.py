"""Parts of a cube by values of its coordinates, with units and a tolerance."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import iris.exceptions
import iris.util
import numpy as np
from cf_units import Unit
from iris.coords import Coord
from iris.cube import Cube

from bad_data import DataError

#: A value matches a point within this part of itself, or of the smallest step of the
#: coordinate: rounding to single precision is 6e-8, levels differ by more than 1e-3.
TOLERANCE = 1e-6

#: Standard names that a short name of a vertical coordinate stands for.
ALIASES = {
    "pressure": ("air_pressure",),
    "height": ("altitude",),
}

_QUANTITY = re.compile(r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(\S.*?)?\s*")


@dataclass(frozen=True)
class Quantity:
    """A value, in units or in those of the coordinate that it is compared with."""

    value: float
    units: str | None = None

    @classmethod
    def parse(cls, text: str | float) -> Quantity | None:
        """Read a number, or a text such as "850 hPa"; None for any other text."""
        if not isinstance(text, str):
            return cls(float(text))
        match = _QUANTITY.fullmatch(text)
        return cls(float(match[1]), match[2]) if match else None

    def to(self, coord: Coord) -> float:
        """Convert to the units of a coordinate.

        Raises
        ------
        DataError
            If that is not possible.
        """
        if coord.units.is_time_reference():
            raise DataError(f"{coord.name()} cannot be selected by value; select years instead.")
        if self.units is None:
            return self.value
        try:
            return float(Unit(self.units).convert(self.value, coord.units))
        except ValueError as error:
            raise DataError(
                f"{self.value:g} {self.units} cannot be converted to {coord.units}, "
                f"the units of {coord.name()}."
            ) from error


def extract(cube: Cube, wanted: Mapping[str, Any]) -> Cube:
    """Extract the part of a cube where its coordinates have certain values.

    Parameters
    ----------
    cube : Cube
        With the coordinates in one dimension each.
    wanted : mapping of str to number, str, list or mapping
        For the name of a coordinate a value, the two ends of a range, or
        ``{"nearest": value}``.  A value is a number in the units of the coordinate,
        or a text with units such as "850 hPa".  Ranges of longitude run eastwards
        from their first end and wrap around the globe; other ranges may be given
        from either end.

    Returns
    -------
    Cube
        Lazy as `cube` is.  A single value removes the dimension, a range keeps it.

    Raises
    ------
    DataError
        If nothing is left.
    """
    for name, value in wanted.items():
        part = extract_one(cube, name, value)
        if part is None:
            raise DataError(
                f"{cube.name()} has no {name} {described(value)}; {available([cube], name)}."
            )
        cube = part
    return cube


def extract_one(cube: Cube, name: str, value: Any) -> Cube | None:
    """Do the work of `extract` for one coordinate; None if nothing is left."""
    coord = find(cube, name)
    if coord is None:
        return None
    if coord.ndim > 1:
        raise DataError(
            f"{coord.name()} of {cube.name()} has {coord.ndim} dimensions; only coordinates in one "
            "dimension can be selected by value."
        )
    match value:
        case {"nearest": wish}:
            return _at(cube, coord, _nearest(coord, _quantity(wish, coord)), drop=True)
        case [low, high]:
            low, high = _quantity(low, coord), _quantity(high, coord)
            if _is_longitude(coord):
                return _between_longitudes(cube, coord, low, high)
            low, high = min(low, high), max(low, high)
            inside = (low - _slack(coord, low) <= coord.points) & (
                coord.points <= high + _slack(coord, high)
            )
            return _at(cube, coord, inside)
    if isinstance(value, str) and coord.points.dtype.kind in "SU":
        return _at(cube, coord, coord.points == value, drop=True)
    wish = _quantity(value, coord)
    away = _distance(coord, wish)
    return _at(cube, coord, away <= _slack(coord, wish), drop=True)


def find(cube: Cube, name: str) -> Coord | None:
    """Find a coordinate by its name, or by the short name of a vertical coordinate."""
    for each in (name, *ALIASES.get(name, ())):
        found = cube.coords(each)
        if len(found) == 1:
            return found[0]
    return None


def spans(cube: Cube, name: str) -> bool:
    """Whether a coordinate belongs to a dimension of a cube."""
    coord = find(cube, name)
    return coord is not None and bool(cube.coord_dims(coord))


def described(value: Any) -> str:
    """Describe what was asked for, as in "from 700 hPa to 900 hPa"."""
    match value:
        case {"nearest": wish}:
            return f"near {wish}"
        case [low, high]:
            return f"from {low} to {high}"
    return str(value)


def available(cubes: Sequence[Cube], name: str) -> str:
    """Describe the values of a coordinate in some cubes, for messages."""
    found = [coord for cube in cubes if (coord := find(cube, name)) is not None]
    if not found:
        names = sorted({coord.name() for cube in cubes for coord in cube.coords()})
        return f"the coordinates are {', '.join(names)}"
    values = np.unique(np.concatenate([coord.points.ravel() for coord in found]))
    shown = [f"{value:.10g}" if values.dtype.kind in "iuf" else str(value) for value in values]
    if len(shown) > 12:
        shown = [*shown[:5], "…", *shown[-5:]]
    units = "" if found[0].units.is_no_unit() else f" {found[0].units}"
    return f"{found[0].name()} has {', '.join(shown)}{units}"


def nearly_equal(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two arrays of one shape differ by no more than rounding."""
    if one.dtype.kind not in "iuf" or other.dtype.kind not in "iuf":
        return False
    if np.array_equal(one, other):
        return True
    if one.dtype.kind in "iu" and other.dtype.kind in "iu":
        return False
    return bool(np.allclose(one, other, rtol=TOLERANCE, atol=TOLERANCE * _step(one)))


def _quantity(text: str | float, coord: Coord) -> float:
    quantity = Quantity.parse(text)
    if quantity is None or coord.points.dtype.kind not in "iuf":
        raise DataError(f"{text!r} cannot be compared with {coord.name()}.")
    return quantity.to(coord)


def _is_longitude(coord: Coord) -> bool:
    return bool(coord.standard_name == "longitude")


def _distance(coord: Coord, value: float) -> np.ndarray:
    """How far each point is from a value; on the circle for longitudes."""
    away = np.asarray(coord.points, float) - value
    if _is_longitude(coord):
        turn = coord.units.modulus or 360
        away = (away + turn / 2) % turn - turn / 2
    return np.abs(away)


def _step(points: np.ndarray) -> float:
    """The smallest step between different points; 0 if there is one."""
    steps = np.diff(np.unique(np.ma.getdata(points).astype(float)))
    return float(steps.min()) if len(steps) else 0.0


def _slack(coord: Coord, value: float) -> float:
    return TOLERANCE * max(abs(value), _step(coord.points))


def _nearest(coord: Coord, value: float) -> np.ndarray:
    """Mark the point that is nearest, if the value lies within the cells of the coordinate."""
    away = _distance(coord, value)
    ordered = np.unique(coord.points)
    nearest = np.zeros(coord.shape, bool)
    if len(ordered) == 1:
        # Only bounds tell how far the cell reaches.
        reach = np.ptp(coord.bounds) / 2 if coord.has_bounds() else 0
        is_within = away.min() <= reach + _slack(coord, value)
    elif _is_longitude(coord):
        is_within = away.min() <= np.diff(ordered).max() / 2
    else:
        # Cells without bounds reach half a step beyond the outer points.
        low = ordered[0] - (ordered[1] - ordered[0]) / 2
        high = ordered[-1] + (ordered[-1] - ordered[-2]) / 2
        is_within = low <= value <= high
    nearest[np.argmin(away)] = is_within
    return nearest


def _at(cube: Cube, coord: Coord, kept: np.ndarray, *, drop: bool = False) -> Cube | None:
    """Take the points of a coordinate that are marked; None if there are none."""
    places = np.flatnonzero(kept)
    if not len(places):
        return None
    dimensions = cube.coord_dims(coord)
    if not dimensions or (kept.all() and not (drop and len(places) == 1)):
        return cube
    index: list[Any] = [slice(None)] * cube.ndim
    first, last = int(places[0]), int(places[-1])
    if drop and first == last:
        index[dimensions[0]] = first
    elif last - first + 1 == len(places):
        index[dimensions[0]] = slice(first, last + 1)
    else:
        index[dimensions[0]] = places
    return cube[tuple(index)]


def _between_longitudes(cube: Cube, coord: Coord, west: float, east: float) -> Cube | None:
    """Take what lies eastwards from one longitude to another, in the range of the request."""
    turn = coord.units.modulus or 360
    east += turn * np.ceil((west - east) / turn) if east < west else 0
    slack = TOLERANCE * max(1.0, _step(coord.points))
    # A whole turn has its ends in common.
    whole = east - west >= turn - slack
    limits = (west, west + turn, True, False) if whole else (west - slack, east + slack)
    scalar = not cube.coord_dims(coord)
    if scalar:
        cube = iris.util.new_axis(cube, coord)
    try:
        part = cube.intersection(longitude=limits, ignore_bounds=True)
    except IndexError:
        return None
    return part[0] if scalar else part
