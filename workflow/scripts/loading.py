"""Load the files of a dataset as one cube, or say what keeps them apart."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import iris
import iris.exceptions
import iris.util
import numpy as np
from iris.coords import Coord
from iris.cube import Cube, CubeList

import bad_data
import cells
import coordinates
import derived
import equalise
import hybrid
import steps
import units as unit_conversion
from bad_data import DataError

#: Attributes that are the same in all files of one dataset, or it is none.
OF_ONE_DATASET = ("source_id", "model_id", "variant_label")

#: Holds the path of its file on a cube until it is combined with others.
_FILE = "_file_of_this_cube"


def load(files: Iterable[str], spec: str | Mapping[str, Any], units: str | None = None) -> Cube:
    """Load one cube from many files.

    Differences that have no meaning are removed, see `equalise`.

    Parameters
    ----------
    files : iterable of str
        Paths of files in any format that Iris reads.
    spec : str or mapping
        The name of a quantity; or ``name`` and ``coordinates``, which maps names of
        coordinates to what is wanted of them, see `coordinates.extract`.  Of a derived
        quantity also its ``expression``, see `derived.evaluate`, and its ``variables``: for
        each name in the expression such a name or mapping.
    units : str, optional
        The units to convert to, see `units.convert_units`.

    Returns
    -------
    Cube
        With a time dimension; lazy, unless it is small.

    Raises
    ------
    DataError
        If no data matches, what matches is more than one cube, times occur twice, its
        units cannot be converted, or a file is cut.
    """
    files = list(files)
    for file in files:
        bad_data.refuse_if_cut(file)
    spec = {"name": spec} if isinstance(spec, str) else spec
    cube = _load_derived(files, spec) if "expression" in spec else _load_one(files, spec)
    if units is not None:
        unit_conversion.convert_units(cube, units, _named(files))
    return steps.read_if_small(cube)


def _load_derived(files: Sequence[str], spec: Mapping[str, Any]) -> Cube:
    """Load the variables of an expression, and evaluate it."""
    variables = {}
    for key, each in spec["variables"].items():
        each = {"name": each} if isinstance(each, str) else each
        wanted = {**each.get("coordinates", {}), **spec.get("coordinates", {})}
        variables[key] = _load_one(files, {**each, "coordinates": wanted})
    return derived.evaluate(spec["expression"], variables, spec["name"])


def _load_one(files: Sequence[str], spec: Mapping[str, Any]) -> Cube:
    """Load a quantity that the files have."""
    name, wanted = spec["name"], spec.get("coordinates", {})
    found = _read(files, name)
    parts = found
    # The rest needs all values at once, or all longitudes.
    early = {key: value for key, value in wanted.items() if not _needs_all(key, value)}
    for key, value in early.items():
        extracted = [(file, coordinates.extract_one(cube, key, value)) for file, cube in parts]
        left = [(file, cube) for file, cube in extracted if cube is not None]
        if not left:
            raise DataError(
                f"Nothing in {_named(files)} has {key} {coordinates.described(value)}: "
                f"{coordinates.available([cube for _, cube in found], key)}."
            )
        for (file, cube), (_, part) in zip(parts, extracted, strict=True):
            # Fields of other levels are no part of the wish; a file that has levels, and
            # not this one, would leave a gap.
            if part is None and not isinstance(value, list) and coordinates.spans(cube, key):
                raise DataError(
                    f"Nothing in {file} has {key} {coordinates.described(value)}, which other "
                    f"files have: {coordinates.available([cube], key)}."
                )
        parts = left
    cube = combine(parts, f"{_wish(name, wanted)} in {_named(files)}")
    return coordinates.extract(cube, {key: wanted[key] for key in wanted.keys() - early.keys()})


def combine(parts: Sequence[tuple[str, Cube]], wish: str) -> Cube:
    """Combine cubes of several files into one with a time dimension.

    Parameters
    ----------
    parts : sequence of (str, Cube)
        Paths, and cubes that were read from them; these are changed.
    wish : str
        What they are, for messages.

    Raises
    ------
    DataError
        If they do not fit into one cube, or a time occurs twice.
    """
    _refuse_mixture(parts)
    cubes = [cube for _, cube in parts]
    for file, cube in parts:
        if not cube.coords("time"):
            raise DataError(f"{cube.name()} in {file} has no time coordinate.")
        _refuse_strange_times(cube.coord("time"), file)
    equalise.equalise(cubes)
    combined = _combined(cubes)
    if len(combined) != 1:
        _refuse_overlap(parts)
        raise DataError(
            f"What matches {wish} fits into {len(combined)} cubes, not one: {_misfit(parts)}."
        )
    cube = combined[0]
    time = cube.coord("time")
    if time.ndim > 1 or len(np.unique(time.points)) != time.shape[0]:
        raise DataError(
            f"What matches {wish} has no single sequence of times. Select one forecast or member "
            "by its coordinates."
        )
    cube = cells.without_repetition(cube)
    _clip_latitude_bounds(cube)
    _date_by_bounds(cube)
    _mask_gaps(cube)
    return cube


def _read(files: Sequence[str], name: str) -> list[tuple[str, Cube]]:
    """Read all cubes of a name, each with the file that it is from."""

    def remember(cube: Cube, _field: object, file: str) -> None:
        cube.attributes[_FILE] = file

    cubes = iris.load_raw(files, iris.Constraint(name=name), callback=remember)
    if not cubes:
        raise DataError(
            f"Nothing in {_named(files)} matches the constraint {name!r}; it has: "
            f"{', '.join(sorted({cube.name() for cube in iris.load_raw(files)})) or 'no data'}."
        )
    return [(str(cube.attributes.pop(_FILE)), cube) for cube in cubes]


def _needs_all(name: str, value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and name == "longitude")


def _combined(cubes: Sequence[Cube]) -> CubeList:
    """Combine cubes as far as they fit together, each with a time dimension.

    Those of one time are merged first, as a file for each month or a field of PP are.
    Merging compares each cube with each other one, so cubes of many times are
    concatenated before what is left, such as files of one level each, is merged.
    """
    single = [cube for cube in cubes if not cube.coord_dims("time")]
    several = [cube for cube in cubes if cube.coord_dims("time")]
    along_time = {
        coord.name()
        for cube in several
        for coord in cube.coords(contains_dimension=cube.coord_dims("time")[0])
    }
    along_time |= hybrid.differing_fields(single)
    merged = [_with_time_dimension(cube, along_time) for cube in _merged(single)]
    parts = _concatenated([*merged, *several])
    return _concatenated(_merged(parts)) if len(parts) > 1 else parts


def _merged(cubes: Sequence[Cube]) -> CubeList:
    try:
        return CubeList(cubes).merge()
    except iris.exceptions.DuplicateDataError:
        return CubeList(cubes)


def _concatenated(cubes: Sequence[Cube]) -> CubeList:
    with warnings.catch_warnings():
        # What these say becomes an error that names the files.
        warnings.filterwarnings("ignore", "Found cubes with overlap|Cannot find an axis")
        return CubeList(cubes).concatenate()


def _with_time_dimension(cube: Cube, along_time: set[str]) -> Cube:
    if cube.coord_dims("time"):
        return cube
    others = [coord for coord in cube.aux_coords if coord.name() in along_time - {"time"}]
    return iris.util.new_axis(cube, "time", expand_extras=others)


def _refuse_strange_times(time: Coord, file: str) -> None:
    try:
        time.units.num2date(time.points.flat[0])
    except ValueError as error:
        raise DataError(
            f"The times in {file} are in {time.units}, which cannot be read as dates: {error}."
        ) from error


def _refuse_mixture(parts: Sequence[tuple[str, Cube]]) -> None:
    """Refuse files of different models, or of different members."""
    for key in OF_ONE_DATASET:
        seen: dict[str, str] = {}
        for file, cube in parts:
            if key in cube.attributes:
                seen.setdefault(str(cube.attributes[key]), file)
        if len(seen) > 1:
            (one, first), (other, second), *_ = seen.items()
            raise DataError(
                f"{first} and {second} are not of one dataset: their {key} is {one} and {other}."
            )


def _refuse_overlap(parts: Sequence[tuple[str, Cube]]) -> None:
    """Refuse files that have a time in common and differ in nothing else."""
    groups: dict[str, list[tuple[str, Cube]]] = {}
    for file, cube in parts:
        # Fields of different levels have their times in common.
        groups.setdefault(repr([cube.name(), sorted(_scalars(cube).items())]), []).append(
            (file, cube)
        )
    for group in groups.values():
        group.sort(key=lambda part: float(part[1].coord("time").points.min()))
        for (first, cube), (second, other) in pairwise(group):
            times, later = cube.coord("time"), other.coord("time")
            ends = (later.points.min(), min(times.points.max(), later.points.max()))
            if times.units != later.units or ends[0] > ends[1] or _differences(cube, other):
                continue
            days = " to ".join(dict.fromkeys(str(times.units.num2date(end))[:10] for end in ends))
            if first == second:
                raise DataError(f"{first} has data of {days} more than once.")
            raise DataError(f"{first} and {second} overlap: both have data of {days}.")


def _misfit(parts: Sequence[tuple[str, Cube]]) -> str:
    """Say which two files do not fit together, and what differs between them."""
    first, cube = parts[0]
    for second, other in parts[1:]:
        if len(_combined([cube, other])) > 1:
            pair = f"{first} and {second}"
            if first == second:
                pair = f"{cube.var_name or cube.name()} and {other.var_name or other.name()} in it"
            return f"{pair} differ: {'; '.join(_differences(cube, other) or _in_time(cube, other))}"
    return "; ".join(_in_time(*(cube for _, cube in parts)))


def _differences(one: Cube, other: Cube) -> list[str]:
    """Let Iris describe what differs between two cubes apart from their times."""
    found: list[str] = []
    try:
        CubeList([_without_time(one), _without_time(other)]).merge_cube()
    except iris.exceptions.DuplicateDataError:
        return found
    except iris.exceptions.MergeError as error:
        found += [str(line).rstrip(".") for line in error.differences]
    here, there = _by_name(one), _by_name(other)
    for name in here.keys() & there.keys():
        if here[name] != there[name]:
            found.append(f"{name} has {_summary(here[name])} and {_summary(there[name])}")
    return found


def _in_time(*cubes: Cube) -> list[str]:
    """Let Iris describe why cubes do not fit together one after another."""
    calendars = list(dict.fromkeys(cube.coord("time").units.calendar for cube in cubes))
    if len(calendars) > 1:
        return [f"their calendars are {' and '.join(calendars)}"]
    try:
        CubeList(cubes).concatenate_cube()
    except iris.exceptions.ConcatenateError as error:
        return [str(line).rstrip(".") for line in error.differences]
    return ["their times"]


def _without_time(cube: Cube) -> Cube:
    """Take the first time of a cube, and remove what depends on time."""
    dimensions = cube.coord_dims("time")
    part = cube[tuple(0 if n in dimensions else slice(None) for n in range(cube.ndim))]
    for coord in [*cube.dim_coords, *cube.aux_coords]:
        if _is_time(coord) or set(dimensions) & set(cube.coord_dims(coord)):
            part.remove_coord(coord.name())
    return part


def _by_name(cube: Cube) -> dict[str, Coord]:
    dimensions = set(cube.coord_dims("time"))
    return {
        coord.name(): coord
        for coord in [*cube.dim_coords, *cube.aux_coords]
        if not _is_time(coord) and not dimensions & set(cube.coord_dims(coord))
    }


def _is_time(coord: Coord) -> bool:
    return bool(coord.units.is_time_reference() or coord.units.is_convertible("s"))


def _summary(coord: Coord) -> str:
    points = coord.points
    if coord.dtype.kind not in "iuf":
        return ", ".join(map(str, points.ravel()[:5]))
    units = "" if coord.units.is_no_unit() or coord.units.is_dimensionless() else f" {coord.units}"
    if points.size == 1:
        return f"{points.flat[0]:.10g}{units}"
    return f"{points.min():.10g} to {points.max():.10g}{units} ({points.size} values)"


def _scalars(cube: Cube) -> dict[str, Any]:
    return {
        coord.name(): coord.points[0] for coord in cube.coords(dimensions=()) if not _is_time(coord)
    }


def _clip_latitude_bounds(cube: Cube) -> None:
    """Clip cells that reach beyond a pole, as those of two models of CMIP6 do."""
    for coord in cube.coords("latitude"):
        if coord.units == "degrees" and coord.ndim == 1 and coord.has_bounds():
            bounds = np.clip(coord.bounds, -90, 90)
            if not np.array_equal(bounds, coord.bounds):
                coord.bounds = bounds


def _date_by_bounds(cube: Cube) -> None:
    """Put times that are the ends of their bounds into the middle of them.

    CESM dates the mean of January by the first of February; its year, month and season are
    those of its bounds.  ESMValCore does the same.
    """
    time = cube.coord("time")
    if time.has_bounds() and (time.points >= time.bounds.max(axis=-1)).any():
        time.points = time.bounds.mean(axis=-1)


def _mask_gaps(cube: Cube) -> None:
    """Mask what is not a number, as a file may have it without saying that it is missing."""
    if cube.dtype.kind != "f":
        return
    if cube.has_lazy_data():
        cube.data = cube.lazy_data().map_blocks(_masked, dtype=cube.dtype)
    else:
        cube.data = _masked(cube.data)


def _masked(values: np.ndarray) -> np.ndarray:
    gaps = np.ma.filled(np.isnan(values), False)
    return np.ma.masked_where(gaps, values, copy=False) if gaps.any() else values


def _wish(name: str, wanted: Mapping[str, Any]) -> str:
    parts = [f"{key} {coordinates.described(value)}" for key, value in wanted.items()]
    return f"{name!r}{' with ' if parts else ''}{' and '.join(parts)}"


def _named(files: Sequence[str]) -> str:
    return files[0] if len(files) == 1 else f"{files[0]} and {len(files) - 1} more"
