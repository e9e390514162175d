"""The figures of many models: a map and a series."""

import iris

import figures
import job
import maps
import multi_model

with job.logged(snakemake):  # type: ignore[name-defined]  # noqa: F821
    smk = snakemake  # type: ignore[name-defined]  # noqa: F821
    settings, baseline = job.unescaped(smk.params.settings), smk.params.baseline
    title, period = settings["title"], settings.get("period")
    fields = {cube.var_name: cube for cube in iris.load(smk.input.map)}
    series = iris.load(smk.input.series)
    note = multi_model.note(fields["mean"])
    years = "{}\N{EN DASH}{}".format
    what = f"{years(*period)} against {years(*baseline)}" if period else years(*baseline)
    spread = fields["percentile_95"] - fields["percentile_5"]
    spread.rename(f"{fields['mean'].name()} spread")
    drawn = maps.plot_models(
        fields["mean"],
        spread,
        fields.get("agreement"),
        (f"{title}: {what}", "Spread: from 5 to 95 % of the models"),
        settings.get("map"),
    )
    figures.add_note(drawn, note)
    figures.save(drawn, smk.output.map_png, smk.output.map_pdf)
    drawn = figures.plot_models(series, f"{title}, against {years(*baseline)}")
    figures.add_note(drawn, note)
    figures.save(drawn, smk.output.series_png, smk.output.series_pdf)
