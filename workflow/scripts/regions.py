"""Regions of the Earth: boxes of longitude and latitude, and the reference regions of the IPCC."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import shapely

from bad_data import DataError

#: Corners of the IPCC's reference regions; its first lines name the source.
TABLE = Path(__file__).parent / "../resources/ipcc_ar6_reference_regions.csv"

#: Points on an edge belong to the region in the west or south of it: they are moved by so
#: many degrees of longitude and latitude, along no edge.
ASIDE = (1e-8, 1e-9)


@cache
def ipcc() -> dict[str, shapely.MultiPolygon]:
    """Read the reference regions of the IPCC's Sixth Assessment Report.

    Edges are straight in longitude and latitude.  A region across 180° has a polygon on
    either side.

    Returns
    -------
    dict of str to MultiPolygon
        By acronym, in degrees from -180 to 180.  They cover the globe without overlapping,
        but for slivers where an edge of one passes a corner of another.
    """
    parts: dict[str, list[shapely.Polygon]] = {}
    with TABLE.open(newline="") as file:
        rows = csv.reader(line for line in file if not line.startswith("#"))
        next(rows)
        for _place, _surface, _name, acronym, *vertices in rows:
            corners = [tuple(map(float, each.split("|"))) for each in vertices if each.strip()]
            parts.setdefault(acronym.rstrip("*"), []).append(shapely.Polygon(corners))
    return {name: shapely.MultiPolygon(polygons) for name, polygons in parts.items()}


def named(region: str) -> shapely.MultiPolygon:
    """Look up a region by its acronym.

    Raises
    ------
    DataError
        If there is none of this name.
    """
    try:
        return ipcc()[region]
    except KeyError:
        raise DataError(
            f"There is no region {region!r}; the IPCC's are {', '.join(sorted(ipcc()))}."
        ) from None


def inside(
    region: Sequence[float] | str, longitude: np.ndarray, latitude: np.ndarray
) -> np.ndarray:
    """Tell which points lie in a region.

    Parameters
    ----------
    region : sequence of float or str
        West, south, east and north in degrees, edges included; or the acronym of a
        region of the IPCC.
    longitude, latitude : ndarray
        Of the points, in degrees, longitudes in any convention.

    Returns
    -------
    ndarray of bool
        Of the shape of `longitude`; false where a coordinate is missing.
    """
    if isinstance(region, str):
        x = (longitude - ASIDE[0] + 180) % 360 - 180
        y = np.clip(latitude - ASIDE[1], -90 + ASIDE[1], None)
        return np.asarray(shapely.contains_xy(named(region), x, y))
    west, south, east, north = region
    east_of_west = (longitude - west) % 360
    between = east_of_west <= _width(west, east)
    return np.asarray(between & (south <= latitude) & (latitude <= north))


def box(region: Sequence[float] | str) -> tuple[float, float, float, float]:
    """Return west, south, east and north around a region, with the west below the east."""
    if not isinstance(region, str):
        west, south, east, north = region
        return west, south, west + _width(west, east), north
    polygons = named(region).geoms
    bounds = np.array([polygon.bounds for polygon in polygons])
    if len(bounds) > 1:
        bounds[bounds[:, 0] == -180, 0::2] += 360
    west, south = bounds[:, :2].min(axis=0)
    east, north = bounds[:, 2:].max(axis=0)
    return float(west), float(south), float(east), float(north)


def label(region: Sequence[float] | str) -> str:
    """Name a region: its acronym, or a box such as "10W-30E 35N-60N"."""
    if isinstance(region, str):
        return region
    west, south, east, north = region
    x = [_side((each + 180) % 360 - 180, "E", "W") for each in (west, east)]
    y = [_side(each, "N", "S") for each in (south, north)]
    return f"{x[0]}-{x[1]} {y[0]}-{y[1]}"


def _side(value: float, above: str, below: str) -> str:
    return f"{abs(value):g}{above if value > 0 else below if value < 0 else ''}"


def _width(west: float, east: float) -> float:
    if east - west >= 360:
        return 360.0
    return (east - west) % 360
