"""The figure of a product."""

import figures
import job
import product_figures
import steps

with job.logged(snakemake):  # type: ignore[name-defined]  # noqa: F821
    smk = snakemake  # type: ignore[name-defined]  # noqa: F821
    title, settings = job.unescaped([smk.params.title, smk.params.settings])
    cubes = steps.load_results(smk.input[0])
    figure = product_figures.draw(smk.params.product, cubes, title, settings)
    figures.save(figure, smk.output.png, smk.output.pdf)
