"""Annual means minus the climatology."""

import job
import steps

with job.logged(snakemake):  # type: ignore[name-defined]  # noqa: F821
    smk = snakemake  # type: ignore[name-defined]  # noqa: F821
    annual = steps.load_result(smk.input.annual)
    job.save(smk, steps.anomaly(annual, steps.load_result(smk.input.climatology)))
