"""Statistics over many models: on a common grid, and of series of years."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dask.array as da
import iris.analysis
import numpy as np
from iris.coord_systems import GeogCS
from iris.coords import AuxCoord, CellMethod, DimCoord
from iris.cube import Cube, CubeList

import grids
import places
import provenance
import steps
from bad_data import DataError
from coordinates import nearly_equal

#: The spread is between these percentiles of the models.
PERCENTS = (5, 95)

#: Share of the models that must have data where their agreement is of interest.
MIN_MODELS = 0.5

#: Statistics of models, in the order in which they are computed.
STATISTICS = ("mean", "median", "percentile_5", "percentile_95", "number_of_models", "agreement")


@dataclass
class Models:
    """Models that fit together, and those that do not.

    Attributes
    ----------
    kept : dict of str to Cube
        By name.
    left_out : dict of str to str
        By name, the reason.
    """

    kept: dict[str, Cube] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, make: Callable[[], Cube]) -> None:
        """Keep what is made, if it can be made and fits to the first that was kept."""
        try:
            cube = make()
            if cube.units.is_unknown() or cube.units.is_no_unit():
                raise DataError(f"{cube.name()} has no units, so it cannot be compared.")
            if self.kept:
                _fit(cube, next(iter(self.kept.values())))
        except DataError as error:
            self.left_out[name] = str(error)
        else:
            self.kept[name] = cube

    def require_two(self) -> None:
        """Refuse statistics of a single model.

        Raises
        ------
        DataError
            If there are fewer than two.
        """
        if len(self.kept) < 2:
            reasons = (f" Of {name}: {reason}" for name, reason in self.left_out.items())
            raise DataError(
                f"{len(self.kept)} models can be used, and statistics need two.{next(reasons, '')}"
            )


def change(anomaly: Cube, period: Sequence[int]) -> Cube:
    """Average anomalies over a period.

    Parameters
    ----------
    anomaly : Cube
        Of shape (year, …), from `steps.anomaly`.
    period : sequence of int
        First and last year.

    Returns
    -------
    Cube
        Without the dimension of years.

    Raises
    ------
    DataError
        If the data lacks more than a tenth of the years.
    """
    return steps.years_between(anomaly, *period).collapsed("year", iris.analysis.MEAN)


def on_grid(cube: Cube, grid: Mapping[str, Any]) -> Cube:
    """Bring a cube to the common grid, lazily.

    Parameters
    ----------
    cube : Cube
        With horizontal dimensions, and at most one more.
    grid : mapping
        ``step`` and ``scheme``, see `grids.regrid`.
    """
    for coord in cube.coords(axis="x", dim_coords=True) + cube.coords(axis="y", dim_coords=True):
        # Models have Earths of slightly different radius, and none states how it was used.
        if isinstance(coord.coord_system, GeogCS):
            coord.coord_system = None
    # However small a model is, those of many on a fine grid are not.
    cube.data = cube.lazy_data()
    return grids.regrid(cube, **grid)


def statistics(models: Mapping[str, Cube], *, signed: bool) -> CubeList:
    """Compute mean, median and percentiles of models at each place.

    A model counts where it has data.  Percentiles are interpolated linearly between
    models.

    Parameters
    ----------
    models : mapping of str to Cube
        Lazy cubes of one shape; one at a time for each thread is in memory.
    signed : bool
        Whether they are changes, of which ``agreement`` is the share of models that have
        the sign of the mean; missing where the mean is 0, or less than `MIN_MODELS` of the
        models have data.

    Returns
    -------
    CubeList
        A cube for each of `STATISTICS`, which its name begins with.

    """
    first = next(iter(models.values()))
    data = da.stack([cube.lazy_data().astype("f8") for cube in models.values()])
    found = places.of_all_times(data, 0, _compute)
    values = found.reshape(len(STATISTICS), *first.shape)
    return CubeList(
        _statistic(first, name, values[number])
        for number, name in enumerate(STATISTICS)
        if signed or name != "agreement"
    )


def series(models: Mapping[str, Cube], *, span: str = "overlap") -> CubeList:
    """Compute statistics of models for each year.

    Parameters
    ----------
    models : mapping of str to Cube
        Of shape (year,), such as anomalies from the baseline of each model; they are
        converted to the units of the first.
    span : str
        "overlap", for the years that all models have, or "full", for those of any.

    Returns
    -------
    CubeList
        Of shape (year,), a cube for each of `STATISTICS` but the agreement; and one of shape
        (model, year), ``models``.

    Raises
    ------
    DataError
        If no year is in all.
    """
    models = {name: cube.copy() for name, cube in models.items()}
    first = next(iter(models.values()))
    for cube in models.values():
        _use_units_of(first, cube)
    rows = [dict(zip(_years(cube), _filled(cube), strict=True)) for cube in models.values()]
    every = [set(row) for row in rows]
    years = sorted(set.intersection(*every) if span == "overlap" else set.union(*every))
    if not years:
        raise DataError(
            f"{len(models)} models have no year in common; with 'span: full' each year has the "
            "models that have it."
        )
    table = np.array([[row.get(year, np.nan) for year in years] for row in rows])
    year = DimCoord(np.array(years, "i4"), long_name="year", units="1")
    mean = Cube(
        np.zeros(len(years)),
        standard_name=first.standard_name,
        long_name=first.long_name,
        units=first.units,
        attributes=first.attributes,
        dim_coords_and_dims=[(year, 0)],
    )
    found = np.ma.masked_invalid(_compute(table))
    cubes = [
        _statistic(mean, name, found[number])
        for number, name in enumerate(STATISTICS)
        if name != "agreement"
    ]
    members = Cube(
        np.ma.masked_invalid(table),
        long_name=f"{first.name()} of each model",
        var_name="models",
        units=first.units,
        dim_coords_and_dims=[(year, 1)],
        aux_coords_and_dims=[(AuxCoord(list(models), long_name="model"), 0)],
    )
    return CubeList([*cubes, members])


def describe(cubes: CubeList, models: Models, sources: Sequence[str]) -> None:
    """Name in the attributes of results which models they are made of, and which are left out."""
    for cube in cubes:
        cube.attributes.globals["models"] = ", ".join(models.kept)
        if models.left_out:
            lines = [f"{name}: {reason}" for name, reason in models.left_out.items()]
            cube.attributes.globals["models_left_out"] = "\n".join(lines)
        cube.attributes.globals[provenance.SOURCES] = "\n".join(sources)


def note(cube: Cube) -> str:
    """Say in a sentence which models are left out of a result; nothing if none is."""
    left_out = str(cube.attributes.get("models_left_out", ""))
    names = [line.partition(":")[0] for line in left_out.splitlines()]
    if not names:
        return ""
    return f"Left out, as it cannot be used: {', '.join(names)}."


def _fit(cube: Cube, first: Cube) -> None:
    """Convert a cube to the units of the first one, and refuse one of another shape.

    Raises
    ------
    DataError
        If it does not fit.
    """
    _use_units_of(first, cube)
    names = [coord.name() for coord in first.dim_coords]
    if sorted(names) == sorted(coord.name() for coord in cube.dim_coords):
        cube.transpose([cube.coord_dims(name)[0] for name in names])
    here, there = (_dimensions(each) for each in (cube, first))
    if here.keys() != there.keys():
        raise DataError(
            f"{cube.name()} has the dimensions {', '.join(here)}, and {', '.join(there)} in the "
            "other models."
        )
    for name, points in here.items():
        if there[name].shape != points.shape or not nearly_equal(there[name], points):
            raise DataError(f"{cube.name()} has another {name} than in the other models.")


def _use_units_of(first: Cube, cube: Cube) -> None:
    if cube.units != first.units:
        try:
            cube.convert_units(first.units)
        except ValueError as error:
            raise DataError(
                f"{cube.name()} is in {cube.units}, and in {first.units} of the other models."
            ) from error


def _dimensions(cube: Cube) -> dict[str, np.ndarray]:
    return {coord.name(): coord.points for coord in cube.dim_coords if coord.name() != "time"}


def _years(cube: Cube) -> list[int]:
    return [int(year) for year in cube.coord("year").points]


def _filled(cube: Cube) -> np.ndarray:
    return np.asarray(np.ma.filled(cube.data.astype("f8"), np.nan))


def _statistic(first: Cube, name: str, values: np.ndarray) -> Cube:
    """Make a cube of a statistic, with the coordinates of one of a model."""
    cube = Cube(
        values.astype("f4"),
        long_name=f"{name.replace('_', ' ')} of {first.name()}",
        var_name=name,
        units="1" if name in ("number_of_models", "agreement") else first.units,
        attributes={"statistic": name},
        dim_coords_and_dims=[(c, first.coord_dims(c)[0]) for c in first.dim_coords],
        aux_coords_and_dims=[(c, first.coord_dims(c)) for c in first.aux_coords],
    )
    if name in ("mean", "median"):
        cube.standard_name = first.standard_name
        cube.add_cell_method(CellMethod(name, "realization"))
    return cube


def _compute(values: np.ndarray) -> np.ndarray:
    """Compute all statistics of values of shape (model, place); NaN is no data."""
    count = np.isfinite(values).sum(axis=0)
    filled = np.nan_to_num(values, nan=0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(count > 0, filled.sum(axis=0) / count, np.nan)
        same = (np.sign(values) == np.sign(mean)) & np.isfinite(values)
        # Where nothing changes, or few models have data, there is nothing to agree on.
        known = (mean != 0) & (count >= MIN_MODELS * len(values))
        agreement = np.where(known, same.sum(axis=0) / count, np.nan)
    low, middle, high = np.full((3, values.shape[1]), np.nan)
    known = count > 0
    if known.any():
        function = np.nanpercentile if (count < len(values)).any() else np.percentile
        low[known], middle[known], high[known] = function(
            values[:, known], [PERCENTS[0], 50, PERCENTS[1]], axis=0
        )
    return np.stack([mean, middle, low, high, count.astype(float), agreement])
