"""Small climate data on the grids that models use, made for tests."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from iris.coord_systems import GeogCS, RotatedGeogCS
from iris.coords import AuxCoord, CellMeasure, DimCoord
from iris.cube import Cube
from iris.mesh import Connectivity, MeshXY

Function = Callable[[np.ndarray, np.ndarray], np.ndarray]

#: The grid mapping of EURO-CORDEX.
EUROPE = RotatedGeogCS(39.25, -162.0, ellipsoid=GeogCS(6371229.0))


def years(count: int, first: int = 2001) -> DimCoord:
    """Years of 365 days."""
    edges = 365.0 * np.arange(count + 1)
    return DimCoord(
        (edges[:-1] + edges[1:]) / 2,
        standard_name="time",
        units=f"days since {first}-01-01",
        bounds=np.stack([edges[:-1], edges[1:]], axis=1),
    )


def in_years(field: Cube, values: np.ndarray, first: int = 2001) -> Cube:
    """Repeat a field with values added in each year, as a cube with the coordinate ``year``."""
    time = years(len(values), first)
    data = field.data[None] + values.reshape(-1, *[1] * field.ndim)
    cube = Cube(data, dim_coords_and_dims=[(time, 0)])
    cube.metadata = field.metadata
    for coord in field.coords():
        dims = tuple(dim + 1 for dim in field.coord_dims(coord))
        (cube.add_dim_coord if coord in field.dim_coords else cube.add_aux_coord)(coord, dims)
    for measure in field.cell_measures():
        dims = tuple(dim + 1 for dim in field.cell_measure_dims(measure))
        cube.add_cell_measure(measure, dims)
    numbers = np.arange(first, first + len(values))
    cube.add_aux_coord(AuxCoord(numbers, long_name="year", units="1"), 0)
    return cube


def _named(data: np.ndarray) -> Cube:
    return Cube(data, standard_name="air_temperature", units="K")


def regular(
    function: Function,
    shape: tuple[int, int] = (18, 36),
    box: tuple[float, float, float, float] = (0.0, -90.0, 360.0, 90.0),
    north_first: bool = False,
) -> Cube:
    """Make a field on a regular grid.

    Parameters
    ----------
    function : callable
        Of longitude and latitude in degrees.
    shape : tuple of int
        Rows and columns.
    box : tuple of float
        West, south, east and north.
    north_first : bool
        Whether latitudes run from north to south.
    """
    west, south, east, north = box
    edges = [np.linspace(south, north, shape[0] + 1), np.linspace(west, east, shape[1] + 1)]
    if north_first:
        edges[0] = edges[0][::-1]
    coords = [
        DimCoord(
            (edge[:-1] + edge[1:]) / 2,
            standard_name=name,
            units="degrees",
            bounds=np.stack([edge[:-1], edge[1:]], axis=1),
            circular=name == "longitude" and east - west == 360,
        )
        for name, edge in zip(("latitude", "longitude"), edges, strict=True)
    ]
    x, y = np.meshgrid(coords[1].points, coords[0].points)
    cube = _named(function(x, y))
    for dimension, coord in enumerate(coords):
        cube.add_dim_coord(coord, dimension)
    return cube


def rotated(function: Function, shape: tuple[int, int] = (40, 44), true_ones: bool = True) -> Cube:
    """Make a field on a regional grid with a rotated pole, over Europe.

    Parameters
    ----------
    function : callable
        Of the true longitude and latitude in degrees.
    shape : tuple of int
        Rows and columns.
    true_ones : bool
        Whether to add the true longitude and latitude, of two dimensions and without
        bounds.
    """
    coords = []
    for name, (start, end), size in (
        ("grid_latitude", (-22.0, 20.0), shape[0]),
        ("grid_longitude", (-26.0, 18.0), shape[1]),
    ):
        edge = np.linspace(start, end, size + 1)
        coords.append(
            DimCoord(
                (edge[:-1] + edge[1:]) / 2,
                standard_name=name,
                units="degrees",
                bounds=np.stack([edge[:-1], edge[1:]], axis=1),
                coord_system=EUROPE,
            )
        )
    x, y = unrotated(*np.meshgrid(coords[1].points, coords[0].points))
    cube = _named(function(x, y))
    for dimension, coord in enumerate(coords):
        cube.add_dim_coord(coord, dimension)
    if true_ones:
        cube.add_aux_coord(AuxCoord(y, "latitude", units="degrees"), (0, 1))
        cube.add_aux_coord(AuxCoord(x, "longitude", units="degrees"), (0, 1))
    return cube


def unrotated(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Turn rotated longitude and latitude of `EUROPE` into true ones, by rotation matrices."""
    point = vectors(x, y)
    tilt = np.deg2rad(90 - EUROPE.grid_north_pole_latitude)
    turn = np.deg2rad(EUROPE.grid_north_pole_longitude + 180)
    # The rotated equator meets its prime meridian at latitude 90 - 39.25, longitude 18.
    about_y = np.array(
        [[np.cos(tilt), 0, -np.sin(tilt)], [0, 1, 0], [np.sin(tilt), 0, np.cos(tilt)]]
    )
    about_z = np.array(
        [[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]]
    )
    found = point @ (about_z @ about_y).T
    return degrees(found)


def tripolar(
    function: Function,
    shape: tuple[int, int] = (60, 72),
    halo: bool = False,
    west: float = -287.0,
    bounds: bool = True,
    cell_area: bool = False,
) -> Cube:
    """Make a field on a curvilinear ocean grid with two poles in the north.

    South of 60°N it is a regular grid.  North of it lies the bipolar cap of R. J. Murray
    (1996, Explicit generation of orthogonal grids for ocean models, J. Comput. Phys. 126,
    251-273): in the polar stereographic plane, with the cap as the unit disc and the poles
    at its rim, lines of the grid are those of constant ξ and η in z = tanh((ξ + iη) / 2).

    Parameters
    ----------
    function : callable
        Of longitude and latitude in degrees.
    shape : tuple of int
        Rows, of which a third is in the cap, and columns.
    halo : bool
        Whether two columns and the last row are repeated, as NEMO does.
    west : float
        The longitude at which rows begin; one of the two poles is there.
    bounds : bool
        Whether the coordinates have bounds.
    cell_area : bool
        Whether there is a cell measure, of 1 m² for each cell but 2 m² for the first row.
    """
    rows, columns = shape
    in_cap = rows // 3
    x, y = _tripolar(
        np.concatenate([np.linspace(-90, 60, rows - in_cap + 1), 60 + np.arange(1, in_cap + 1)]),
        np.linspace(0, 360, columns + 1),
        in_cap,
    )
    corner = [[0, 0, 1, 1], [0, 1, 1, 0]]
    index = [np.arange(size)[:, None] + np.array(c) for size, c in zip(shape, corner, strict=True)]
    boxes = [each[index[0][:, None], index[1][None, :]] for each in (x, y)]
    mean = vectors(*boxes).mean(axis=2)
    points = list(degrees(mean / np.linalg.norm(mean, axis=-1, keepdims=True)))
    for longitudes in (points[0], boxes[0]):
        longitudes[...] = (longitudes + west + 360) % 360 - 360 * (west < 0)
    area = np.ones(shape)
    area[0] = 2
    if halo:
        points, boxes, (area,) = (
            [
                np.concatenate([wide, wide[-1:, ::-1]])
                for wide in (np.concatenate([each, each[:, :2]], axis=1) for each in group)
            ]
            for group in (points, boxes, [area])
        )
        # The last row is folded within the columns that are not repeated themselves.
        for each in (*points, *boxes, area):
            each[-1, :columns] = each[-2, :columns][::-1]
            each[-1, columns:] = each[-1, :2]
    cube = _named(function(*points))
    for name, point, box in zip(("longitude", "latitude"), points, boxes, strict=True):
        coord = AuxCoord(point, name, units="degrees", bounds=box if bounds else None)
        cube.add_aux_coord(coord, (0, 1))
    for dimension, name in enumerate(("j", "i")):
        numbers = np.arange(cube.shape[dimension])
        cube.add_dim_coord(
            DimCoord(numbers, var_name=name, long_name=f"cell index {name}", units="1"), dimension
        )
    if cell_area:
        measure = CellMeasure(area, "cell_area", units="m2", measure="area")
        cube.add_cell_measure(measure, (0, 1))
    return cube


def _tripolar(
    latitudes: np.ndarray, longitudes: np.ndarray, in_cap: int
) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.meshgrid(longitudes, latitudes)
    half_angle = np.deg2rad(longitudes) / 2
    with np.errstate(divide="ignore"):
        # On the rim, z = exp(iλ), (1 + z) / (1 - z) = i cot(λ / 2).
        xi = np.clip(np.log(np.abs(np.cos(half_angle) / np.sin(half_angle))), -40, 40)
    half = np.where(longitudes <= 180, 1, -1)
    for number in range(1, in_cap + 1):
        eta = half * np.pi / 2 * (1 - number / in_cap)
        z = np.tanh((xi + 1j * eta) / 2)
        # In the polar stereographic plane the distance is tan((90° - φ) / 2).
        distance = np.abs(z) * np.tan(np.deg2rad(15))
        row = len(latitudes) - in_cap - 1 + number
        x[row] = np.rad2deg(np.angle(z))
        y[row] = 90 - 2 * np.rad2deg(np.arctan(distance))
    return x, y


def mesh(function: Function, size: int = 12, node_coords_only: bool = False) -> Cube:
    """Make a field on the faces of a cubed sphere, a UGRID mesh; some faces are triangles.

    Parameters
    ----------
    function : callable
        Of longitude and latitude of face centres, in degrees.
    size : int
        Faces along the edge of the cube.
    node_coords_only : bool
        Make an unstructured grid with bounds instead, which has no mesh.
    """
    edge = np.tan(np.linspace(-np.pi / 4, np.pi / 4, size + 1))
    one, other = (each.ravel() for each in np.meshgrid(edge, edge))
    faces, points = [], []
    for number in range(6):
        axis, sign = number % 3, 1 - 2 * (number // 3)
        point = np.empty((one.size, 3))
        # Turned so that all faces run the same way round, seen from outside.
        point[:, axis] = sign
        point[:, (axis + 1) % 3], point[:, (axis + 2) % 3] = sign * one, other
        start = number * one.size
        for row in range(size):
            for column in range(size):
                low = start + row * (size + 1) + column
                high = low + size + 1
                face = [low, low + 1, high + 1, high]
                if (row + column) % 5:
                    faces.append(face)
                else:
                    faces += [[*face[:3], -1], [face[0], face[2], face[3], -1]]
        points.append(point)
    nodes = np.concatenate(points)
    x, y = degrees(nodes / np.linalg.norm(nodes, axis=1, keepdims=True))
    table = np.ma.masked_less(np.array(faces), 0)
    corner = vectors(x, y)[table.filled(0)] * ~table.mask[..., None]
    middle = corner.sum(axis=1)
    centre = degrees(middle / np.linalg.norm(middle, axis=1, keepdims=True))
    cube = _named(function(*centre))
    if node_coords_only:
        for name, at, nodes in (("longitude", centre[0], x), ("latitude", centre[1], y)):
            bounds = np.ma.array(nodes[table.filled(0)], mask=table.mask)
            cube.add_aux_coord(AuxCoord(at, name, units="degrees", bounds=bounds), 0)
        return cube
    coords = {
        place: [
            (AuxCoord(at, name, units="degrees", var_name=f"{place}_{letter}"), letter)
            for letter, name, at in zip("xy", ("longitude", "latitude"), found, strict=True)
        ]
        for place, found in (("node", (x, y)), ("face", centre))
    }
    connectivity = Connectivity(table, "face_node_connectivity")
    made = MeshXY(2, coords["node"], [connectivity], face_coords_and_axes=coords["face"])
    for coord in made.to_MeshCoords("face"):
        cube.add_aux_coord(coord, 0)
    return cube


def vectors(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Unit vectors of longitudes and latitudes in degrees."""
    x, y = np.deg2rad(x), np.deg2rad(y)
    return np.stack([np.cos(x) * np.cos(y), np.sin(x) * np.cos(y), np.sin(y)], axis=-1)


def degrees(vector: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Longitudes and latitudes of unit vectors, in degrees."""
    x, y, z = np.moveaxis(vector, -1, 0)
    return np.rad2deg(np.arctan2(y, x)), np.rad2deg(np.arcsin(np.clip(z, -1, 1)))


def triangle_areas(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Areas of triangles on the unit sphere, by the theorem of L'Huilier."""
    sides = [2 * np.arcsin(np.linalg.norm(p - q, axis=-1) / 2) for p, q in ((b, c), (c, a), (a, b))]
    s = sum(sides) / 2
    product = np.tan(s / 2) * np.prod([np.tan((s - side) / 2) for side in sides], axis=0)
    return np.asarray(4 * np.arctan(np.sqrt(np.clip(product, 0, None))))
