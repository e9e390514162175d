"""The figure of all series."""

import figures
import job
import labels
import steps

with job.logged(snakemake):  # type: ignore[name-defined]  # noqa: F821
    smk = snakemake  # type: ignore[name-defined]  # noqa: F821
    series = []
    datasets = job.unescaped(smk.params.datasets)
    for path, settings in zip(smk.input, datasets, strict=True):
        cube = steps.load_result(path)
        panel = figures.panel_title(settings, cube)
        title = settings["title"] + labels.part_of_year(cube)
        series.append(figures.Series(title, panel, cube, tuple(settings["baseline"])))
    figures.save(figures.plot_series(series), smk.output.png, smk.output.pdf)
