"""One product of a dataset, named by the rule."""

from collections.abc import Callable

from iris.cube import Cube

import grids
import job
import seasons
import spread
import steps

MAKE: dict[str, Callable[..., Cube]] = {
    "monthly_climatology": lambda cube, baseline: seasons.climatology(cube, baseline, "month"),
    "seasonal_climatology": lambda cube, baseline: seasons.climatology(cube, baseline, "season"),
    "monthly_anomaly": lambda cube, baseline: seasons.anomaly(
        cube, seasons.climatology(cube, baseline, "month"), "month"
    ),
    "seasonal_anomaly": lambda cube, baseline: seasons.anomaly(
        cube, seasons.climatology(cube, baseline, "season"), "season"
    ),
    "extracted": lambda cube, baseline, **options: grids.extract(cube, **options),
    "regridded": lambda cube, baseline, **options: grids.regrid(cube, **options),
    "trend": lambda cube, baseline: spread.trend(steps.annual_mean(cube)),
    "percentiles": lambda cube, baseline, percents: spread.percentiles(cube, percents),
}

with job.logged(snakemake):  # type: ignore[name-defined]  # noqa: F821
    smk = snakemake  # type: ignore[name-defined]  # noqa: F821
    cube = steps.load(smk.input.files, smk.params.constraint, smk.params.units)
    steps.save(MAKE[smk.rule](cube, smk.params.baseline, **smk.params.options), smk.output[0])
