"""Datasets of an archive: a folder each, with results or with the reason why there are none."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from iris.cube import Cube

import area_statistics
import multi_model
import products
import steps

#: Stands in the folder of a dataset of which nothing can be made.
REASON = "left_out.txt"


def make(
    cube: Cube,
    folder: Path,
    baseline: Sequence[int],
    options: Mapping[str, Mapping[str, Any] | None],
    save: Callable[[Cube, Path], None],
) -> None:
    """Make all results of a dataset, one after the other.

    Parameters
    ----------
    cube : Cube
        Of shape (time, …).
    folder : Path
        Where results are saved to, each by its name.
    baseline : sequence of int
        First and last year.
    options : mapping
        Products, see `products.MAKE`, and their options.
    save : callable
        Saves a cube to a path.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "annual_mean.nc"
    save(steps.annual_mean(cube), path)
    # What follows is made of the file, so that the data is read once and never all in memory.
    annual = steps.load_result(str(path))
    normal = steps.climatology(annual, baseline)
    save(normal, folder / "climatology.nc")
    save(steps.anomaly(annual, normal), folder / "anomaly.nc")
    save(area_statistics.area_mean(annual), folder / "series.nc")
    for name, given in options.items():
        save(products.MAKE[name](cube, baseline, **(given or {})), folder / f"{name}.nc")


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
    steps.require_years(anomaly, baseline)
    if period:
        return multi_model.on_grid(multi_model.change(anomaly, period), grid)
    return multi_model.on_grid(steps.load_result(str(folder / "climatology.nc")), grid)


def yearly(folder: Path, baseline: Sequence[int]) -> Cube:
    """Load the series of a model, as anomalies from its baseline."""
    series = steps.load_result(str(folder / "series.nc"))
    return steps.anomaly(series, steps.climatology(series, baseline))
