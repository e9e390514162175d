"""The page of the results: the last three runs, their tables and a figure."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from bench.models import NETWORKS
from bench.workloads import WORKLOADS, Limit, Workload

PAGE = Path(__file__).parents[2] / "docs/reference/performance.md"
FIGURE = PAGE.parent / "performance.svg"
RESULTS = PAGE.with_suffix(".json")
RUNS = 3

#: What one run of a side came to, as `bench.__main__.measure` returns it.
Sample = dict[str, Any]
#: The samples of a workload in one run, by side.
Sides = dict[str, list[Sample]]
#: When a run began, and what it measured of one workload.
Run = tuple[str, Sides]


def add(network: str, began: str, results: dict[str, Sides]) -> None:
    """Keep what a run measured beside the two runs before it, and write the page anew."""
    runs = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    kept = runs.setdefault(network, {})
    for key, sides in results.items():
        kept[key] = [*kept.get(key, ()), (began, sides)][-RUNS:]
    RESULTS.write_text(json.dumps(runs, indent=1) + "\n")
    write()


def write() -> None:
    """Write page and figure from the results that are kept."""
    runs: dict[str, dict[str, list[Run]]] = json.loads(RESULTS.read_text())
    lines = [
        "# Performance",
        "",
        "<!-- Written by `make bench`. -->",
        "",
        "Medians of one run, the sides taken in turn, forwards and backwards, each time with",
        "fresh caches. *Job*: from the first retrieval to the last publication, Python's start",
        "included. *Command*: all of `snakemake`. Requests and bytes are those that passed the",
        "proxy; dollars are what S3 charges for a million such jobs, within a region. Jobs with",
        "Iris run as where xarray is not installed, which dask would import for 0.4 s; those with",
        "xarray do not import Iris.",
        "What made the difference is in [Where the time goes](../explanation/speed.md).",
        "",
        "![Seconds of a job, by workload and side](performance.svg)",
    ]
    for network in NETWORKS:
        if network in runs:
            kept = {key: runs[network][key] for key in WORKLOADS if key in runs[network]}
            lines += ["", f"## {network}", "", *_judged(kept)]
            for key, measured in kept.items():
                _, last = measured[-1]
                lines += ["", f"### {key}: {WORKLOADS[key].title}", ""]
                lines += [*_table(last), *_physics(WORKLOADS[key])]
                for said in out_of_reach(WORKLOADS[key], last):
                    lines += ["", said]
    PAGE.write_text("\n".join(lines) + "\n")
    first = next(iter(runs.values()))
    _draw({key: first[key][-1][1] for key in WORKLOADS if key in first})


def median(samples: list[Sample], name: str) -> float:
    """The middle of what was measured."""
    return float(statistics.median(each[name] for each in samples))


def requests(sample: Sample) -> int:
    """Requests of all kinds."""
    return sum(sample["requests"].values())


def seconds(workload: Workload, samples: list[Sample]) -> float:
    """What is judged: the job, or the whole command."""
    return median(samples, "command" if workload.whole_command else "job")


def share(workload: Workload, limit: Limit, sides: Sides, side: str = "s3fuse") -> float:
    """Seconds of a side, of this project if none is named, over those that are allowed."""
    others = [seconds(workload, sides[side]) for side in limit.of if side in sides]
    # At the speed of one connection.
    allowed = limit.ratio * min(others) + limit.plus_upload / 90e6 + limit.plus_seconds
    return seconds(workload, sides[side]) / allowed


def out_of_reach(workload: Workload, sides: Sides) -> list[str]:
    """What local disk itself, which has no network, does not reach."""
    if "local disk" not in sides:
        return []
    shares = [
        (_of(limit), share(workload, limit, sides, "local disk"))
        for limit in _measured(workload, sides)
    ]
    return [
        f"Out of reach here: local disk itself used {used:.2f} of {of}."
        for of, used in shares
        if used > 1
    ]


def judgement(workload: Workload, sides: Sides) -> list[tuple[str, float]]:
    """Each limit of a workload, and how much of it was used; at most 1 holds."""
    found = [(_of(limit), share(workload, limit, sides)) for limit in _measured(workload, sides)]
    ours = sides["s3fuse"]
    if workload.megabytes:
        moved = max(each["sent"] for each in ours) / 1e6
        found.append((f"{workload.megabytes:.0f} MB moved", moved / workload.megabytes))
    if workload.requests:
        sent = max(map(requests, ours))
        found.append((f"{workload.requests} requests", sent / workload.requests))
    if workload.disk:
        taken = max(each["disk"] for each in ours)
        found.append((f"{workload.disk / 1e6:.0f} MB of disk", taken / workload.disk))
    return found


def _measured(workload: Workload, sides: Sides) -> list[Limit]:
    """The limits of a workload of which one of the other sides was run, too."""
    return [limit for limit in workload.limits if sides.keys() & set(limit.of)]


def _of(limit: Limit) -> str:
    of = limit.of[0] if len(limit.of) == 1 else "the fastest other remote side"
    upload = " + one upload" if limit.plus_upload else ""
    seconds = f" + {limit.plus_seconds:g} s" if limit.plus_seconds else ""
    return f"{limit.ratio:.3g} × {of}{upload}{seconds}"


def deviations(key: str, samples: list[Sample]) -> list[str]:
    """What differs from the requests and bytes that do not depend on the machine."""
    workload, found = WORKLOADS[key], []
    for sample in samples:
        for kind, number in workload.exactly.items():
            if (sent := sample["requests"].get(kind, 0)) != number:
                found.append(f"{key}: {sent} {kind} requests instead of {number}")
        # How often these are sent may depend on who is first, the job or what reads ahead.
        if others := sample["requests"].keys() - workload.exactly.keys() - {"HEAD", "GET"}:
            found.append(f"{key}: requests of another kind: {', '.join(sorted(others))}")
        if workload.bytes_read is not None and sample["read"] != workload.bytes_read:
            found.append(f"{key}: {sample['read']} bytes read instead of {workload.bytes_read}")
    return found


def _judged(kept: dict[str, list[Run]]) -> list[str]:
    lines = [
        "What this project used of each limit, in the last runs of each workload; at most 1 holds.",
        "In bold: runs of all workloads. The others are of some alone, or of a run that was cut.",
        "",
        "| workload | at most | runs, the last one last |",
        "| --- | --- | --- |",
    ]
    every = [{began for began, _ in kept.get(key, ())} for key in WORKLOADS]
    whole = set.intersection(*every)
    for key, runs in kept.items():
        marks = ["**" if began in whole else "" for began, _ in runs]
        columns = [judgement(WORKLOADS[key], sides) for _, sides in runs]
        for row in zip(*columns, strict=True):
            shares = [f"{mark}{used:.2f}{mark}" for mark, (_, used) in zip(marks, row, strict=True)]
            lines.append(f"| {key} | {row[0][0]} | {', '.join(shares)} |")
    return lines


def _table(sides: Sides) -> list[str]:
    lines = [
        "| side | job, s | command, s | requests | MB read | MB written | $ a million |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for side, samples in sides.items():
        sent = statistics.median(map(requests, samples))
        lines.append(
            f"| {side} | {median(samples, 'job'):.2f} | {median(samples, 'command'):.2f} "
            f"| {sent:.0f} | {median(samples, 'sent') / 1e6:.1f} "
            f"| {median(samples, 'received') / 1e6:.1f} "
            f"| {1e6 * median(samples, 'dollars'):.0f} |"
        )
    return lines


def _physics(workload: Workload) -> list[str]:
    if not workload.needed:
        return []
    one = workload.needed / 90
    return [
        "",
        f"The job needs {workload.needed:.1f} MB: {one:.2f} s by one connection of 90 MB/s, "
        f"{one / 10:.2f} s by ten, of which all may pass while Python starts.",
    ]


def _draw(results: dict[str, Sides]) -> None:
    figure = Figure(figsize=(9, 1.2 + 0.28 * sum(len(sides) for sides in results.values())))
    axes = figure.subplots()
    row, ticks = 0, []
    for key, sides in results.items():
        for side, samples in sides.items():
            colour = "tab:blue" if side == "s3fuse" else "lightgrey"
            axes.barh(row, seconds(WORKLOADS[key], samples), color=colour)
            ticks.append((row, f"{key}  {side}"))
            row += 1
        row += 1
    axes.set_yticks([place for place, _ in ticks], [name for _, name in ticks], fontsize=8)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("seconds")
    figure.savefig(FIGURE, bbox_inches="tight")
