"""What can be made of a dataset on request, by name."""

from __future__ import annotations

from collections.abc import Callable

from iris.cube import Cube

import area_statistics
import coordinates
import grids
import seasons
import spread
import steps

#: Each is given a cube, the baseline and the options of the configuration.
MAKE: dict[str, Callable[..., Cube]] = {
    "monthly_climatology": lambda cube, baseline: seasons.climatology(cube, baseline, "month"),
    "seasonal_climatology": lambda cube, baseline: seasons.climatology(cube, baseline, "season"),
    "monthly_anomaly": lambda cube, baseline: seasons.anomaly(
        cube, seasons.climatology(cube, baseline, "month"), "month"
    ),
    "seasonal_anomaly": lambda cube, baseline: seasons.anomaly(
        cube, seasons.climatology(cube, baseline, "season"), "season"
    ),
    "extracted": lambda cube, baseline, levels=None, **options: grids.extract(
        coordinates.extract(cube, levels or {}), **options
    ),
    "regridded": lambda cube, baseline, **options: grids.regrid(cube, **options),
    "trend": lambda cube, baseline: spread.trend(steps.annual_mean(cube)),
    "percentiles": lambda cube, baseline, percents: spread.percentiles(cube, percents),
    "regional_series": lambda cube, baseline, regions: area_statistics.regional_means(
        steps.annual_mean(cube), regions
    ),
}
