"""The cells of a grid on the sphere: their centres, corners and areas, and which holds a point.

Four types of grid, three of them named as in ESMValCore:

- *regular*: latitude and longitude are dimensions;
- *projected*: the dimensions are those of a rotated pole or of a map projection;
- *irregular* (curvilinear): latitude and longitude have the two dimensions of the data;
- *unstructured*: latitude and longitude share one dimension, as on a UGRID mesh.
"""

from __future__ import annotations

from enum import StrEnum

import cartopy.crs as ccrs
import iris.exceptions
import iris.util
import numpy as np
from iris.analysis.cartography import DEFAULT_SPHERICAL_EARTH_RADIUS, area_weights
from iris.coord_systems import CoordSystem, GeogCS, RotatedGeogCS
from iris.coords import Coord
from iris.cube import Cube
from scipy.spatial import cKDTree

from bad_data import DataError

#: Cells whose centres agree to this share of the Earth's radius (64 m) are the same place.
SAME_PLACE = 1e-5

#: How many of the nearest cells are asked whether they hold a point, one attempt after
#: another, and by how many degrees the point is moved: one on an edge may lie in no cell.
#: Where narrow cells meet wide ones, many centres are nearer than that of the right cell.
CANDIDATES = ((1, 0.0), (8, 0.0), (64, 0.0), (8, 1e-4))


class GridType(StrEnum):
    """The type of a horizontal grid."""

    REGULAR = "regular"
    PROJECTED = "projected"
    IRREGULAR = "irregular"
    UNSTRUCTURED = "unstructured"


def grid_type(cube: Cube) -> GridType:
    """Find out the type of a cube's horizontal grid.

    Raises
    ------
    DataError
        If the cube has no coordinates that place its cells on the Earth.
    """
    if _projected_axes(cube):
        return GridType.PROJECTED
    try:
        latitude, longitude = cube.coord("latitude"), cube.coord("longitude")
    except iris.exceptions.CoordinateNotFoundError as error:
        raise DataError(
            f"{cube.name()} is on no known grid: it has neither latitude and longitude nor the "
            "coordinates of a map projection."
        ) from error
    rows, columns = cube.coord_dims(latitude), cube.coord_dims(longitude)
    if rows != columns and latitude.ndim == longitude.ndim == 1:
        return GridType.REGULAR
    if rows == columns and len(rows) == 2:
        return GridType.IRREGULAR
    if rows == columns and len(rows) == 1:
        return GridType.UNSTRUCTURED
    if not rows and not columns:
        return GridType.REGULAR
    raise DataError(
        f"{cube.name()} is on no known grid: its latitude has {latitude.ndim} dimensions and its "
        f"longitude {longitude.ndim}."
    )


def axes(cube: Cube) -> tuple[Coord, Coord]:
    """Return the coordinates of the rows and columns of a regular or projected grid."""
    return _projected_axes(cube) or (cube.coord("latitude"), cube.coord("longitude"))


def without_repetition(cube: Cube) -> Cube:
    """Drop a column one turn after the first one, as files for plotting have it."""
    for coord in cube.coords("longitude", dim_coords=True):
        turn = coord.units.modulus or 360
        step = abs(np.diff(coord.points)).min() if len(coord.points) > 2 else 0.0
        if step and abs(abs(coord.points[-1] - coord.points[0]) - turn) < step / 1000:
            (dimension,) = cube.coord_dims(coord)
            return cube[(*[slice(None)] * dimension, slice(None, -1))]
    return cube


def horizontal_dims(cube: Cube) -> tuple[int, ...]:
    """Return the dimensions of a cube that its grid extends over, in the order of the data."""
    if grid_type(cube) in (GridType.IRREGULAR, GridType.UNSTRUCTURED):
        return tuple(sorted(cube.coord_dims("latitude")))
    return tuple(sorted({dim for axis in axes(cube) for dim in cube.coord_dims(axis)}))


def with_bounds(cube: Cube) -> Cube:
    """Copy a cube; the coordinates of a regular or projected grid get bounds if they have none.

    Raises
    ------
    DataError
        If bounds cannot be guessed.
    """
    cube = cube.copy()
    if grid_type(cube) in (GridType.REGULAR, GridType.PROJECTED):
        for axis in axes(cube):
            if not axis.has_bounds():
                try:
                    axis.guess_bounds()
                except ValueError as error:
                    raise DataError(
                        f"{cube.name()} has no bounds of its {axis.name()}, and from "
                        f"{axis.shape[0]} value they cannot be guessed."
                    ) from error
    return cube


def centres(cube: Cube) -> tuple[np.ndarray, np.ndarray]:
    """Return the longitudes and latitudes of the centres of cells.

    Parameters
    ----------
    cube : Cube
        On a grid of any type.

    Returns
    -------
    longitude, latitude : ndarray
        In degrees, with the shape of the horizontal dimensions; NaN where missing.
    """
    kind = grid_type(cube)
    if kind in (GridType.IRREGULAR, GridType.UNSTRUCTURED):
        found = []
        for name in ("longitude", "latitude"):
            coord = _in_degrees(cube.coord(name))
            found.append(_ascending(_filled(coord.points), cube.coord_dims(name)))
        return found[0], found[1]
    rows, columns = (_in_degrees(axis).points.astype(float) for axis in axes(cube))
    x, y = np.meshgrid(columns, rows)
    return _laid_out(cube, *_to_degrees(cube, x, y))


def corners(cube: Cube) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the longitudes and latitudes of the corners of cells, or None without bounds.

    Parameters
    ----------
    cube : Cube
        On a grid of any type.

    Returns
    -------
    longitude, latitude : ndarray
        In degrees, with the shape of the horizontal dimensions and a last one for the
        corners.  A cell with fewer corners than others repeats one; NaN where missing.
    """
    kind = grid_type(cube)
    if kind in (GridType.IRREGULAR, GridType.UNSTRUCTURED):
        found = []
        for name in ("longitude", "latitude"):
            coord = _in_degrees(cube.coord(name))
            if not coord.has_bounds() or coord.bounds.shape[-1] < 3:
                return None
            found.append(_ascending(_filled(coord.bounds), cube.coord_dims(name)))
        longitude, latitude = found
        return _repeated(longitude, latitude), _repeated(latitude, longitude)
    if not all(axis.has_bounds() for axis in axes(cube)):
        return None
    rows, columns = (_in_degrees(axis).bounds.astype(float) for axis in axes(cube))
    # Around the cell: (west, south), (east, south), (east, north), (west, north).
    x = np.broadcast_to(columns[None, :, [0, 1, 1, 0]], (len(rows), len(columns), 4))
    y = np.broadcast_to(rows[:, None, [0, 0, 1, 1]], (len(rows), len(columns), 4))
    return _laid_out(cube, *_to_degrees(cube, x, y))


def areas(cube: Cube) -> np.ndarray:
    """Compute the areas of the cells of a grid, in square metres.

    A cell measure of the cube comes first, such as ``areacello``.  Without one:

    - the cells of a regular or rotated grid are bounded by circles of latitude, and have
      the area r² (λ₂ - λ₁)(sin φ₂ - sin φ₁); see `iris.analysis.cartography.area_weights`;
    - all others are polygons of great circles; see `polygon_areas`.

    Tripolar ocean grids repeat cells where they close in the east and are folded in the
    north.  Of cells at the same place one has its area, and the others none.

    Parameters
    ----------
    cube : Cube
        On a grid of any type.

    Returns
    -------
    ndarray
        With the shape of the horizontal dimensions; 0 where a cell has no corners.

    Raises
    ------
    DataError
        If the cube has neither a cell measure nor bounds.
    """
    kind, dims = grid_type(cube), horizontal_dims(cube)
    measured = _measured(cube)
    if measured is not None:
        found = measured
    elif kind is GridType.REGULAR or _is_rotated(cube):
        found = area_weights(with_bounds(_first_field(cube)))
    else:
        if kind is GridType.PROJECTED:
            cube = with_bounds(cube)
        polygons = corners(cube)
        if polygons is None:
            raise DataError(
                f"{cube.name()} is on an {kind} grid of which no areas are known: it needs a cell "
                "measure of the cell area, such as areacella or areacello, or bounds of latitude "
                "and longitude."
            )
        found = _radius(cube) ** 2 * polygon_areas(*polygons)
    found = np.where(np.isfinite(found), found, 0.0)
    if kind in (GridType.IRREGULAR, GridType.UNSTRUCTURED):
        field = _first_field(cube).data
        counted = (found > 0) & ~np.ma.getmaskarray(field)
        found[_repetitions(*centres(cube), counted)] = 0.0
    assert found.shape == tuple(cube.shape[dim] for dim in dims)
    return np.asarray(found)


def polygon_areas(longitude: np.ndarray, latitude: np.ndarray) -> np.ndarray:
    """Compute the areas of polygons on the unit sphere whose edges are great circles.

    A polygon is cut into triangles that share its first corner.  The solid angle Ω of a
    triangle with the unit vectors a, b, c to its corners follows from

        tan(Ω / 2) = a·(b × c) / (1 + a·b + b·c + c·a)

    (A. Van Oosterom and J. Strackee, 1983: The Solid Angle of a Plane Triangle. IEEE
    Trans. Biomed. Eng. BME-30, 125-126).  It has a sign, so polygons need not be convex.

    Parameters
    ----------
    longitude, latitude : ndarray
        Of the corners in order, in degrees, of shape (…, corners).

    Returns
    -------
    ndarray
        In steradians, of shape (…).
    """
    vectors = unit_vectors(longitude, latitude)
    first = vectors[..., 0, :]
    total = np.zeros(vectors.shape[:-2])
    for number in range(1, vectors.shape[-2] - 1):
        second, third = vectors[..., number, :], vectors[..., number + 1, :]
        # a·(b × c), by differences, which keep more digits where a triangle is small.
        volume = _dot(first, np.cross(second - first, third - first))
        rest = 1 + _dot(first, second) + _dot(second, third) + _dot(third, first)
        total += 2 * np.arctan2(volume, rest)
    return np.abs(total)


def unit_vectors(longitude: np.ndarray, latitude: np.ndarray) -> np.ndarray:
    """Return the vectors from the centre of the unit sphere to points, of shape (…, 3)."""
    x, y = np.deg2rad(longitude), np.deg2rad(latitude)
    return np.stack([np.cos(y) * np.cos(x), np.cos(y) * np.sin(x), np.sin(y)], axis=-1)


def locate(cube: Cube, longitude: np.ndarray, latitude: np.ndarray) -> np.ndarray:
    """Find the cell of a grid that each of many points lies in.

    Parameters
    ----------
    cube : Cube
        On a grid of any type.  Without bounds, the corners of a curvilinear grid are
        assumed in the middle between centres; on an unstructured one a point belongs to
        the nearest centre that is not much farther away than neighbours of the cell are.
    longitude, latitude : ndarray
        Of the points, in degrees; may be NaN.

    Returns
    -------
    ndarray of int
        Of the shape of `longitude`: the number of the cell, in the order of the
        horizontal dimensions; -1 where the grid has no cell.
    """
    found = np.full(longitude.shape, -1)
    known = np.isfinite(longitude) & np.isfinite(latitude)
    points = longitude[known], latitude[known]
    if grid_type(cube) in (GridType.REGULAR, GridType.PROJECTED):
        found[known] = _locate_in_rows_and_columns(with_bounds(cube), *points)
    else:
        found[known] = _locate_among_centres(cube, *points)
    return found


def _locate_in_rows_and_columns(cube: Cube, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    system = _coord_system(cube)
    if system is not None and not isinstance(system, GeogCS):
        crs = system.as_cartopy_crs()
        x, y, _ = crs.transform_points(ccrs.Geodetic(globe=crs.globe), x, y).T
    rows, columns = (_in_degrees(axis).bounds.astype(float) for axis in axes(cube))
    turns = system is None or isinstance(system, GeogCS | RotatedGeogCS)
    row = _interval(rows, y)
    column = _interval(columns, x, 360.0 if turns else None)
    row_dim, column_dim = (cube.coord_dims(axis) for axis in axes(cube))
    if row_dim and column_dim and column_dim < row_dim:
        number = column * len(rows) + row
    else:
        number = row * len(columns) + column
    return np.where((row < 0) | (column < 0), -1, number)


def _interval(bounds: np.ndarray, values: np.ndarray, period: float | None = None) -> np.ndarray:
    """Find the interval that each value lies in; -1 where it lies in none."""
    lower, upper = bounds.min(axis=1), bounds.max(axis=1)
    # Bounds in single precision leave gaps that are none.
    near = 1e-3 * np.median(upper - lower)
    order = np.argsort(lower)
    if period is not None:
        values = lower.min() + (values - lower.min()) % period
    place = order[np.clip(np.searchsorted(lower[order], values, "right") - 1, 0, None)]
    inside = (lower[place] - near <= values) & (values <= upper[place] + near)
    return np.where(inside, place, -1)


def _locate_among_centres(cube: Cube, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    polygons = corners(cube)
    middle = unit_vectors(*centres(cube))
    around = None
    if polygons is not None:
        around = unit_vectors(*polygons)
    elif grid_type(cube) is GridType.IRREGULAR and min(middle.shape[:2]) > 1:
        around = _corners_between(middle)
    middle = middle.reshape(-1, 3)
    usable = np.isfinite(middle).all(axis=-1)
    if around is not None:
        around = around.reshape(len(middle), -1, 3)
        usable &= np.isfinite(around).all(axis=(-2, -1))
    numbers = np.flatnonzero(usable)
    if not len(numbers):
        return np.full(x.shape, -1)
    middle = middle[numbers]
    tree = cKDTree(middle)
    if around is None:
        # Of the four neighbours of a square cell, whose corners are 0.71 steps away.
        count = min(5, len(numbers))
        reach = 0.75 * tree.query(middle, [count])[0][:, 0]
        distance, nearest = tree.query(unit_vectors(x, y))
        return np.where(distance <= reach[nearest], numbers[nearest], -1)

    around = around[numbers]
    reach = 1.01 * np.linalg.norm(around - middle[:, None], axis=-1).max()
    found = np.full(x.shape, -1)
    for candidates, nudge in CANDIDATES:
        left = np.flatnonzero(found < 0)
        candidates = min(candidates, len(numbers))
        east, north = x[left] + nudge, y[left] + 0.7 * nudge
        near = tree.query(unit_vectors(east, north), candidates, distance_upper_bound=reach)[1]
        for column in near.reshape(len(left), candidates).T:
            asked = np.flatnonzero((found[left] < 0) & (column < len(numbers)))
            inside = _holds(around[column[asked]], east[asked], north[asked])
            found[left[asked[inside]]] = numbers[column[asked[inside]]]
    return found


def _corners_between(middle: np.ndarray) -> np.ndarray:
    """Put the corners of a curvilinear grid in the middle between the centres around them.

    Parameters
    ----------
    middle : ndarray
        Unit vectors to centres, of shape (row, column, 3).

    Returns
    -------
    ndarray
        Vectors to corners, of shape (row, column, 4, 3).
    """
    for axis in (0, 1):
        first, second, last, before = (middle.take([number], axis) for number in (0, 1, -1, -2))
        parts = [2 * first - second, middle, 2 * last - before]
        middle = np.concatenate(parts, axis=axis)
    corner = (middle[:-1, :-1] + middle[1:, :-1] + middle[:-1, 1:] + middle[1:, 1:]) / 4
    sides = [corner[:-1, :-1], corner[:-1, 1:], corner[1:, 1:], corner[1:, :-1]]
    return np.stack(sides, axis=-2)


def _holds(around: np.ndarray, longitude: np.ndarray, latitude: np.ndarray) -> np.ndarray:
    """Whether polygons of great circles hold a point each.

    Counts how often the great circle from the point to the east crosses edges.  On the
    plane that touches the sphere at the point, seen along its radius, this is exact: the
    side of an edge is the sign of (a × b)·p, which is the same there.

    Parameters
    ----------
    around : ndarray
        Unit vectors to corners, of shape (point, corner, 3).
    longitude, latitude : ndarray
        Of the points, of shape (point,).
    """
    x, y = np.deg2rad(longitude), np.deg2rad(latitude)
    east = np.stack([-np.sin(x), np.cos(x), np.zeros_like(x)], axis=-1)
    north = np.stack([-np.sin(y) * np.cos(x), -np.sin(y) * np.sin(x), np.cos(y)], axis=-1)
    u = np.einsum("pck,pk->pc", around, east)
    v = np.einsum("pck,pk->pc", around, north)
    next_u, next_v = np.roll(u, -1, axis=1), np.roll(v, -1, axis=1)
    crossed = ((v > 0) != (next_v > 0)) & ((u * next_v - next_u * v > 0) == (next_v > v))
    return np.asarray(crossed.sum(axis=1) % 2 == 1)


def _projected_axes(cube: Cube) -> tuple[Coord, Coord] | None:
    try:
        rows = cube.coord(axis="y", dim_coords=True)
        columns = cube.coord(axis="x", dim_coords=True)
    except iris.exceptions.CoordinateNotFoundError:
        return None
    if (rows.name(), columns.name()) == ("latitude", "longitude"):
        return None
    system = rows.coord_system
    if system is None or isinstance(system, GeogCS) or system != columns.coord_system:
        return None
    return rows, columns


def _coord_system(cube: Cube) -> CoordSystem | None:
    return axes(cube)[0].coord_system


def _is_rotated(cube: Cube) -> bool:
    return isinstance(_coord_system(cube), RotatedGeogCS)


def _radius(cube: Cube) -> float:
    """The Earth's radius in metres: as the cube has it, or else that of Iris."""
    system = cube.coord_system()
    ellipsoid = getattr(system, "ellipsoid", system)
    return float(getattr(ellipsoid, "semi_major_axis", None) or DEFAULT_SPHERICAL_EARTH_RADIUS)


def _first_field(cube: Cube) -> Cube:
    """Take one horizontal field."""
    dims = horizontal_dims(cube)
    return cube[tuple(slice(None) if dim in dims else 0 for dim in range(cube.ndim))]


def _measured(cube: Cube) -> np.ndarray | None:
    dims = horizontal_dims(cube)
    for measure in cube.cell_measures():
        found = cube.cell_measure_dims(measure)
        if measure.measure == "area" and sorted(found) == list(dims):
            measure = measure.copy()
            measure.convert_units("m2")
            return np.asarray(np.ma.filled(_ascending(measure.data, found).astype(float), 0.0))
    return None


def _repetitions(longitude: np.ndarray, latitude: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """Mark cells that count and whose centre is that of another that counts already."""
    places = np.flatnonzero(counted)
    vectors = unit_vectors(longitude.ravel()[places], latitude.ravel()[places])
    rounded = np.round(vectors / SAME_PLACE).astype("i8")
    first = np.unique(rounded, axis=0, return_index=True)[1]
    found = np.zeros(counted.size, bool)
    found[np.delete(places, first)] = True
    return found.reshape(counted.shape)


def _in_degrees(coord: Coord) -> Coord:
    """Convert a coordinate to degrees, or where it is one of a map projection to metres."""
    if str(coord.units).startswith("deg"):
        return coord
    for units in ("degrees", "m"):
        if coord.units.is_convertible(units):
            coord = coord.copy()
            coord.convert_units(units)
    return coord


def _to_degrees(cube: Cube, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    system = _coord_system(cube)
    if system is None or isinstance(system, GeogCS):
        return x, y
    crs = system.as_cartopy_crs()
    geodetic = ccrs.Geodetic(globe=crs.globe)
    longitude, latitude, _ = geodetic.transform_points(crs, x.ravel(), y.ravel()).T
    return longitude.reshape(x.shape), latitude.reshape(x.shape)


def _laid_out(cube: Cube, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give arrays of shape (row, column, …) the horizontal dimensions of the data."""
    row_dim, column_dim = (cube.coord_dims(axis) for axis in axes(cube))
    if row_dim and column_dim and column_dim < row_dim:
        x, y = x.swapaxes(0, 1), y.swapaxes(0, 1)
    shape = tuple(cube.shape[dim] for dim in sorted({*row_dim, *column_dim}))
    return x.reshape(shape + x.shape[2:]), y.reshape(shape + y.shape[2:])


def _ascending(values: np.ndarray, dims: tuple[int, ...]) -> np.ndarray:
    """Order the dimensions of a coordinate like those of the data."""
    order = np.argsort(dims)
    return values.transpose(*order, *range(len(dims), values.ndim))


def _filled(values: np.ndarray) -> np.ndarray:
    filled: np.ndarray = np.ma.filled(np.ma.asarray(values, float), np.nan)
    return np.where(np.abs(filled) < 1e4, filled, np.nan)


def _repeated(values: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Put the first corner of a cell for those that it does not have."""
    missing = np.isnan(values) | np.isnan(others)
    return np.where(missing & ~missing[..., :1], values[..., :1], values)


def _dot(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.asarray((one * other).sum(axis=-1))
