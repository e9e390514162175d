"""Mean and spread of the members of an ensemble, a file each."""

import job
import loading
import spread

with job.logged(snakemake):  # type: ignore[name-defined]  # noqa: F821
    smk = snakemake  # type: ignore[name-defined]  # noqa: F821
    wanted = job.unescaped([smk.params.constraint, smk.params.units])
    members = [loading.load([file], *wanted) for file in smk.input.files]
    job.save(smk, spread.mean_and_spread(spread.ensemble(members)))
