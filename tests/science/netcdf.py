"""Small netCDF files as others write them, made with netCDF4 and not with Iris."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np

LATITUDES = np.array([-60.0, 0.0, 60.0])
LONGITUDES = np.array([0.0, 90.0, 180.0, 270.0])


def write(
    path: Path,
    values: np.ndarray,
    time: np.ndarray,
    units: str = "days since 2000-01-01",
    *,
    calendar: str = "standard",
    levels: np.ndarray | None = None,
    latitudes: np.ndarray = LATITUDES,
    longitudes: np.ndarray = LONGITUDES,
    packing: Mapping[str, Any] | None = None,
    scalars: Mapping[str, Any] | None = None,
    attributes: Mapping[str, Any] | None = None,
    of_file: Mapping[str, Any] | None = None,
    name: str = "ta",
    file_format: str = "NETCDF4",
) -> str:
    """Write air temperatures of shape (time, [level,] latitude, longitude).

    A single number as `time` is written as a scalar; `packing` has the type and the
    attributes of a variable of integers; `scalars` maps names of scalar coordinates to a
    value and its units.
    """
    with netCDF4.Dataset(path, "w", format=file_format) as file:
        file.setncatts(of_file or {})
        dimensions = []
        axes = {"time": time, "plev": levels, "lat": latitudes, "lon": longitudes}
        texts = {
            "time": {"standard_name": "time", "units": units, "calendar": calendar},
            "plev": {"standard_name": "air_pressure", "units": "Pa", "positive": "down"},
            "lat": {"standard_name": "latitude", "units": "degrees_north"},
            "lon": {"standard_name": "longitude", "units": "degrees_east"},
        }
        for axis, points in axes.items():
            if points is None:
                continue
            points = np.asarray(points)
            if points.ndim:
                file.createDimension(axis, len(points))
                dimensions.append(axis)
            variable = file.createVariable(axis, points.dtype, (axis,) if points.ndim else ())
            variable.setncatts(texts[axis])
            variable[...] = points
        packing = dict(packing or {})
        dtype = packing.pop("dtype", values.dtype)
        fill = packing.pop("_FillValue", None)
        variable = file.createVariable(name, dtype, dimensions, fill_value=fill)
        variable.setncatts({"standard_name": "air_temperature", "units": "K"})
        variable.setncatts(packing)
        variable.setncatts(attributes or {})
        others = ["time"] if "time" not in dimensions else []
        for scalar, (value, of_scalar) in (scalars or {}).items():
            other = file.createVariable(scalar, np.asarray(value).dtype, ())
            other.setncatts({"standard_name": scalar, "units": of_scalar})
            other[...] = value
            others.append(scalar)
        if others:
            variable.coordinates = " ".join(others)
        variable[...] = values
    return str(path)
