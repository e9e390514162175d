"""Mean of the annual means over the baseline period."""

import job
import steps

with job.logged(snakemake):  # type: ignore[name-defined]  # noqa: F821
    smk = snakemake  # type: ignore[name-defined]  # noqa: F821
    annual = steps.load_result(smk.input[0])
    job.save(smk, steps.climatology(annual, smk.params.baseline))
