"""The map of the anomaly at the end of the data."""

import figures
import job
import steps

with job.logged(snakemake):  # type: ignore[name-defined]  # noqa: F821
    smk = snakemake  # type: ignore[name-defined]  # noqa: F821
    cube = steps.load_result(smk.input[0])
    title = job.unescaped(smk.params.title)
    figures.plot_map(cube, title).savefig(smk.output[0], dpi=120)
