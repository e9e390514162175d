"""Area-weighted mean of each year."""

import job
import steps

with job.logged(snakemake):  # type: ignore[name-defined]  # noqa: F821
    smk = snakemake  # type: ignore[name-defined]  # noqa: F821
    steps.save(steps.area_mean(steps.load_result(smk.input[0])), smk.output[0])
