"""What is lost when things break: many runs, each broken once, counted in a table.

``make faults`` runs it and writes docs/reference/reliability.md.  A run that is
broken must end right, or fail and leave every old result as it was; the run
after it, with nothing broken, must end right and leave nothing behind.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import click
import psutil

from fault_proxy import Faults, Proxy, Request, proxied
from s3fuse.server import Server, serving
from s3fuse.store import Store
from s3fuse.urls import S3Url

PAGE = Path(__file__).parents[2] / "docs/reference/reliability.md"
SNAKEFILE = Path(__file__).parent / "Snakefile"
INPUTS = S3Url("inputs")
SIZES = {"large": 8_000_000, "small1": 200_000, "small2": 50_000, "small3": 10}
TAIL = b"\0" * 36_000_000
OLD = b"the result of the run before"

Break = Callable[["Try"], None]


@dataclass
class Try:
    """One broken run, and the one after it."""

    server: Server
    store: Store
    expected: dict[str, bytes]
    seed: int
    folder: Path
    bucket: str = ""
    random: random.Random = field(init=False)
    faults: Faults = field(default_factory=lambda: Faults(connection_bandwidth=20e6))
    proxy: Proxy = field(init=False)
    process: subprocess.Popen[str] = field(init=False)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.bucket = f"try-{self.seed}"

    def start(self, endpoint_url: str) -> subprocess.Popen[str]:
        """Start Snakemake, in a process group of its own."""
        words = ["--snakefile", str(SNAKEFILE), "--cores", "2", "--rerun-incomplete", "--nolock"]
        words += ["--storage-s3fuse-copy-below", "1MB", "--storage-s3fuse-unmount-timeout", "5"]
        words += ["--forceall", "--config", f"inputs={INPUTS}", f"results=s3://{self.bucket}"]
        run_time = self.folder / "run"
        run_time.mkdir(exist_ok=True, mode=0o700)
        environment = {**os.environ, **self.server.environment, "XDG_RUNTIME_DIR": str(run_time)}
        environment["SNAKEMAKE_STORAGE_S3FUSE_ENDPOINT_URL"] = endpoint_url
        environment["TMPDIR"] = str(run_time)
        return subprocess.Popen(
            [sys.executable, "-m", "snakemake", *words],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            process_group=0,
        )

    def daemons(self) -> list[psutil.Process]:
        """The s3fs processes of this try."""
        found = []
        for process in psutil.process_iter(["name", "cmdline", "status"]):
            is_alive = process.info["status"] != psutil.STATUS_ZOMBIE
            words = " ".join(process.info["cmdline"] or ())
            if process.info["name"] == "s3fs" and is_alive and f"{self.folder}/" in words:
                found.append(process)
        return found

    def jobs(self) -> list[psutil.Process]:
        """The processes below Snakemake that are not daemons."""
        try:
            below = psutil.Process(self.process.pid).children(recursive=True)
            return [process for process in below if process.name() != "s3fs"]
        except psutil.NoSuchProcess:
            return []

    def contents(self) -> dict[str, bytes]:
        """What is in the bucket of results."""
        objects = self.store.list(S3Url(self.bucket), recursive=True).objects
        files = self.store.filesystem
        return {key: files.cat_file(f"{self.bucket}/{key}") for key in objects}

    def run(self, break_it: Break) -> str:
        """Break a run, run again, and say what came of it."""
        self.store.call("create_bucket", S3Url(self.bucket), "create")
        for key in self.expected:
            self.store.filesystem.pipe_file(f"{self.bucket}/{key}", OLD)
        with proxied(self.server.endpoint_url, self.faults, seed=self.seed) as proxy:
            self.proxy = proxy
            self.process = self.start(proxy.endpoint_url)
            break_it(self)
            text, _ = self.process.communicate(timeout=240)
            return self.judge(text)

    def judge(self, text: str) -> str:
        """Look at the bucket, run again with nothing broken, and look again."""
        status = self.process.returncode
        found = self.contents()
        if status == 0 and found != self.expected:
            return "wrong: status 0 and not the right results"
        for key, content in found.items():
            if key not in self.expected or content not in (OLD, self.expected[key]):
                return f"wrong: {key} is neither the old result nor the new one"
        if lost := self.expected.keys() - found.keys():
            return f"lost: {', '.join(sorted(lost))}"
        if "Traceback (most recent call last)" in text:
            return f"traceback: {text[-1500:]}"
        self.proxy.faults = Faults()
        again = self.start(self.proxy.endpoint_url)
        text, _ = again.communicate(timeout=240)
        if again.returncode != 0 or self.contents() != self.expected:
            return f"not healed: {text[-1500:]}"
        if left := self.left_behind():
            return f"left behind: {left}"
        return "right" if status == 0 else "failed, healed"

    def left_behind(self) -> str:
        """What should not be there after a run."""
        deadline = time.monotonic() + 15
        while self.daemons() and time.monotonic() < deadline:
            time.sleep(0.2)
        if f"{self.folder}/" in Path("/proc/mounts").read_text():
            return "a mount"
        if self.daemons():
            return "a daemon"
        uploads = self.store.call("list_multipart_uploads", S3Url(self.bucket), "list")
        if uploads.get("Uploads"):
            return "parts of an upload"
        files = [str(path) for path in (self.folder / "run").rglob("*") if path.is_file()]
        return ", ".join(files)


def inject(**changes: object) -> Break:
    """Change the faults of the proxy from the start."""

    def break_it(this: Try) -> None:
        for name, value in changes.items():
            setattr(this.faults, name, value)

    return break_it


def once(kind: str, most: int, action: Callable[[Try], None]) -> Break:
    """Act once, at a random one of the first requests of a kind."""

    def break_it(this: Try) -> None:
        wanted, seen = this.random.randint(1, most), Counter[str]()

        def look(request: Request) -> str | None:
            seen[request.kind] += 1
            if request.kind == kind and seen[kind] == wanted:
                action(this)
            return None

        this.faults.refuse = look

    return break_it


def expire(this: Try) -> None:
    """From a random request on, the token has expired."""
    left = this.random.randint(5, 40)

    def look(_: Request) -> str | None:
        nonlocal left
        left -= 1
        return "ExpiredToken" if left < 0 else None

    this.faults.refuse = look


def kill(whom: Callable[[Try], list[int]]) -> Break:
    """Kill processes at a random moment of the run."""

    def break_it(this: Try) -> None:
        time.sleep(this.random.uniform(0.5, 5.0))
        for pid in whom(this):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    return break_it


def drop(this: Try) -> None:
    """Let the server be away for ten seconds."""
    this.proxy.drop(10)


CASES: dict[str, Break] = {
    "10 % of requests fail with 503": inject(error_share=0.1, error="ServiceUnavailable"),
    "every third connection is reset in a body": inject(reset_every=3),
    "every third body is cut short": inject(cut_every=3),
    "server away for 10 s while reading": once("GET", 5, drop),
    "server away for 10 s while uploading": once("PUT part", 3, drop),
    "token expires": expire,
    "SIGKILL to s3fs": kill(lambda this: [each.pid for each in this.daemons()]),
    "SIGKILL to the jobs": kill(lambda this: [each.pid for each in this.jobs()]),
    "SIGKILL to Snakemake": kill(lambda this: [this.process.pid]),
    "SIGKILL to Snakemake and its jobs": kill(
        lambda this: [this.process.pid, *(each.pid for each in this.jobs())]
    ),
}


def prepared(store: Store) -> dict[str, bytes]:
    """Upload the inputs, and compute what the results must be."""
    store.call("create_bucket", INPUTS, "create")
    digests = {}
    for name, size in SIZES.items():
        content = random.Random(name).randbytes(size)
        store.filesystem.pipe_file(f"{INPUTS.bucket}/{name}.bin", content)
        digests[f"{name}.txt"] = f"{hashlib.sha256(content).hexdigest()}  -\n".encode()
    return {**digests, "total.bin": b"".join(digests.values()) + TAIL}


def page(rows: dict[str, Counter[str]]) -> str:
    """The table."""
    lines = [
        "# Reliability",
        "",
        "<!-- Written by `make faults`. -->",
        "",
        "Each try is one run of a workflow with a mounted and three copied inputs, four small",
        "results and one uploaded in parts, broken once; then a run with nothing broken.",
        "*Right*: the broken run ended with the right results. *Healed*: it failed with every",
        "result either old or new, whole, and the next run made them right. *Lost*: anything",
        "else, such as a wrong value, a missing object, a mount, a daemon, a part of an upload",
        "or a file of ours left after the next run.",
        "",
        "| what was broken | tries | right | healed | lost |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, outcomes in rows.items():
        total, right, healed = outcomes.total(), outcomes["right"], outcomes["failed, healed"]
        lines.append(f"| {name} | {total} | {right} | {healed} | {total - right - healed} |")
    return "\n".join(lines) + "\n"


@click.command()
@click.option("--tries", default=20, show_default=True)
@click.option("--only", default="", help="Only cases whose name contains this.")
@click.option("--workers", default=3, show_default=True)
def main(tries: int, only: str, workers: int) -> None:
    """Try every case, and write the table."""
    rows: dict[str, Counter[str]] = {}
    with tempfile.TemporaryDirectory(prefix="reliability-") as name:
        base = Path(name)
        with serving(base / "data") as server:
            store = Store(server.connection)
            expected = prepared(store)
            for number, (case, break_it) in enumerate(CASES.items()):
                if only not in case:
                    continue

                def one(seed: int, break_it: Break = break_it) -> str:
                    folder = base / f"try-{seed}"
                    folder.mkdir()
                    return Try(server, store, expected, seed, folder).run(break_it)

                with ThreadPoolExecutor(workers) as pool:
                    outcomes = list(pool.map(one, range(number * 1000, number * 1000 + tries)))
                rows[case] = Counter(outcomes)
                click.echo(f"{case}: {dict(rows[case])}")
    if not only:
        PAGE.write_text(page(rows))
    good = {"right", "failed, healed"}
    sys.exit(any(outcome not in good for outcomes in rows.values() for outcome in outcomes))


if __name__ == "__main__":
    main()
