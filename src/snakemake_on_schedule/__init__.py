"""The command ``snakemake-on-schedule``: Snakemake as cron, timers and schedulers want it.

One run of a directory at a time, whatever became of the last one, and a line at
the end that says what was done.  It is a package of its own because the plugin
takes 0.2 s to import, which a run with nothing to do would feel.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import click

#: Where Snakemake keeps what it knows of a working directory.
STATE = Path(".snakemake")
#: What a process holds that works in a directory; its content says who that is.
LOCK = STATE / "on-schedule.lock"
#: Snakemake's own locks, which stay when it is killed.
SNAKEMAKE_LOCKS = STATE / "locks"
#: The exit status where another run is under way: "try again later" in sysexits.h.
BUSY = 75

#: Snakemake, for which Python looks for garbage as rarely as for the plugin, from the first
#: import on, which is a twentieth of a run with nothing to do.
START = """
import gc, sys
gc.set_threshold(100_000, 20, 50)
sys.argv[0] = "snakemake"
from snakemake.cli import main
main()
"""


@click.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": ["--help-schedule"]},
    options_metavar="[--if-busy wait|leave] [--summary FILE]",
)
@click.option(
    "--if-busy",
    type=click.Choice(["wait", "leave"]),
    default="leave",
    show_default=True,
    help=f"What to do while another run of this directory works; leaving has exit status {BUSY}.",
)
@click.option(
    "--summary",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write what was done into this file, as JSON.",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[SNAKEMAKE OPTION]...")
def main(if_busy: str, summary: Path | None, arguments: tuple[str, ...]) -> None:
    """Run Snakemake in this directory, if no other run of it is under way.

    All options but these two are Snakemake's, as is the exit status. A lock that a
    killed run has left is removed, and at the end one line says what was done.
    """
    began = datetime.now(UTC)
    with alone(wait=if_busy == "wait") as (other, lock):
        if other:
            say(f"{other}, so nothing was started.")
            status, report = BUSY, {"status": BUSY, "began": began.isoformat()}
        else:
            status, report = run(arguments, began, lock)
    if summary:
        write(summary, report)
    sys.exit(status)


def run(arguments: tuple[str, ...], began: datetime, lock: IO[str]) -> tuple[int, dict[str, Any]]:
    """Run Snakemake; return its exit status, and what was done."""
    start = time.monotonic()
    # Jobs on other nodes leave their counts there, too, so not in a temp directory.
    folder = (STATE / f"traffic-{os.getpid()}").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        command = [sys.executable, "-c", START, *arguments]
        with subprocess.Popen(command, env={**os.environ, "S3FUSE_TRAFFIC": str(folder)}) as child:
            # While Snakemake starts: a run with nothing to do would feel it before.
            import humanfriendly

            from s3fuse.node.processes import Node, Process
            from s3fuse.traffic import Counts, total

            me = Process.of(os.getpid())
            _write(lock, {"node": asdict(Node.here()), "process": asdict(me)})
            status = wait_for(child)
        counts = total(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    seconds = time.monotonic() - start
    outcome = "Done" if status == 0 else f"Failed with exit status {status}"
    did = str(counts) if counts != Counts() else "nothing read, nothing published"
    say(f"{outcome} in {humanfriendly.format_timespan(seconds)}: {did}.")
    report = {"status": status, "began": began.isoformat(), "seconds": round(seconds, 3)}
    return status, {**report, **asdict(counts)}


def wait_for(child: subprocess.Popen[bytes]) -> int:
    """Wait for Snakemake, which gets the signals that we get."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda got, _: child.send_signal(got))
    # Ctrl-C reaches it by the terminal.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    status = child.wait()
    return status if status >= 0 else 128 - status


@contextmanager
def alone(*, wait: bool) -> Iterator[tuple[str, IO[str]]]:
    """Work alone in this directory, as far as others may be known.

    Yields
    ------
    tuple
        Who else works in it, empty if nobody does; and the lock, for a note of who works.
    """
    STATE.mkdir(exist_ok=True)
    with LOCK.open("a+") as lock:
        other = _other(lock)
        if other and wait:
            say(f"{other}; waiting for its end.")
            while other := _other(lock):
                time.sleep(1)
        if other:
            yield other, lock
            return
        _remove_stale_locks(lock)
        yield "", lock
        lock.truncate(0)


def _other(lock: IO[str]) -> str:
    """Say who works in this directory; take the lock if that is nobody."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = _read(lock)
        where = (
            f"process {holder['process']['pid']} on {holder['node']['host']}" if holder else "it"
        )
        return f"Another run of {Path.cwd()} is under way ({where})"
    if not _is_locked_by_snakemake():
        # Whoever works here without Snakemake's lock only looks.
        return ""
    # Imported here: it and a look at all processes take 0.05 s.
    import psutil

    for process in psutil.process_iter(["pid", "cwd", "cmdline"]):
        words = process.info["cmdline"] or []
        is_here = process.info["cwd"] == str(Path.cwd()) and process.info["pid"] != os.getpid()
        if is_here and any(word == START or Path(word).name == "snakemake" for word in words[:4]):
            fcntl.flock(lock, fcntl.LOCK_UN)
            return f"Another Snakemake works in {Path.cwd()} (process {process.info['pid']})"
    return ""


def _is_locked_by_snakemake() -> bool:
    return SNAKEMAKE_LOCKS.is_dir() and any(SNAKEMAKE_LOCKS.iterdir())


def _remove_stale_locks(lock: IO[str]) -> None:
    """Remove Snakemake's locks where the run that took them is known to have ended."""
    # We hold our lock, so whoever wrote its content has ended without taking it back.
    if _is_locked_by_snakemake() and _read(lock):
        shutil.rmtree(SNAKEMAKE_LOCKS)
        say("The last run did not come to its end; its lock was removed.")


def _read(lock: IO[str]) -> dict[str, Any]:
    lock.seek(0)
    with contextlib.suppress(ValueError):
        content = json.loads(lock.read())
        if isinstance(content, dict):
            return content
    return {}


def _write(lock: IO[str], content: dict[str, Any]) -> None:
    lock.truncate(0)
    lock.write(json.dumps(content))
    lock.flush()


def write(path: Path, report: dict[str, Any]) -> None:
    """Write a report in one step, for whoever watches the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(report, indent=2) + "\n")
    temporary.replace(path)


def say(sentence: str) -> None:
    """Print a line where Snakemake prints its own."""
    click.echo(f"snakemake-on-schedule: {sentence}", err=True)
