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
#: The samples of a run, by workload and side.
Results = dict[str, dict[str, list[Sample]]]


def add(network: str, results: Results) -> None:
    """Keep a run beside the two before it, and write the page anew."""
    runs = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    runs[network] = [*runs.get(network, ()), results][-RUNS:]
    RESULTS.write_text(json.dumps(runs, indent=1) + "\n")
    write()


def write() -> None:
    """Write page and figure from the results that are kept."""
    runs: dict[str, list[Results]] = json.loads(RESULTS.read_text())
    lines = [
        "# Performance",
        "",
        "<!-- Written by `make bench`. -->",
        "",
        "Medians of one run, the sides taken in turn, each time with fresh caches. *Job*: from the",
        "first retrieval to the last publication, Python's start included. *Command*: all of",
        "`snakemake`. Requests and bytes are those that passed the proxy; dollars are what S3",
        "charges for a million such jobs, within a region. The last columns are the seconds of",
        "this project over those that the limit allows, run by run: below 1 it holds.",
        "",
        "![Seconds of a job, by workload and side](performance.svg)",
    ]
    for network in NETWORKS:
        if network in runs:
            lines += ["", f"## {network}", "", *_judged(runs[network])]
            for key, sides in runs[network][-1].items():
                lines += ["", f"### {key}: {WORKLOADS[key].title}", "", *_table(sides)]
    PAGE.write_text("\n".join(lines) + "\n")
    first = next(iter(runs.values()))
    _draw(first[-1])


def median(samples: list[Sample], name: str) -> float:
    """The middle of what was measured."""
    return float(statistics.median(each[name] for each in samples))


def seconds(workload: Workload, samples: list[Sample]) -> float:
    """What is judged: the job, or the whole command."""
    return median(samples, "command" if workload.whole_command else "job")


def share(workload: Workload, limit: Limit, sides: dict[str, list[Sample]]) -> float:
    """Our seconds over those that are allowed."""
    others = [seconds(workload, sides[side]) for side in limit.of if side in sides]
    # An upload by the connections that publish a large file side by side.
    allowed = limit.ratio * (min(others) + limit.plus_upload / 90e6)
    return seconds(workload, sides["s3fuse"]) / allowed


def judgement(workload: Workload, sides: dict[str, list[Sample]]) -> list[tuple[str, float]]:
    """Each limit of a workload, and how much of it was used; at most 1 holds."""
    found = [
        (f"{limit.ratio:.3g} × {' or '.join(limit.of)}", share(workload, limit, sides))
        for limit in workload.limits
        if sides.keys() & set(limit.of)
    ]
    ours = sides["s3fuse"]
    if workload.megabytes:
        moved = max(each["sent"] for each in ours) / 1e6
        found.append((f"{workload.megabytes:.0f} MB moved", moved / workload.megabytes))
    if workload.requests:
        sent = max(sum(each["requests"].values()) for each in ours)
        found.append((f"{workload.requests} requests", sent / workload.requests))
    if workload.disk:
        taken = max(each["disk"] for each in ours)
        found.append((f"{workload.disk / 1e6:.0f} MB of disk", taken / workload.disk))
    return found


def deviations(key: str, samples: list[Sample]) -> list[str]:
    """What differs from the requests and bytes that do not depend on the machine."""
    workload, found = WORKLOADS[key], []
    for sample in samples:
        for kind, number in workload.exactly.items():
            if (sent := sample["requests"].get(kind, 0)) != number:
                found.append(f"{key}: {sent} {kind} requests instead of {number}")
        if others := sample["requests"].keys() - workload.exactly.keys() - {"HEAD"}:
            found.append(f"{key}: requests of another kind: {', '.join(sorted(others))}")
        if workload.bytes_read is not None and sample["read"] != workload.bytes_read:
            found.append(f"{key}: {sample['read']} bytes read instead of {workload.bytes_read}")
    return found


def _judged(runs: list[Results]) -> list[str]:
    head = " | ".join(f"run {number + 1}" for number in range(len(runs)))
    lines = [f"| workload | at most | {head} |", "| --- | --- |" + " --- |" * len(runs)]
    for key in runs[-1]:
        columns = [judgement(WORKLOADS[key], run[key]) for run in runs if key in run]
        for row in zip(*columns, strict=True):
            shares = " | ".join(f"{used:.2f}" for _, used in row)
            lines.append(f"| {key} | {row[0][0]} | {shares} |")
    return lines


def _table(sides: dict[str, list[Sample]]) -> list[str]:
    lines = [
        "| side | job, s | command, s | requests | MB read | MB written | $ a million |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for side, samples in sides.items():
        requests = statistics.median(sum(each["requests"].values()) for each in samples)
        lines.append(
            f"| {side} | {median(samples, 'job'):.2f} | {median(samples, 'command'):.2f} "
            f"| {requests:.0f} | {median(samples, 'sent') / 1e6:.1f} "
            f"| {median(samples, 'received') / 1e6:.1f} "
            f"| {1e6 * median(samples, 'dollars'):.0f} |"
        )
    return lines


def _draw(results: Results) -> None:
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
