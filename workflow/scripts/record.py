"""The record of a run: what was read and how much of it moved, how long steps took, by what."""

import csv
import json
from collections.abc import Iterable
from pathlib import Path

import jinja2
from humanfriendly import format_size, format_timespan

import job
import programs


def steps_below(folder: Path) -> list[dict[str, str]]:
    """How long each step took, by what Snakemake has measured of it in this directory."""
    found = []
    for path in sorted(folder.glob("*/*.tsv")):
        with path.open() as file:
            row = next(csv.DictReader(file, delimiter="\t"))
        memory = row["max_rss"]
        found.append(
            {
                "step": path.parent.name,
                "dataset": path.stem,
                "seconds": f"{float(row['s']):.1f}",
                "memory": "-" if memory in ("-", "NA") else format_size(float(memory) * 1e6),
            }
        )
    return found


def moved_below(folder: Path) -> dict[str, int]:
    """How much of each object came to a node, by what jobs have left beside their logs."""
    most: dict[str, int] = {}
    for path in folder.glob(f"*/*{job.READS}"):
        for name, size in json.loads(path.read_text()).items():
            most[name] = max(size, most.get(name, 0))
    return most


def left_out(paths: Iterable[str]) -> list[tuple[str, str]]:
    """Which models were left out, and why."""
    return [pair for path in paths for pair in json.loads(Path(path).read_text()).items()]


with job.logged(snakemake):  # type: ignore[name-defined]  # noqa: F821
    smk = snakemake  # type: ignore[name-defined]  # noqa: F821
    steps = steps_below(Path("benchmarks"))
    template = jinja2.Template(
        Path(smk.scriptdir, "../report/record.html.jinja").read_text(),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    text = template.render(
        titles=job.unescaped(smk.params.titles),
        objects=job.unescaped(smk.params.objects),
        moved=moved_below(Path(smk.log[0]).parent),
        steps=steps,
        left_out=[
            each
            for path in smk.input.left_out
            for each in json.loads(Path(path).read_text()).items()
        ],
        total=format_timespan(sum(float(step["seconds"]) for step in steps)),
        versions=programs.versions(),
        size=format_size,
    )
    Path(smk.output[0]).write_text(text)
