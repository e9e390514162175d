"""What is wrong with a file, in a sentence for whoever can mend it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import dask
import iris
from scipy.io import netcdf_file

#: How netCDF classic begins, in the two forms that SciPy reads.
CLASSIC = (b"CDF\x01", b"CDF\x02")


class DataError(Exception):
    """The data cannot be used as configured.  The message is for the user."""


def refuse_if_cut(path: str) -> None:
    """Look whether a netCDF classic file is as long as its header says.

    The netCDF library reads zeros where the end of such a file is missing; other
    formats fail when they are read.

    Raises
    ------
    DataError
        If it is shorter.
    """
    with Path(path).open("rb") as file:
        if file.read(4) not in CLASSIC:
            return
    try:
        netcdf_file(path, "r", mmap=True).close()
    except (ValueError, IndexError, TypeError, OSError) as error:
        raise DataError(f"{path} is cut: it is shorter than its header says.") from error


def refuse_if_broken(paths: Sequence[str]) -> None:
    """Read files from end to end, to find which of them made a job fail.

    Raises
    ------
    DataError
        If one cannot be read; names the first.
    """
    for path in paths:
        if not Path(path).is_file():
            continue
        try:
            for cube in iris.load_raw(path):
                if cube.has_lazy_data():
                    dask.compute(cube.lazy_data().sum())
        except Exception as error:
            # Iris goes on with what it has tried, and netCDF with the path.
            reason = re.split(r"\n| File element cache|: '", str(error))[0].rstrip(".")
            raise DataError(
                f"{path} cannot be read: {reason}. It may be cut, or in no format that Iris knows."
            ) from error
