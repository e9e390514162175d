"""Compare this project with every way to do its work by hand.

``make bench`` runs every workload on every side in turns, each time with fresh
caches, behind a proxy that is like a network and counts what passes.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path

import click

from bench import page
from bench.data import make
from bench.limits import Peak, memory
from bench.models import NETWORKS, dollars
from bench.sides import OUT, Side, sides
from bench.workloads import WORKLOADS, Workload
from fault_proxy import Faults, Proxy, proxied
from s3fuse.embedded_server import Server, serving
from s3fuse.node.directories import default_cache_dir
from s3fuse.s3.store import Store
from s3fuse.urls import S3Url

DATA = Path(".bench/data")
HERE = Path(__file__).parent


def run(
    workdir: Path,
    words: list[str],
    environment: dict[str, str],
    prepare: Callable[[], None] | None = None,
) -> tuple[float, float]:
    """Run Snakemake; measure the seconds of its jobs, and of all of it."""
    start = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "snakemake", *words],
        cwd=workdir,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=prepare,
    )
    assert process.stdout is not None
    said, began, ended = [], start, start
    for line in process.stdout:
        now = time.monotonic()
        said.append(line)
        if line.startswith("Execute ") and began == start:
            began = now
        if "(100%) done" in line:
            ended = now
    status = process.wait()
    end = time.monotonic()
    if status != 0:
        raise SystemExit("".join(said[-40:]))
    return ended - began, end - start


def measure(
    workload: Workload, side: Side, proxy: Proxy, server: Server, store: Store, base: Path
) -> page.Sample:
    """Run one side of a workload once, from nothing.

    Returns
    -------
    dict
        ``job`` and ``command`` in seconds, ``requests`` by kind, bytes ``received``
        from the client and ``sent`` to it, those ``read`` of objects, bytes of
        ``disk`` at most, ``dollars`` for the requests.
    """
    # rclone hashes files again that it has not been asked for lately, which takes its time.
    for bucket in (workload.bucket, OUT):
        store.call("list_objects_v2", S3Url(bucket), "list")
        store.list(S3Url(bucket))
    folder = Path(tempfile.mkdtemp(dir=base))
    workdir = folder / "work"
    workdir.mkdir()
    seen = replace(server, endpoint_url=proxy.endpoint_url)
    with side(seen, workload.bucket, folder) as place:
        config = workload.config(place, uuid.uuid4().hex[:12])
        (workdir / "config.json").write_text(json.dumps(config))
        words = ["--snakefile", str(HERE / workload.snakefile), "--configfile", "config.json"]
        words += ["--cores", str(workload.cores), *workload.options]
        environment = {**place.environment, "TMPDIR": str(folder)}
        if workload.memory:
            environment["DASK_ARRAY__CHUNK_SIZE"] = "32MiB"
        for _ in range(workload.before):
            run(workdir, words, environment)
        proxy.reset_counts()
        limited = memory(workload.memory) if workload.memory else nullcontext()
        with limited as prepare, Peak(folder / default_cache_dir().name) as disk:
            taken = [run(workdir, words, environment, prepare) for _ in range(workload.runs)]
        counts = proxy.counts
    shutil.rmtree(folder, ignore_errors=True)
    return {
        "job": round(statistics.mean(job for job, _ in taken), 3),
        "command": round(statistics.mean(command for _, command in taken), 3),
        "requests": dict(counts.requests),
        "received": counts.received,
        "sent": counts.sent,
        "read": counts.read,
        "disk": disk.bytes,
        "dollars": dollars(counts),
    }


@contextmanager
def measuring(network: str) -> Iterator[Callable[[Workload, Side], page.Sample]]:
    """Run a server behind a network while the context lasts, to `measure` with."""
    (DATA / OUT).mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as base,
        serving(DATA.absolute()) as server,
        proxied(server.endpoint_url, Faults(**vars(NETWORKS[network]))) as proxy,
    ):
        store = Store(server.connection)
        yield partial(measure, proxy=proxy, server=server, store=store, base=Path(base))
    shutil.rmtree(DATA / OUT, ignore_errors=True)


@click.command()
@click.option("--rounds", type=int, help="Instead of as many as each workload has.")
@click.option("--only", multiple=True, help="Only these workloads, such as W1.")
@click.option("--side", "chosen", multiple=True, help="Only these sides.")
@click.option("--network", default=0, show_default=True, help="Which of the networks.")
@click.option("--keep/--no-keep", default=True, help="Write the results into the page.")
@click.option("--exactly", is_flag=True, help="Check requests and bytes that do not vary.")
def main(
    rounds: int | None,
    only: tuple[str, ...],
    chosen: tuple[str, ...],
    network: int,
    keep: bool,
    exactly: bool,
) -> None:
    """Measure, and write the page."""
    name, began = list(NETWORKS)[network], f"{datetime.now():%Y-%m-%d %H:%M:%S}"
    results: dict[str, page.Sides] = defaultdict(lambda: defaultdict(list))
    wanted = {key: WORKLOADS[key] for key in only or WORKLOADS}
    for workload in wanted.values():
        make(DATA.absolute(), workload.bucket)
    every = sides(DATA.absolute())
    with measuring(name) as measured_by:
        for key, workload in wanted.items():
            times = rounds or workload.rounds
            turn = list(chosen or workload.sides)
            for number in range(times):
                # Backwards every other time: who comes next finds the memory that was just freed.
                for side in turn if number % 2 == 0 else reversed(turn):
                    measured = measured_by(workload, every[side])
                    results[key][side].append(measured)
                    click.echo(
                        f"{key} {number + 1}/{times} {side:15s} {measured['job']:6.2f} s of "
                        f"{measured['command']:6.2f} s, {measured['sent'] / 1e6:7.1f} MB, "
                        f"{page.requests(measured)} requests"
                    )
            if "s3fuse" in results[key]:
                for limit, used in page.judgement(workload, results[key]):
                    click.echo(f"{key}: {used:.2f} of what is allowed: {limit}")
            if keep and not chosen and not exactly:
                # A run takes longer than an hour, and may be cut.
                page.add(name, began, {key: dict(results[key])})
    if exactly:
        wrong = [text for key in results for text in page.deviations(key, results[key]["s3fuse"])]
        click.echo("\n".join(wrong) or "Requests and bytes are what they must be.")
        raise SystemExit(len(wrong))


if __name__ == "__main__":
    main()
