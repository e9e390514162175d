"""What is lost when things break: many runs, each broken once, counted in a table.

``make faults`` runs it and writes docs/reference/reliability.md.  A run that is
broken must end right, or fail and leave every old result as it was; the run
after it, with nothing broken, must end right and leave nothing behind.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click

from reliability.cases import CASES
from reliability.runs import HEALED, RIGHT, Lab
from s3fuse.embedded_server import serving

PAGE = Path(__file__).parents[2] / "docs/reference/reliability.md"
#: The outcomes of each case when it was last tried, so that one can be tried alone.
RESULTS = PAGE.with_suffix(".json")


def page(rows: dict[str, Counter[str]]) -> str:
    """The table."""
    lines = [
        "# Reliability",
        "",
        "<!-- Written by `make faults`. -->",
        "",
        "Each try is one run of a workflow in which Iris sums a mounted netCDF over time, with",
        "three more inputs that are copied, small results and one that is uploaded in parts; it",
        "is broken once, and then a run follows with nothing broken.",
        "*Right*: the broken run ended with the right results. *Healed*: it failed with every",
        "result either old or new, whole, and the next run made them right. *Lost*: anything",
        "else, such as a wrong value, a missing object, a mount, a daemon, a part of an upload",
        "or a file of ours left after the next run.",
        "",
        "The last four rows are of jobs with several outputs, which are published together: two",
        "to five files in several folders, and a folder in which another program has put an",
        "object. In three of four tries they were there before. The next run starts in a new",
        "working directory, without `--forceall`, so only the bucket tells it what to make",
        "again. The broken run may leave a mixture of old and new outputs, and the next run",
        "must make it again. *Lost* includes a mixture after a run that succeeds, a commit",
        "record or a pending manifest that is left, and an object of the other program that is",
        "gone. After a refused output, the bucket must be exactly as before. Two runs on the",
        "same keys, on a store that honours conditional writes, are one try. It is right if one",
        "of them publishes all outputs of a job, and the other fails with a sentence.",
        "",
        "| what was broken | tries | right | healed | lost |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, outcomes in rows.items():
        total, right, healed = outcomes.total(), outcomes[RIGHT], outcomes[HEALED]
        lines.append(f"| {name} | {total} | {right} | {healed} | {total - right - healed} |")
    return "\n".join(lines) + "\n"


def keep(rows: dict[str, Counter[str]]) -> None:
    """Write down what is known so far, beside what was found before of the other cases."""
    before = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    every = {title: rows.get(title, Counter(before.get(title, {}))) for title in CASES}
    RESULTS.write_text(json.dumps(every, indent=1) + "\n")
    PAGE.write_text(page(every))


@click.command()
@click.option("--tries", default=20, show_default=True, help="At most so many of a case.")
@click.option("--only", multiple=True, help="Only cases whose name contains this.")
@click.option("--workers", default=3, show_default=True)
def main(tries: int, only: tuple[str, ...], workers: int) -> None:
    """Try every case, and write the table."""
    rows: dict[str, Counter[str]] = {}
    with tempfile.TemporaryDirectory(prefix="reliability-") as name:
        base = Path(name)
        with serving(base / "data") as server:
            lab = Lab(server, base)
            for number, (title, case) in enumerate(CASES.items()):
                if only and not any(part in title for part in only):
                    continue
                if case.needs_root and os.geteuid() != 0:
                    raise click.UsageError(f"only root can try {title!r}, which mounts a tmpfs")
                seeds = range(number * 1000, number * 1000 + min(tries, case.rounds))
                with ThreadPoolExecutor(1 if case.is_alone else workers) as pool:
                    outcomes = pool.map(lambda seed: case.outcomes(lab, seed), seeds)  # noqa: B023
                    rows[title] = Counter(outcome for each in outcomes for outcome in each)
                click.echo(f"{title}: {dict(rows[title])}")
                keep(rows)
    good = {RIGHT, HEALED}
    sys.exit(any(outcome not in good for outcomes in rows.values() for outcome in outcomes))


if __name__ == "__main__":
    main()
