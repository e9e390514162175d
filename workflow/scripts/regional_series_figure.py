"""The figure of the series of regions of a dataset, a panel for each."""

import figures
import job
import steps

with job.logged(snakemake):  # type: ignore[name-defined]  # noqa: F821
    smk = snakemake  # type: ignore[name-defined]  # noqa: F821
    cube = steps.load_result(smk.input[0])
    title, baseline = job.unescaped(smk.params.title), tuple(smk.params.baseline)
    series = [
        figures.Series(title, region, cube[number], baseline)
        for number, region in enumerate(cube.coord("region").points)
    ]
    figures.save(figures.plot_series(series), smk.output.png, smk.output.pdf)
