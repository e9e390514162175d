"""What the jobs of the benchmarks do: ``work.py NAME OUTPUT [INPUT ...]``.

Each step is done with Iris, and where an input is an ``s3://`` URL with xarray.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

POINTS = slice(100, 110)


def one_day(cube: Any) -> Any:
    """10 × 10 points of one day."""
    return cube[200, POINTS, POINTS]


def every_30th_day(cube: Any) -> Any:
    """The same points on every 30th day."""
    return cube[::30, POINTS, POINTS]


def with_iris(name: str, output: str, inputs: Sequence[str]) -> None:
    """Do one step with Iris."""
    # Installed for the other side; where it is, dask imports it, for 0.4 s and nothing.
    sys.modules["xarray"] = None  # type: ignore[assignment]
    import iris
    import iris.analysis

    iris.FUTURE.save_split_attrs = True
    match name:
        case "one-day":
            result = one_day(iris.load_cube(inputs[0]))
        case "every-30th-day":
            result = every_30th_day(iris.load_cube(inputs[0]))
        case "mean":
            result = iris.load_cube(inputs[0]).collapsed("time", iris.analysis.MEAN)
        case "last-day":
            result = iris.load_cube(inputs[0])[-1]
        case "merge":
            result = iris.load_cube(inputs).collapsed("time", iris.analysis.MEAN)
        case "save":
            import dask.array as da
            from iris.cube import Cube

            lazy = da.random.RandomState(1).random_sample((60, 360, 720), chunks=(1, 360, 720))
            result = Cube(lazy.astype("f4"), var_name="number")
        case _:
            raise SystemExit(f"there is no step {name!r}")
    iris.save(result, output, saver=None if Path(output).suffix == ".pp" else "nc")


def with_xarray(name: str, output: str, url: str) -> None:
    """Do one step with xarray, h5netcdf and fsspec."""
    import fsspec
    import xarray

    prefix = "SNAKEMAKE_STORAGE_S3FUSE_"
    options = {
        "key": os.environ[f"{prefix}ACCESS_KEY"],
        "secret": os.environ[f"{prefix}SECRET_KEY"],
        "endpoint_url": os.environ[f"{prefix}ENDPOINT_URL"],
        "default_cache_type": "blockcache",
        "default_block_size": 4 * 2**20,
    }
    with fsspec.open(url, **options) as file:
        array = xarray.open_dataset(file, engine="h5netcdf", chunks={"time": 1})["air_temperature"]
        steps = {"one-day": one_day, "every-30th-day": every_30th_day}
        result = array.mean("time") if name == "mean" else steps[name](array)
        result.to_netcdf(output)


if __name__ == "__main__":
    step, target, *sources = sys.argv[1:]
    if sources and sources[0].startswith("s3://"):
        with_xarray(step, target, sources[0])
    else:
        with_iris(step, target, sources)
