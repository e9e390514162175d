"""Area-weighted mean of each year."""

import area_statistics
import job
import steps

with job.logged(snakemake):  # type: ignore[name-defined]  # noqa: F821
    smk = snakemake  # type: ignore[name-defined]  # noqa: F821
    job.save(smk, area_statistics.area_mean(steps.load_result(smk.input[0])))
