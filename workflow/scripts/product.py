"""One product of a dataset."""

import job
import loading
import products

with job.logged(snakemake):  # type: ignore[name-defined]  # noqa: F821
    smk = snakemake  # type: ignore[name-defined]  # noqa: F821
    wanted = job.unescaped([smk.params.constraint, smk.params.units])
    cube = loading.load(smk.input.files, *wanted)
    options = job.unescaped(smk.params.options)
    job.save(smk, products.MAKE[smk.params.product](cube, smk.params.baseline, **options))
