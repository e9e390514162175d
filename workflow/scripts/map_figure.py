"""The map of the anomaly at the end of the data."""

import figures
import job
import maps
import steps

with job.logged(snakemake):  # type: ignore[name-defined]  # noqa: F821
    smk = snakemake  # type: ignore[name-defined]  # noqa: F821
    cube = steps.load_result(smk.input[0])
    figure = maps.plot_map(cube, job.unescaped(smk.params.title), smk.params.settings)
    figures.save(figure, smk.output.png, smk.output.pdf)
