"""A step of the user's own: a function that makes a cube of a cube."""

import job
import loading
import own_functions

with job.logged(snakemake):  # type: ignore[name-defined]  # noqa: F821
    smk = snakemake  # type: ignore[name-defined]  # noqa: F821
    wanted = job.unescaped([smk.params.constraint, smk.params.units])
    cube = loading.load(smk.input.files, *wanted)
    job.save(smk, own_functions.run(job.unescaped(smk.params.options), cube))
