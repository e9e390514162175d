"""A figure for each product: maps side by side, or a series."""

from __future__ import annotations

import calendar
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import iris.analysis
import numpy as np
from iris.cube import Cube, CubeList
from matplotlib.figure import Figure

import area_statistics
import cells
import figures
import hybrid
import labels
import maps

#: More maps than this are too small to be read.
MOST_PANELS = 12

#: Products that are drawn as the series of their area mean.
SERIES = ("monthly_anomaly", "seasonal_anomaly")

#: Products that are differences, for which zero has a colour of its own.
DIFFERENCES = ("trend",)


def draw(product: str, cubes: Sequence[Cube], title: str, settings: Mapping[str, Any]) -> Figure:
    """Draw a product.

    Parameters
    ----------
    product : str
        Its name in the configuration, or "ensemble".
    cubes : sequence of Cube
        What its file has.
    title : str
        What the dataset is called.
    settings : mapping
        As for `maps.plot_map`.

    Returns
    -------
    Figure
        A sentence where there would be too many maps, or there is no horizontal field.
    """
    title = f"{title}: {labels.readable(product).lower()}"
    if product == "ensemble":
        spread, mean = sorted(cubes, key=lambda cube: not cube.name().endswith("_spread"))
        names = (f"{title}, mean", "Standard deviation of the members")
        return maps.plot_models(_without_time(mean), _without_time(spread), None, names, settings)
    (cube,) = CubeList(cubes)
    if product in SERIES:
        return figures.plot_times(_area_mean(cube), title)
    cube = _without_time(cube)
    dims = cells.horizontal_dims(cube)
    others = [dim for dim in range(cube.ndim) if dim not in dims]
    count = int(np.prod([cube.shape[dim] for dim in others], dtype=int))
    if not dims or count > MOST_PANELS:
        reason = f"it would have {count} maps" if dims else "it has no horizontal dimension"
        return maps.sentence(title, f"There is no figure of {cube.name()}: {reason}.")
    panels = []
    for places in itertools.product(*(range(cube.shape[dim]) for dim in others)):
        index: list[Any] = [slice(None)] * cube.ndim
        for dim, place in zip(others, places, strict=True):
            index[dim] = place
        name = ", ".join(
            _label(cube, dim, place) for dim, place in zip(others, places, strict=True)
        )
        panels.append((name, cube[tuple(index)]))
    return maps.plot_panels(panels, title, product in DIFFERENCES, settings)


def _without_time(cube: Cube) -> Cube:
    """Average over time, where there is more than one."""
    if not cube.coords("time") or not cube.coord_dims("time"):
        return cube
    if cube.coords("month_number") or cube.coords("season"):
        return cube
    return hybrid.drop_varying(cube, "time").collapsed("time", iris.analysis.MEAN)


def _area_mean(cube: Cube) -> Cube:
    return area_statistics.area_mean(cube) if cells.horizontal_dims(cube) else cube


def _label(cube: Cube, dim: int, place: int) -> str:
    """Name a point of a dimension: a month, a season, a percentile or a level."""
    for name in ("month_number", "season"):
        if cube.coords(name, dimensions=dim):
            point = cube.coord(name).points[place]
            return calendar.month_name[point] if name == "month_number" else str(point).upper()
    coords = cube.coords(dimensions=dim, dim_coords=True) or cube.coords(dimensions=dim)
    if not coords:
        return str(place + 1)
    point = coords[0].points[place]
    if coords[0].name().startswith("percentile"):
        return f"{point:g} %"
    text = f"{point:g}" if np.issubdtype(coords[0].dtype, np.number) else str(point)
    units = labels.units_label(str(coords[0].units))
    return f"{labels.readable(coords[0].name())} {text} {units}".strip()
