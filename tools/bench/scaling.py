"""How cost grows: each kind of cost at three sizes, against a straight line.

``make scaling`` fits a line to the smallest and the largest size, and says how
far the one between is from it.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import click

from bench import page
from bench.__main__ import DATA, measuring
from bench.data import make, one_file, tiny
from bench.models import NETWORKS
from bench.sides import s3fuse
from bench.workloads import WORKLOADS, Workload

PAGE = Path(__file__).parents[2] / "docs/reference/scaling.md"
ROUNDS = 3


@dataclass(frozen=True)
class Cost:
    """Something that is paid for by the piece.

    Attributes
    ----------
    title : str
        What is paid for.
    unit : str
        What a piece is.
    sizes : sequence of float
        So many pieces.
    workloads : sequence of Workload
        What makes so many.
    """

    title: str
    unit: str
    sizes: Sequence[float]
    workloads: Sequence[Workload]


def planning() -> Cost:
    """Jobs of one input and one output each, in a dry run."""
    sizes = (1000, 3000, 10_000)
    for size in sizes:
        make(DATA.absolute(), f"few-{size}", partial(tiny, count=size))
    steps = [
        replace(WORKLOADS["W6"], bucket=f"few-{size}", keys=[str(n) for n in range(size)])
        for size in sizes
    ]
    return Cost("Planning (dry run, start of Snakemake included)", "job", sizes, steps)


def jobs() -> Cost:
    """What a job costs beside its own work, which is next to nothing here."""
    sizes = (15, 30, 60)
    make(DATA.absolute(), "batch")
    copy = "head -c 1000000 {input} > {output}"
    steps = [
        replace(WORKLOADS["W8"], keys=[str(n) for n in range(size)], command=copy) for size in sizes
    ]
    return Cost("Jobs of 5 MB in and 1 MB out, two at a time", "job", sizes, steps)


def gigabytes() -> Cost:
    """Whole files, read by a command that does nothing with them."""
    sizes = (0.1, 0.4, 1.6)
    for size in sizes:
        make(DATA.absolute(), f"long-{size}", partial(_numbers, gigabytes=size))
    read = "cat {input} | tail -c 1000 > {output}"
    steps = [
        replace(WORKLOADS["W8"], bucket=f"long-{size}", keys=["0"], command=read, cores=1)
        for size in sizes
    ]
    return Cost("A file, read from end to end by `cat`", "GB", sizes, steps)


def _numbers(folder: Path, gigabytes: float) -> None:
    with (folder / "0.in").open("wb") as file:
        for number in range(int(gigabytes * 1000)):
            file.write(number.to_bytes(4) * 250_000)


def crossover() -> Iterator[tuple[float, dict[str, Workload]]]:
    """One day of files of more and more days, each as a copy and through a mount."""
    for days in (5, 20, 40, 80, 160):
        bucket = f"days-{days}"
        make(DATA.absolute(), bucket, partial(one_file, days=days))
        yield (
            days * 1.0368,
            {
                how: replace(
                    WORKLOADS["W1"],
                    bucket=bucket,
                    step="last-day",
                    options=("--storage-s3fuse-access", how),
                )
                for how in ("copy", "mount")
            },
        )


def table(cost: Cost, samples: Sequence[list[page.Sample]]) -> Iterator[str]:
    """The rows of one kind of cost."""
    yield f"## {cost.title}"
    yield ""
    yield f"| {cost.unit}s | seconds | on the line | requests | bytes read |"
    yield "| --- | --- | --- | --- | --- |"
    seconds = list(map(page.seconds, cost.workloads, samples))
    slope = (seconds[-1] - seconds[0]) / (cost.sizes[-1] - cost.sizes[0])
    start = seconds[0] - slope * cost.sizes[0]
    for size, taken, found in zip(cost.sizes, seconds, samples, strict=True):
        expected = start + slope * size
        requests = statistics.median(map(page.requests, found))
        read = page.median(found, "read")
        yield f"| {size} | {taken:.2f} | {expected:.2f} | {requests:.0f} | {read:.0f} |"
    yield ""
    yield f"{start:.2f} s, and {slope:.4g} s for each {cost.unit}."
    yield ""


@click.command()
def main() -> None:
    """Measure, and write the page."""
    # All data before the server starts, which does not look for new buckets.
    costs, copied_or_mounted = [planning(), jobs(), gigabytes()], list(crossover())
    lines = [
        "# Scaling, measured",
        "",
        "<!-- Written by `make scaling`. -->",
        "",
        f"Medians of {ROUNDS}, at {next(iter(NETWORKS))}. The line goes through the smallest",
        "and the largest size. What follows from it is in [Scaling](../explanation/scaling.md).",
        "",
    ]
    with measuring(next(iter(NETWORKS))) as measured_by:
        for cost in costs:
            samples: list[list[page.Sample]] = [[] for _ in cost.workloads]
            for _ in range(ROUNDS):
                for found, workload in zip(samples, cost.workloads, strict=True):
                    found.append(measured_by(workload, s3fuse))
                    click.echo(json.dumps(found[-1]))
            lines += table(cost, samples)
        lines += [
            "## Copy or mount",
            "",
            "The last day of a file by Iris; seconds of",
            "the job. `copy_below` is where the two meet.",
            "",
            "| MB of the file | copied | mounted |",
            "| --- | --- | --- |",
        ]
        for size, ways in copied_or_mounted:
            found_by: dict[str, list[page.Sample]] = {how: [] for how in ways}
            for _ in range(2 * ROUNDS):
                for how, workload in ways.items():
                    found_by[how].append(measured_by(workload, s3fuse))
            copied, mounted = (page.median(found_by[how], "job") for how in ways)
            click.echo(f"{size:.0f} MB: copied {copied:.2f} s, mounted {mounted:.2f} s")
            lines.append(f"| {size:.0f} | {copied:.2f} | {mounted:.2f} |")
    PAGE.write_text("\n".join(lines).rstrip() + "\n")


if __name__ == "__main__":
    main()
