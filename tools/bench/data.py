"""The data of the benchmarks, made once below ``.bench/data``: folders that are buckets."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import iris
import iris_sample_data
import numpy as np
from iris.coords import DimCoord
from iris.cube import Cube

SAMPLES = Path(iris_sample_data.path)
MANY = 10_000
BATCH = 60


def air_temperature(path: Path, days: int) -> None:
    """Save (days, 360, 720) float32 in Kelvin, one chunk a day."""
    # Realised, so that chunks lie in the file in their order and bytes can be counted.
    values = np.random.default_rng(1).standard_normal((days, 360, 720), "f4") * 10 + 288
    coordinates = [
        DimCoord(np.arange(float(days)), standard_name="time", units="days since 2000-01-01"),
        DimCoord(np.linspace(-89.75, 89.75, 360), standard_name="latitude", units="degrees"),
        DimCoord(np.linspace(0.25, 359.75, 720), standard_name="longitude", units="degrees"),
    ]
    cube = Cube(
        values,
        standard_name="air_temperature",
        units="K",
        dim_coords_and_dims=[(each, axis) for axis, each in enumerate(coordinates)],
    )
    iris.save(cube, path, chunksizes=(1, 360, 720))


def one_file(folder: Path, days: int) -> None:
    """Make a file of so many days."""
    air_temperature(folder / "tas.nc", days)


def _fields(folder: Path) -> None:
    for file in (SAMPLES / "UM").iterdir():
        shutil.copy(file, folder)


def tiny(folder: Path, count: int) -> None:
    """Make objects of one byte."""
    for number in range(count):
        (folder / f"{number}.in").write_bytes(b"x")


def _batch(folder: Path) -> None:
    for number in range(BATCH):
        air_temperature(folder / "new.nc", 5)
        (folder / "new.nc").rename(folder / f"{number}.in")


BUCKETS: dict[str, Callable[[Path], None]] = {
    "year": partial(one_file, days=365),
    "long": partial(one_file, days=2000),
    "fields": _fields,
    "many": partial(tiny, count=MANY),
    "batch": _batch,
}


def make(base: Path, name: str, fill: Callable[[Path], None] | None = None) -> Path:
    """Make the data of a bucket, unless it is there."""
    folder = base / name
    if not folder.exists():
        iris.FUTURE.save_split_attrs = True
        new = base / f".{name}"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        (fill or BUCKETS[name])(new)
        new.rename(folder)
    return folder
