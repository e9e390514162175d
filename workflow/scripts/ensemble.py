"""Mean and spread of the members of an ensemble, a file each."""

import job
import spread
import steps

with job.logged(snakemake):  # type: ignore[name-defined]  # noqa: F821
    smk = snakemake  # type: ignore[name-defined]  # noqa: F821
    members = [
        steps.load([file], smk.params.constraint, smk.params.units) for file in smk.input.files
    ]
    steps.save(spread.mean_and_spread(spread.ensemble(members)), smk.output[0])
