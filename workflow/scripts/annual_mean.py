"""Annual means of one dataset."""

import job
import loading
import steps

with job.logged(snakemake):  # type: ignore[name-defined]  # noqa: F821
    smk = snakemake  # type: ignore[name-defined]  # noqa: F821
    wanted = job.unescaped([smk.params.constraint, smk.params.units])
    cube = loading.load(smk.input.files, *wanted)
    job.save(smk, steps.annual_mean(cube))
