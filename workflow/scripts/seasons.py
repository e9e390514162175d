"""What is usual in each month or season, and how far a time differs from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dask.array as da
import iris
import iris.analysis
import iris.coord_categorisation as categorisation
import numpy as np
from iris.coords import CellMethod
from iris.cube import Cube

import hybrid
import steps
from bad_data import DataError

#: What a year may be divided into: how the parts are numbered or named.
PARTS = {"month": "month_number", "season": "season"}
#: The first month of each season.
_SEASONS = {"djf": 12, "mam": 3, "jja": 6, "son": 9}


def climatology(cube: Cube, baseline: Sequence[int], part: str) -> Cube:
    """Average each month, or each season, over a baseline period.

    Times are weighted by the length of their bounds, where they have any.

    Parameters
    ----------
    cube : Cube
        Of shape (time, …), with time steps of a month or less.
    baseline : sequence of int
        First and last calendar year.
    part : str
        "month", or "season" for December to February and so on.

    Returns
    -------
    Cube
        Of shape (12 or 4, …), with a coordinate ``month_number`` or ``season``;
        units are kept.  Its time is a climatological one, whose bounds are the begin of the
        first and the end of the last of these months or seasons (CF 1.7, section 7.4).

    Raises
    ------
    DataError
        If the data lacks more than a tenth of the years of the baseline.
    """
    first, last = baseline
    cube = steps.years_between(_categorised(cube, part), first, last)
    keywords = {}
    if cube.coord("time").has_bounds():
        lengths = np.diff(cube.coord("time").bounds, axis=1)[:, 0]
        (dimension,) = cube.coord_dims("time")
        keywords["weights"] = np.broadcast_to(steps.along(cube, dimension, lengths), cube.shape)
    cube = hybrid.drop_varying(cube, "time")
    result = cube.aggregated_by(PARTS[part], iris.analysis.MEAN, **keywords)
    result.remove_coord("year")
    _bound_by_parts(result, part)
    over = ("mean within years", "mean over years")
    # A mean of each time step is part of the mean within years.
    before = [
        each for each in cube.cell_methods if (each.method, each.coord_names) != ("mean", ("time",))
    ]
    result.cell_methods = (*before, *(CellMethod(each, "time") for each in over))
    result.attributes["baseline"] = f"{part}s of {first}-{last}"
    return result


def anomaly(cube: Cube, normal: Cube, part: str) -> Cube:
    """Subtract from each time what is usual in its month or season.

    Parameters
    ----------
    cube : Cube
        Of shape (time, …).
    normal : Cube
        From `climatology`, in the same units.
    part : str
        As there.

    Returns
    -------
    Cube
        Of the shape of `cube`, lazy; its name ends with ``_anomaly``, and differences of
        temperatures are in kelvin.

    Raises
    ------
    DataError
        If some month or season is not in `normal`.
    """
    cube = _categorised(cube, part)
    parts, known = cube.coord(PARTS[part]).points, normal.coord(PARTS[part]).points
    if missing := sorted(set(parts.tolist()) - set(known.tolist())):
        raise DataError(f"{cube.name()}: the baseline has no {part} {missing[0]}.")
    places = {name: place for place, name in enumerate(known.tolist())}
    (dimension,) = cube.coord_dims("time")
    index = steps.along(cube, dimension, np.array([places[name] for name in parts.tolist()]))
    data = cube.core_data() - _usual(normal, part, index, cube.lazy_data())
    result = steps.difference(cube.copy(data=data), f"{cube.name()}_anomaly")
    result.attributes["baseline"] = normal.attributes["baseline"]
    return result


def _usual(normal: Cube, part: str, index: np.ndarray, data: da.Array) -> da.Array:
    """What is usual at each time, made piece by piece: for all times it is as large as the data."""
    (dimension,) = normal.coord_dims(PARTS[part])
    # Not lazy: each piece would read the years of the baseline anew.
    values = normal.data.astype(np.result_type(data.dtype, np.float32))
    sizes = [(size,) for size in values.shape]
    sizes[dimension] = data.chunks[dimension]
    places = da.from_array(
        index,
        chunks=[
            each if size > 1 else 1 for each, size in zip(data.chunks, index.shape, strict=True)
        ],
    )
    return places.map_blocks(
        lambda piece: values.take(piece.ravel(), axis=dimension),
        chunks=tuple(sizes),
        dtype=values.dtype,
        meta=values[(slice(0, 0),) * values.ndim],
    )


def _bound_by_parts(result: Cube, part: str) -> None:
    """Let the bounds of each month or season be those of its first and its last occurrence."""
    time = result.coord("time")
    if not time.has_bounds():
        return
    bounds = []
    names = result.coord(PARTS[part]).points.tolist()
    for name, (first, last) in zip(names, time.units.num2date(time.bounds), strict=True):
        # January is month 1; a season has the initials of its months.
        start = name if part == "month" else _SEASONS[name]
        after = (start + (1 if part == "month" else 3) - 1) % 12 + 1
        begin, end = _begin_of(start, first), _begin_of(after, last)
        begin = begin.replace(year=begin.year - (begin > first))
        bounds.append([begin, end.replace(year=end.year + (end < last))])
    # date2num makes 64-bit integers of whole days, which are no type of a time in CF 1.7.
    time.bounds = np.asarray(time.units.date2num(bounds), time.points.dtype)
    time.climatological = True


def _begin_of(month: int, date: Any) -> Any:
    """Return the begin of a month in the year of a date."""
    return date.replace(month=month, day=1, hour=0, minute=0, second=0, microsecond=0)


def _categorised(cube: Cube, part: str) -> Cube:
    cube = cube.copy()
    for name in ("year", PARTS[part]):
        if cube.coords(name):
            cube.remove_coord(name)
        getattr(categorisation, f"add_{name}")(cube, "time", name=name)
    return cube
