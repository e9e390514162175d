"""How members of an ensemble, or times, differ: mean and spread, trends, percentiles."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence

import dask.array as da
import iris
import iris.analysis
import iris.exceptions
import iris.util
import numpy as np
from iris.coords import AuxCoord
from iris.cube import Cube, CubeList

import equalise
import hybrid
import places
import steps
from bad_data import DataError


def ensemble(members: Iterable[Cube]) -> Cube:
    """Put the members of an ensemble side by side.

    Parameters
    ----------
    members : iterable of Cube
        Of one shape; without a coordinate ``realization`` they are numbered.

    Returns
    -------
    Cube
        Of shape (realization, …); lazy.  Coordinates along a dimension that differ
        between members, such as the forecast period, are left out.

    Raises
    ------
    DataError
        If they do not fit together.
    """
    numbered = CubeList()
    for number, member in enumerate(members):
        member = member.copy()
        if not member.coords("realization"):
            member.add_aux_coord(AuxCoord(np.int32(number), "realization", units="1"))
        numbered.append(member)
    equalise.equalise_attributes(numbered)
    # Members of a lagged ensemble start at different times, so the same time is
    # another forecast period in each.
    for coord in numbered[0].coords(dim_coords=False):
        others = [member.coords(coord.name()) for member in numbered]
        if coord.shape != (1,) and any(found != [coord] for found in others):
            if coord.name() == "time":
                raise DataError("The members do not fit together: their times differ.")
            for member, found in zip(numbered, others, strict=True):
                for each in found:
                    member.remove_coord(each)
    try:
        return numbered.merge_cube()
    except (iris.exceptions.MergeError, ValueError) as error:
        raise DataError(f"The members do not fit together: {error}") from error


def mean_and_spread(cube: Cube) -> CubeList:
    """Average over the members, and their standard deviation, with n - 1 in its divisor.

    Parameters
    ----------
    cube : Cube
        Of shape (realization, …), from `ensemble`.

    Returns
    -------
    CubeList
        Two cubes without the dimension of members, in the units of `cube`; a spread of
        temperatures is in kelvin.

    Raises
    ------
    DataError
        If there is one member.
    """
    if not cube.coord_dims("realization"):
        raise DataError(f"{cube.name()} has 1 member, and a spread needs two.")
    cube = hybrid.drop_varying(cube, "realization")
    mean = cube.collapsed("realization", iris.analysis.MEAN)
    spread = cube.collapsed("realization", iris.analysis.STD_DEV, ddof=1)
    return CubeList([mean, steps.difference(spread, f"{cube.name()}_spread")])


def trend(annual: Cube) -> Cube:
    """Fit a straight line through the years of each point, by least squares.

    The slope is Σ (t - t̄)(y - ȳ) / Σ (t - t̄)² over the years in which the point has data;
    it is missing where these are less than `steps.MIN_COVERAGE` of all.

    Parameters
    ----------
    annual : Cube
        Of shape (year, …), at least two years.

    Returns
    -------
    Cube
        Without the dimension of years; its units are those of a difference of
        `annual` for ten years, and its attribute ``years`` names the first and the last.

    Raises
    ------
    DataError
        If there are fewer than two years.
    """
    years = annual.coord("year").points.astype("f8")
    if len(years) < 2:
        raise DataError(f"{annual.name()} has one year, and a trend needs two.")
    (dimension,) = annual.coord_dims("year")
    away = steps.along(annual, dimension, years - years.mean())
    slope = _slope(annual.lazy_data(), away, dimension)
    if not annual.has_lazy_data():
        slope = slope.compute()
    level = hybrid.drop_varying(annual, "year").collapsed("year", iris.analysis.MEAN)
    result = steps.difference(level.copy(data=10 * slope), f"{annual.name()}_trend")
    result.units = f"({result.units}) / (10 year)" if str(result.units) != "1" else "1 / (10 year)"
    result.cell_methods = annual.cell_methods
    result.attributes["years"] = f"{years[0]:.0f}-{years[-1]:.0f}"
    return result


def _slope(data: da.Array, away: np.ndarray, dimension: int) -> da.Array:
    """Return the slopes of the lines through the values of each point that are not missing.

    `away` is the distance of each year from the mean of all years.
    """
    filled = da.ma.filled(data.astype("f8"), np.nan)
    is_there = da.isfinite(filled)

    def total(values: da.Array) -> da.Array:
        return da.where(is_there, values, 0.0).sum(axis=dimension)

    count = is_there.sum(axis=dimension)
    enough = count >= max(2, steps.MIN_COVERAGE * data.shape[dimension])
    # Nothing is divided by zero: where there are not enough, the result is missing.
    years = da.where(enough, count, 1)
    sum_t, sum_y = total(away), total(filled)
    above = total(away * filled) - sum_t * sum_y / years
    below = da.where(enough, total(away**2) - sum_t**2 / years, 1.0)
    return da.ma.masked_where(~enough, above / below)


def percentiles(cube: Cube, percents: Sequence[float]) -> Cube:
    """Find the values below which so many percent of the times lie.

    Parameters
    ----------
    cube : Cube
        Of shape (time, …); where it is lazy it is read here, piece by piece.
    percents : sequence of float
        From 0 to 100.

    Returns
    -------
    Cube
        Of shape (percentile, …), or without that dimension for one percent.
    """
    cube = hybrid.drop_varying(cube, "time")
    result = cube.collapsed("time", iris.analysis.PERCENTILE, percent=list(percents))
    if not cube.has_lazy_data():
        return result
    # Iris has what the result is; its data would take the memory of all times.
    (time,) = cube.coord_dims("time")
    data = places.of_all_times(cube.lazy_data(), time, _percentiles(percents))
    if len(percents) == 1:
        return result.copy(data=data.reshape(result.shape))
    (axis,) = result.coord_dims("percentile_over_time")
    shape = [size for number, size in enumerate(result.shape) if number != axis]
    return result.copy(data=np.moveaxis(data.reshape(len(percents), *shape), 0, axis))


def _percentiles(percents: Sequence[float]) -> Callable[[np.ndarray], np.ndarray]:
    def compute(values: np.ndarray) -> np.ndarray:
        # The one that ignores what is missing takes many times as long.
        function = np.nanpercentile if np.isnan(values).any() else np.percentile
        with warnings.catch_warnings():
            # A place without any value stays without.
            warnings.filterwarnings("ignore", "All-NaN slice")
            found: np.ndarray = function(values, percents, axis=0)
        return found

    return compute
