"""Datasets of an archive: a folder each, with results or with the reason why there are none."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from iris.cube import Cube

import area_statistics
import multi_model
import products
import steps

#: Stands in the folder of a dataset of which nothing can be made.
REASON = "left_out.txt"


def results(
    cube: Cube, baseline: Sequence[int], options: Mapping[str, Mapping[str, Any] | None]
) -> Iterator[tuple[str, Cube]]:
    """Make all results of a dataset, one after the other.

    Parameters
    ----------
    cube : Cube
        Of shape (time, …).
    baseline : sequence of int
        First and last year.
    options : mapping
        Products, see `products.MAKE`, and their options.

    Yields
    ------
    str, Cube
        The name of a result, and the result.
    """
    # All results are made of it, and it is read once.
    annual = steps.annual_mean(cube)
    annual.data  # noqa: B018
    yield "annual_mean", annual
    normal = steps.climatology(annual, baseline)
    yield "climatology", normal
    yield "anomaly", steps.anomaly(annual, normal)
    yield "series", area_statistics.area_mean(annual)
    for name, given in options.items():
        yield name, products.MAKE[name](cube, baseline, **(given or {}))


def is_of_system(error: BaseException | None) -> bool:
    """Tell whether a store, a disk or a network has failed, and not the data."""
    while error is not None:
        # Those of the netCDF library, which are about the contents of a file, are negative.
        if isinstance(error, OSError) and (error.errno or 0) > 0:
            return True
        error = error.__cause__
    return False


def give_up(folder: Path, reason: str) -> None:
    """Leave the reason in a folder, and nothing else."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / REASON).write_text(f"{reason}\n")


def reason(folder: Path) -> str | None:
    """Return why there are no results in a folder; None if there are."""
    path = folder / REASON
    return path.read_text().strip() if path.exists() else None


def mapped(
    folder: Path, grid: Mapping[str, Any], baseline: Sequence[int], period: Sequence[int] | None
) -> Cube:
    """Load the field of a model, on a common grid: its change, or its climatology.

    Parameters
    ----------
    folder : Path
        That of the model.
    grid : mapping
        See `multi_model.on_grid`.
    baseline : sequence of int
        First and last year.
    period : sequence of int, optional
        First and last year of the change.
    """
    anomaly = steps.load_result(str(folder / "anomaly.nc"))
    multi_model.require_years(anomaly, baseline)
    if period:
        return multi_model.on_grid(multi_model.change(anomaly, period), grid)
    return multi_model.on_grid(steps.load_result(str(folder / "climatology.nc")), grid)


def yearly(folder: Path, baseline: Sequence[int]) -> Cube:
    """Load the series of a model, as anomalies from its baseline."""
    series = steps.load_result(str(folder / "series.nc"))
    return steps.anomaly(series, steps.climatology(series, baseline))
