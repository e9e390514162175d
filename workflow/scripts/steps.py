"""The science of the workflow: functions over Iris cubes.

They know neither S3 nor Snakemake, and stay lazy: data that is not small is read when a
result is saved.
"""

from __future__ import annotations

import calendar
from collections.abc import Sequence
from typing import Any

import dask
import iris
import iris.analysis
import iris.coord_categorisation
import iris.std_names
import iris.util
import numpy as np
from cf_units import Unit
from iris.coords import CellMethod, Coord
from iris.cube import Cube, CubeList

import hybrid
from bad_data import DataError
from units import use_difference_units

# What will be the default: times to the microsecond, and attributes of the file
# apart from those of its variables.
iris.FUTURE.date_microseconds = True
iris.FUTURE.save_split_attrs = True

# The memory of a job is a few pieces for each of its threads, and no more for more data.
dask.config.set({"array.chunk-size": "8MiB"})

#: Bytes of data of which the planning of lazy steps takes longer than the steps.
SMALL = 2**24

#: Values of a chunk in a file.
STORED_VALUES = 2**18

#: A year counts when its data covers this share of the best covered year, and a period when
#: the data has this share of its years.
MIN_COVERAGE = 0.9

#: Days: that share of a year of twelve months of 30 days.
SHORT_YEAR = MIN_COVERAGE * 360


def annual_mean(cube: Cube) -> Cube:
    """Average each calendar year, weighted by the length of the time bounds.

    Years that are covered by less than `MIN_COVERAGE` of the best covered one
    are left out, and so are those whose first and last time are no year apart: a mean of
    three winter months is no annual mean.  If there are no others, such as of a model that
    has run for three months, the attribute ``part_of_year`` names the months.

    Parameters
    ----------
    cube : Cube
        Of shape (time, …), any time step of up to a year.

    Returns
    -------
    Cube
        Of shape (year, …), with a coordinate ``year``; units are kept, and a
        cell method ``time: mean`` is added.
    """
    time = cube.coord("time")
    if cube.coords("year"):
        cube = cube.copy()
        cube.remove_coord("year")
    iris.coord_categorisation.add_year(cube, "time", name="year")
    (dimension,) = cube.coord_dims("time")
    lengths = np.diff(time.bounds, axis=1)[:, 0] if time.has_bounds() else np.ones(time.shape)
    years = cube.coord("year").points
    covered = {year: lengths[years == year].sum() for year in np.unique(years)}
    enough = MIN_COVERAGE * max(covered.values())
    whole = {year for year in covered if _spans_year(time[years == year])}
    kept = np.array([covered[y] >= enough and (y in whole or not whole) for y in years])
    months = "" if whole else _months(time[kept])
    cube, lengths, years = select(cube, "time", kept), lengths[kept], years[kept]

    if len(np.unique(years)) == len(years):
        # Annual already: Iris would take seconds to average single values.
        result = cube.copy()
    else:
        cube = hybrid.drop_varying(cube, "time")
        keywords = {}
        if any(np.ptp(lengths[years == year]) > 0 for year in np.unique(years)):
            keywords["weights"] = np.broadcast_to(along(cube, dimension, lengths), cube.shape)
        result = cube.aggregated_by("year", iris.analysis.MEAN, **keywords)
    result.cell_methods = (*cube.cell_methods, CellMethod("mean", "time"))
    if months:
        result.attributes["part_of_year"] = months
    if result.coords("time", dim_coords=False):
        iris.util.promote_aux_coord_to_dim_coord(result, "time")
    return result


def _spans_year(times: Coord) -> bool:
    """Tell whether the times of one year reach from its begin to its end, nearly.

    One time without bounds may stand for all of its year.
    """
    ends = times.bounds if times.has_bounds() else times.points
    length = float(ends.max() - ends.min())
    count = times.shape[0]
    if not times.has_bounds():
        if count == 1:
            return True
        length *= count / (count - 1)
    days = Unit(str(times.units).partition(" since ")[0]).convert(length, "days")
    return bool(days >= SHORT_YEAR)


def _months(times: Coord) -> str:
    """Name the months of the times of each year, such as "January to March"."""
    found = sorted({date.month for date in times.units.num2date(times.points)})
    names = [calendar.month_name[month] for month in found]
    if len(found) > 2 and found == list(range(found[0], found[-1] + 1)):
        return f"{names[0]} to {names[-1]}"
    return ", ".join(names)


def select(cube: Cube, coord: str, kept: np.ndarray) -> Cube:
    """Take the points along the dimension of a coordinate where `kept` is true.

    The dimension stays, even with one point left.
    """
    index: list[Any] = [slice(None)] * cube.ndim
    index[cube.coord_dims(coord)[0]] = np.flatnonzero(kept)
    return cube[tuple(index)]


def along(cube: Cube, dimension: int, values: np.ndarray) -> np.ndarray:
    """Shape a value for each point of one dimension, so that it fits all of the cube."""
    shape = [1] * cube.ndim
    shape[dimension] = -1
    return values.reshape(shape)


def years_between(annual: Cube, first: int, last: int) -> Cube:
    """Take the years from `first` to `last`, both included.

    Raises
    ------
    DataError
        If more than a tenth of them is missing.
    """
    require_years(annual, (first, last))
    years = annual.coord("year").points
    return select(annual, "year", (first <= years) & (years <= last))


def require_years(cube: Cube, period: Sequence[int]) -> None:
    """Refuse data that lacks more than a tenth of the years of a period.

    Parameters
    ----------
    cube : Cube
        With a coordinate ``year``, in which a year may occur more than once.
    period : sequence of int
        First and last year.

    Raises
    ------
    DataError
        If it does.
    """
    first, last = period
    years = np.unique(cube.coord("year").points)
    found = int(((first <= years) & (years <= last)).sum())
    wanted = last - first + 1
    if found < MIN_COVERAGE * wanted:
        raise DataError(
            f"{cube.name()} has {found} of the {wanted} years {first}-{last}; it covers "
            f"{years[0]}-{years[-1]}."
        )


def climatology(annual: Cube, baseline: Sequence[int]) -> Cube:
    """Average the annual means over a baseline period.

    Parameters
    ----------
    annual : Cube
        Of shape (year, …), from `annual_mean`.
    baseline : sequence of int
        First and last year.

    Returns
    -------
    Cube
        Without the time dimension; units are kept, and a cell method ``time: mean`` is
        added.  The attribute ``baseline`` names the years.

    Raises
    ------
    DataError
        If the data lacks more than a tenth of the years of the baseline.
    """
    first, last = baseline
    years = hybrid.drop_varying(years_between(annual, first, last), "year")
    result = years.collapsed("year", iris.analysis.MEAN)
    result.cell_methods = (*annual.cell_methods, CellMethod("mean", "time"))
    result.attributes["baseline"] = f"{first}-{last}"
    return result


def anomaly(annual: Cube, normal: Cube) -> Cube:
    """Subtract a climatology from annual means.

    Parameters
    ----------
    annual : Cube
        Of shape (year, …).
    normal : Cube
        Of the shape that remains without time, in the same units.

    Returns
    -------
    Cube
        Of the shape of `annual`, with its metadata; its name ends with
        ``_anomaly``, as a standard name where CF has one.  The attribute
        ``baseline`` says what was subtracted.  Differences of temperatures are in
        kelvin, see `units.difference_units`.
    """
    (dimension,) = annual.coord_dims("year")
    data = annual.core_data() - np.expand_dims(normal.core_data(), dimension)
    result = difference(annual.copy(data=data), f"{annual.name()}_anomaly")
    result.attributes["baseline"] = normal.attributes["baseline"]
    return result


def difference(cube: Cube, name: str) -> Cube:
    """Name a cube whose data are differences, and give it units for these."""
    use_difference_units(cube)
    return renamed(cube, name)


def renamed(cube: Cube, name: str) -> Cube:
    """Name a cube, by a standard name where CF has this one."""
    cube.standard_name, cube.var_name = None, None
    if name in iris.std_names.STD_NAMES:
        cube.standard_name = name
    cube.long_name = name
    return cube


def save(cube: Cube | CubeList, path: str) -> None:
    """Save a cube, or several, as netCDF-4, compressed."""
    cubes = [cube] if isinstance(cube, Cube) else cube
    for each in cubes:
        _as_cf_has_it(each)
    shapes = {each.shape for each in cubes}
    # Those of several shapes are small.
    chunks = stored_chunk(*shapes) if len(shapes) == 1 else None
    iris.save(cube, path, zlib=True, chunksizes=chunks or None)


def _as_cf_has_it(cube: Cube) -> None:
    """Make of a cube what CF 1.7 has: no integers of 64 bits, and no attributes of libraries."""
    for coord in cube.coords():
        if coord.dtype == np.int64:
            coord.points = coord.points.astype(np.int32)
            coord.bounds = coord.bounds.astype(np.int32) if coord.has_bounds() else None
    # Such as those that THREDDS adds; netCDF reserves these names.
    for name in [name for name in cube.attributes if name.startswith("_")]:
        del cube.attributes[name]


def stored_chunk(shape: Sequence[int]) -> tuple[int, ...]:
    """Shape the chunks of a file like the pieces that come to it: whole fields.

    The netCDF library would cut all dimensions alike, and compress each chunk
    again for each piece.
    """
    room, sizes = STORED_VALUES, list[int]()
    for size in reversed(shape):
        sizes.append(min(size, max(1, room)))
        room //= size
    return tuple(reversed(sizes))


def read_if_small(cube: Cube) -> Cube:
    """Read the data of a cube, if it is `SMALL`; other data stays lazy."""
    if cube.has_lazy_data() and cube.lazy_data().nbytes <= SMALL:
        cube.data  # noqa: B018
    return cube


def load_results(path: str) -> CubeList:
    """Load all that `save` wrote.

    Fields that levels are derived from, and areas of cells, are variables of the same file,
    and no results.
    """
    cubes = CubeList(iris.load(path))
    parts = {
        part.name()
        for cube in cubes
        for part in [*cube.aux_coords, *cube.cell_measures(), *cube.ancillary_variables()]
    }
    return CubeList(cube for cube in cubes if cube.name() not in parts)


def load_result(path: str) -> Cube:
    """Load what `save` wrote: the one result, or the one that has years.

    Raises
    ------
    DataError
        If there is no such one.
    """
    results = load_results(path)
    if len(results) > 1:
        results = CubeList(cube for cube in results if cube.coords("year"))
    if len(results) != 1:
        raise DataError(f"{path} has {len(results)} results instead of one.")
    return read_if_small(results[0])
