"""Annual means of one dataset."""

import job
import steps

with job.logged(snakemake):  # type: ignore[name-defined]  # noqa: F821
    smk = snakemake  # type: ignore[name-defined]  # noqa: F821
    cube = steps.load(smk.input.files, smk.params.constraint, smk.params.units)
    steps.save(steps.annual_mean(cube), smk.output[0])
