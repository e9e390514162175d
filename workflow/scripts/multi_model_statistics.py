"""Statistics of all models of an archive: a map, a series, and which models are left out."""

import json
from functools import partial
from pathlib import Path

import job
import models
import multi_model
import provenance

with job.logged(snakemake):  # type: ignore[name-defined]  # noqa: F821
    smk = snakemake  # type: ignore[name-defined]  # noqa: F821
    settings = job.unescaped(smk.params.settings)
    baseline, period = smk.params.baseline, settings.get("period")
    fields = multi_model.Models(left_out=job.unescaped(smk.params.incomplete))
    series = {}
    sources = []
    for name, folder in zip(job.unescaped(smk.params.models), map(Path, smk.input), strict=True):
        if reason := models.reason(folder):
            fields.left_out[name] = reason
            continue
        fields.add(name, partial(models.mapped, folder, settings["grid"], baseline, period))
        if name in fields.kept:
            series[name] = models.yearly(folder, baseline)
            sources.append(str(series[name].attributes[provenance.SOURCES]))
    fields.require_two()
    result = multi_model.statistics(fields.kept, signed=bool(period))
    by_year = multi_model.series(series, span=settings.get("span", "overlap"))
    for cubes, path in ((result, smk.output.map), (by_year, smk.output.series)):
        multi_model.describe(cubes, fields, sources)
        job.save(smk, cubes, Path(path))
    Path(smk.output.left_out).write_text(json.dumps(fields.left_out, indent=1))
