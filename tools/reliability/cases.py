"""What is broken, by name: each case judges one or more runs by what came of them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil

from fault_proxy import Request
from reliability.publications import (
    Publication,
    kill_between_completions,
    kill_half_way_through_a_folder,
    race,
    refuse_second_output,
)
from reliability.replacements import replace_one
from reliability.runs import INPUTS, NAMES, ODD_NAMES, RIGHT, Lab, Try, left_in, nothing
from s3fuse.gateway.keeper import GATEWAY
from s3fuse.mount.mounts import Mounts

Break = Callable[[Try], None]

#: Runs that share buckets at the same time.
CONCURRENT = 8
#: Rounds of what has no random moment in it.
FEW = 4
WRITING = ("PUT", "POST", "DELETE")


@dataclass(frozen=True)
class Case:
    """A way to break runs.

    Attributes
    ----------
    before, during : callable
        Break something before a run starts, or while it runs.
    names : callable
        Which inputs a try uses.
    needs_root : bool
        Whether it mounts a small disk.
    rounds : int
        How often it is tried.
    is_alone : bool
        Whether nothing else may run at the same time.
    """

    before: Break = nothing
    during: Break = nothing
    names: Callable[[int], Sequence[str]] = lambda seed: NAMES
    needs_root: bool = False
    rounds: int = 20
    is_alone: bool = False

    def outcomes(self, lab: Lab, seed: int) -> list[str]:
        """Try once."""
        results = lab.new_bucket(f"try-{seed}")
        folder = lab.base / f"try-{seed}"
        names = self.names(seed)
        return [Try(lab, folder, results, seed, self.before, self.during, names).run()]


@dataclass(frozen=True)
class Concurrent(Case):
    """Runs in working directories of their own, on the same buckets at the same time.

    Attributes
    ----------
    has_one_cache : bool
        Whether what one has read is there for the others.
    """

    has_one_cache: bool = False

    def outcomes(self, lab: Lab, seed: int) -> list[str]:
        """Run all at once."""
        bucket = lab.new_bucket(f"try-{seed}")
        cache = ["--storage-s3fuse-cache-dir", str(lab.base / f"cache-{seed}")]
        tries = [
            Try(
                lab,
                lab.base / f"try-{seed}-{number}",
                bucket.child(f"run{number}/"),
                seed,
                is_direct=self.has_one_cache,
                options=cache if self.has_one_cache else [],
            )
            for number in range(CONCURRENT)
        ]
        with ThreadPoolExecutor(CONCURRENT) as pool:
            return list(pool.map(Try.run, tries))


@dataclass(frozen=True)
class Publishing(Case):
    """Runs of jobs with several outputs.

    Attributes
    ----------
    fault : callable
        Prepare to break a run while it publishes.
    """

    fault: Callable[[Publication], None] = nothing

    def outcomes(self, lab: Lab, seed: int) -> list[str]:
        """Try once."""
        results = lab.new_bucket(f"try-{seed}")
        return [Publication(lab, lab.base / f"try-{seed}", results, seed, fault=self.fault).run()]


@dataclass(frozen=True)
class Replacement(Case):
    """Runs under which an input is replaced.

    Attributes
    ----------
    wanted : str
        What of a bucket they read; see `replacements.INPUTS`.
    versioned : bool
        Whether the bucket keeps what was replaced.
    """

    wanted: str = ""
    versioned: bool = False

    def outcomes(self, lab: Lab, seed: int) -> list[str]:
        """Try once."""
        return [replace_one(lab, seed, self.wanted, versioned=self.versioned)]


class Race(Case):
    """Two runs that publish the same outputs at the same time."""

    def outcomes(self, lab: Lab, seed: int) -> list[str]:
        """Run both at once; together they have one outcome."""
        return [race(lab, lab.base / f"try-{seed}", lab.new_bucket(f"try-{seed}"), seed)]


class Cycles(Case):
    """Mount, read and unmount in one process."""

    def outcomes(self, lab: Lab, seed: int) -> list[str]:
        """Do it five times."""
        folder = lab.base / f"try-{seed}"
        folder.mkdir()
        return [self._cycle(lab, folder) for _ in range(5)]

    def _cycle(self, lab: Lab, folder: Path) -> str:
        open_before = os.listdir("/proc/self/fd")
        mounts = Mounts(folder / "links", folder, folder / "run", folder / "cache")
        mount = mounts.mount(INPUTS.bucket, lab.server.connection)
        seen = (mount.point / f"{NAMES[0]}.bin").stat().st_size
        daemon = mount.daemon
        mounts.unmount_own()
        left = [*(folder / "run").iterdir(), *left_in(folder / "cache")]
        is_clean = not mount.is_mounted and daemon is not None and daemon.handle is None
        leaks = len(os.listdir("/proc/self/fd")) > len(open_before)
        return RIGHT if seen == 200_000 and is_clean and not left and not leaks else "left behind"


def inject(**changes: object) -> Break:
    """Change the faults of the proxy from the start."""

    def break_it(this: Try) -> None:
        for name, value in changes.items():
            setattr(this.faults, name, value)

    return break_it


def once(kind: str, most: int, action: Break) -> Break:
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


def forbid(*methods: str, kind: str = "") -> Break:
    """Let requests of these methods, or of one kind, be forbidden."""

    def look(request: Request) -> str | None:
        is_forbidden = request.method in methods or request.kind == kind
        return "AccessDenied" if is_forbidden else None

    return inject(refuse=look)


def drop(this: Try) -> None:
    """Let the server be away for ten seconds."""
    this.proxy.drop(10)


def kill(whom: Callable[[Try], list[int]]) -> Break:
    """Kill processes at a random moment of the run."""

    def break_it(this: Try) -> None:
        time.sleep(this.random.uniform(0.5, 6.0))
        _kill(whom(this))

    return break_it


def kill_while_iris_reads(whom: Callable[[Try], list[int]]) -> Break:
    """Kill processes at a random moment of the computation."""

    def break_it(this: Try) -> None:
        this.wait_until((this.folder / "reading").exists)
        time.sleep(this.random.uniform(0.0, 0.8))
        _kill(whom(this))

    return break_it


def _s3fs(this: Try) -> list[int]:
    return [each.pid for each in this.daemons()]


def _keepers(this: Try) -> list[int]:
    return [each.ppid() for each in this.daemons()]


def _gateways(this: Try) -> list[int]:
    beside = [each for pid in _keepers(this) for each in psutil.Process(pid).children()]
    return [each.pid for each in beside if each.name() == GATEWAY]


def _snakemake(this: Try) -> list[int]:
    return [this.process.pid]


def _kill(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def hold(code: str) -> Break:
    """Let a process of somebody else keep the mount busy until the run is over, and longer."""

    def break_it(this: Try) -> None:
        this.wait_until(lambda: (this.folder / "reading").exists())
        points = this.mount_points()
        holders = [
            subprocess.Popen(
                [sys.executable, "-c", f"import os, sys; {code}; sys.stdin.read()", str(point)],
                stdin=subprocess.PIPE,
            )
            for point in points
        ]

        def let_go() -> str:
            # Read-only and past the deadline: detached, and nobody was hurt.
            is_mounted = bool(this.mount_points())
            was_held = all(holder.poll() is None for holder in holders) and bool(holders)
            for holder in holders:
                holder.communicate()
            if is_mounted:
                return "left behind: a busy mount"
            return "" if was_held else "the case did not happen"

        this.mend.append(let_go)

    return break_it


def small_disk(megabytes: int, option: str) -> Break:
    """Give a setting a disk that is too small."""

    def break_it(this: Try) -> None:
        disk = Path(tempfile.mkdtemp(prefix="disk-", dir=this.folder))
        size = f"size={megabytes}m,mode=0700"
        subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", disk], check=True)
        this.options += [option, str(disk)]

        def take_away() -> str:
            large = [path for path in disk.rglob("*") if path.is_file() and "cache" in option]
            subprocess.run(["umount", "--lazy", disk], check=True)
            return f"left behind: {large}" if large else ""

        this.mend.append(take_away)

    return break_it


def odd_names(seed: int) -> list[str]:
    """Three names, so that four tries meet all of them."""
    return [ODD_NAMES[(3 * seed + number) % len(ODD_NAMES)] for number in range(3)]


CASES: dict[str, Case] = {
    "10 % of requests fail with 503": Case(inject(error_share=0.1, error="ServiceUnavailable")),
    "every third connection is reset in a body": Case(inject(reset_every=3)),
    "every third body is cut short": Case(inject(cut_every=3)),
    "server away for 10 s while reading": Case(once("GET", 5, drop)),
    "server away for 10 s while uploading": Case(once("PUT part", 3, drop)),
    "token expires": Case(expire),
    "SIGKILL to s3fs": Case(during=kill(_s3fs)),
    "SIGKILL to s3fs while Iris reads": Case(during=kill_while_iris_reads(_s3fs)),
    "SIGKILL to the gateway while Iris reads": Case(during=kill_while_iris_reads(_gateways)),
    "SIGKILL to the keeper of a mount while Iris reads": Case(
        during=kill_while_iris_reads(_keepers)
    ),
    "SIGKILL to Snakemake while Iris reads": Case(during=kill_while_iris_reads(_snakemake)),
    "SIGKILL to the jobs": Case(during=kill(lambda this: [each.pid for each in this.jobs()])),
    "SIGKILL to Snakemake": Case(during=kill(_snakemake)),
    "SIGKILL to Snakemake and its jobs": Case(
        during=kill(lambda this: [this.process.pid, *(each.pid for each in this.jobs())])
    ),
    "a file in the mount is held open beyond the deadline": Case(
        during=hold("file = open(sys.argv[1] + '/large.nc')"), rounds=FEW
    ),
    "a working directory is in the mount beyond the deadline": Case(
        during=hold("os.chdir(sys.argv[1])"), rounds=FEW
    ),
    "the disk of the cache is full": Case(
        small_disk(8, "--storage-s3fuse-cache-dir"), needs_root=True, rounds=FEW
    ),
    "the disk of the outputs is full": Case(
        small_disk(20, "--local-storage-prefix"), needs_root=True, rounds=FEW
    ),
    "the bucket may not be written": Case(forbid(*WRITING), rounds=FEW),
    "the bucket may not be listed": Case(forbid(kind="LIST"), rounds=FEW),
    "an object is replaced": Replacement(wanted="one.bin", rounds=70),
    "an object of a folder is replaced": Replacement(wanted="folder/", rounds=70),
    "an object of a whole bucket is replaced": Replacement(rounds=70),
    "an object of a bucket with versions is replaced": Replacement(
        wanted="one.bin", versioned=True
    ),
    "an object of a folder with versions is replaced": Replacement(
        wanted="folder/", versioned=True
    ),
    "an object of a whole bucket with versions is replaced": Replacement(versioned=True),
    "odd keys": Case(names=odd_names, rounds=FEW),
    f"{CONCURRENT} runs on the same buckets at once": Concurrent(rounds=2, is_alone=True),
    f"{CONCURRENT} runs on one cache at once": Concurrent(
        rounds=2, is_alone=True, has_one_cache=True
    ),
    "mounted and unmounted": Cycles(is_alone=True),
    "killed between two completions": Publishing(fault=kill_between_completions),
    "two runs on the same keys": Race(),
    "a folder output killed half way": Publishing(fault=kill_half_way_through_a_folder),
    "a refused second output": Publishing(fault=refuse_second_output),
}
