"""One run of the workflow that is broken, and the one after it."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import iris
import numpy as np
import psutil
from iris.coords import DimCoord
from iris.cube import Cube
from iris.fileformats.netcdf import save

from fault_proxy import Faults, Proxy, proxied
from s3fuse.cache.place import ENTRIES
from s3fuse.embedded_server import Server
from s3fuse.gateway.keeper import GATEWAY, KEEPER
from s3fuse.publish.commit import NAME as COMMIT
from s3fuse.s3.store import Store
from s3fuse.urls import S3Url

SNAKEFILE = Path(__file__).parent / "Snakefile"
INPUTS = S3Url("inputs")
NAMES = ("small1", "small2", "small3")
#: Keys that something on the way could misread.
ODD_NAMES = (
    "with space",
    "a+b",
    "100%",
    "a%2Fb",
    "number#1",
    "question?",
    "größe/温度",
    "~tilde'quote",
    "semi;colon&and",
    "(bra)[cket]",
    "star*",
    # Not one letter again and again, which Snakemake takes for endless recursion.
    "/".join(random.Random(part).randbytes(part).hex() for part in (120, 119, 118, 117, 24)),
)
TAIL = b"\0" * 36_000_000
OLD = b"the result of the run before"
RIGHT, HEALED = "right", "failed, healed"
#: The processes of a mount.
DAEMONS = ("s3fs", KEEPER, GATEWAY)
#: Seconds for one run, whatever is broken.
TIMEOUT = 300


@dataclass
class Lab:
    """A server with the inputs of all runs.

    Attributes
    ----------
    server : Server
        The store.
    base : Path
        The working directories of the runs lie below it.
    """

    server: Server
    base: Path
    store: Store = field(init=False)
    digests: dict[str, bytes] = field(init=False)

    def __post_init__(self) -> None:
        """Upload the inputs, and compute what the results must be."""
        self.store = Store(self.server.connection)
        self.store.call("create_bucket", INPUTS, "create")
        files = self.store.filesystem
        self.digests = {}
        for name in (*NAMES, *ODD_NAMES):
            content = random.Random(name).randbytes(200_000)
            files.pipe_file(f"{INPUTS.bucket}/{name}.bin", content)
            self.digests[name] = f"{hashlib.sha256(content).hexdigest()}  -\n".encode()
        values = np.random.default_rng(1).integers(-9999, 9999, (40, 250, 400), "i4")
        with tempfile.NamedTemporaryFile(suffix=".nc", dir=self.base) as file:
            time_points = DimCoord(
                np.arange(40.0), standard_name="time", units="days since 2000-1-1"
            )
            cube = Cube(values, var_name="number", dim_coords_and_dims=[(time_points, 0)])
            iris.FUTURE.save_split_attrs = True
            save(cube, file.name, chunksizes=(1, 250, 400))
            files.put_file(file.name, f"{INPUTS.bucket}/large.nc")
        sums = values.sum(axis=0, dtype="i8")
        self.digests["large"] = f"{hashlib.sha256(sums.tobytes()).hexdigest()}\n".encode()

    def expected(self, names: Sequence[str]) -> dict[str, bytes]:
        """What a run over these inputs must publish, by key."""
        results = {f"{name}.txt": self.digests[name] for name in ("large", *names)}
        return {**results, "total.bin": b"".join(results.values()) + TAIL}

    def new_bucket(self, name: str) -> S3Url:
        """Make an empty bucket for results."""
        self.store.call("create_bucket", S3Url(name), "create")
        return S3Url(name)


def nothing(this: Try) -> None:
    """Break nothing."""


@dataclass
class Try:
    """One broken run, and the one after it.

    Attributes
    ----------
    lab : Lab
        Server and inputs.
    folder : Path
        The working directory.
    results : S3Url
        Where results go: a bucket or a folder of one.
    seed : int
        Of everything that is random.
    before, during : callable
        Break something before the run starts, or while it runs.
    names : sequence of str
        Which inputs to use, beside the large one.
    is_direct : bool
        Whether nothing is between it and the server, which has one name for all then.
    """

    lab: Lab
    folder: Path
    results: S3Url
    seed: int
    before: Callable[[Try], None] = nothing
    during: Callable[[Try], None] = nothing
    names: Sequence[str] = NAMES
    is_direct: bool = False
    random: random.Random = field(init=False)
    faults: Faults = field(default_factory=lambda: Faults(connection_bandwidth=20e6))
    proxy: Proxy = field(init=False)
    process: subprocess.Popen[str] = field(init=False)
    #: More options of Snakemake, for the broken run only.
    options: list[str] = field(default_factory=list)
    #: What to call when the broken run is over; says what was left behind.
    mend: list[Callable[[], str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.run_time.mkdir(parents=True, mode=0o700)
        self.expected = self.lab.expected(self.names)

    @property
    def run_time(self) -> Path:
        """Run-time and temp directory of the runs."""
        return self.folder / "run"

    def start(self) -> subprocess.Popen[str]:
        """Start Snakemake on all inputs."""
        config = {"inputs": str(INPUTS), "results": str(self.results).rstrip("/")}
        words = ["--storage-s3fuse-copy-below", "1MB", "--storage-s3fuse-unmount-timeout", "5"]
        words += ["--forceall", *self.options]
        return self.snakemake(self.folder, SNAKEFILE, {**config, "names": self.names}, words)

    def snakemake(
        self, workdir: Path, snakefile: Path, config: Mapping[str, object], words: Sequence[str]
    ) -> subprocess.Popen[str]:
        """Start Snakemake in a directory, in a process group of its own."""
        (workdir / "config.json").write_text(json.dumps(config))
        common = ["--snakefile", str(snakefile), "--cores", "2", "--rerun-incomplete", "--nolock"]
        environment = {
            **os.environ,
            **self.lab.server.environment,
            **(
                {}
                if self.is_direct
                else {"SNAKEMAKE_STORAGE_S3FUSE_ENDPOINT_URL": self.proxy.endpoint_url}
            ),
            "XDG_RUNTIME_DIR": str(self.run_time),
            "TMPDIR": str(self.run_time),
        }
        return subprocess.Popen(
            [sys.executable, "-m", "snakemake", *common, "--configfile", "config.json", *words],
            cwd=workdir,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            process_group=0,
        )

    def wait_until(self, is_there: Callable[[], object]) -> None:
        """Wait for something to happen while the run runs."""
        while not is_there() and self.process.poll() is None:
            time.sleep(0.02)

    def mount_points(self) -> list[Path]:
        """Where this run has mounted."""
        lines = Path("/proc/mounts").read_text().splitlines()
        points = [line.split()[1] for line in lines if " fuse.s3fs " in line]
        return [Path(point) for point in points if point.startswith(f"{self.folder}/")]

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
            return [process for process in below if process.name() not in DAEMONS]
        except psutil.NoSuchProcess:
            return []

    def contents(self) -> dict[str, bytes]:
        """The results that are in the bucket, by key below their folder."""
        objects = self.lab.store.list(self.results, recursive=True).objects
        files = self.lab.store.filesystem
        skip = len(self.results.key)
        return {key[skip:]: files.cat_file(f"{self.results.bucket}/{key}") for key in objects}

    def run(self) -> str:
        """Break a run, run again, and say what came of it."""
        with proxied(self.lab.server.endpoint_url, self.faults, seed=self.seed) as proxy:
            self.proxy = proxy
            self.publish_old()
            verdict = self.judge(self.run_broken())
            left = [mend() for mend in self.mend]
            return (
                verdict if verdict not in (RIGHT, HEALED) else "".join(left) or self.heal(verdict)
            )

    def publish_old(self) -> None:
        """Put old results into the bucket."""
        for key in self.expected:
            url = self.results.child(key)
            self.lab.store.filesystem.pipe_file(f"{url.bucket}/{url.key}", OLD)

    def run_broken(self) -> str:
        """Break a run, and return what it prints."""
        self.before(self)
        self.process = self.start()
        self.during(self)
        text, _ = self.process.communicate(timeout=TIMEOUT)
        return text

    def judge(self, text: str) -> str:
        """Look at what the broken run has left in the bucket."""
        status = self.process.returncode
        found = self.contents()
        if status == 0 and found != self.expected:
            return "wrong: status 0 and not the right results"
        for key, content in found.items():
            if key not in self.expected or content not in (OLD, self.expected[key]):
                return f"wrong: {key} is neither the old result nor the new one"
        if lost := self.expected.keys() - found.keys():
            return f"lost: {', '.join(sorted(lost))}"
        ours = ("/s3fuse/", "/snakemake_storage_plugin_s3fuse/")
        if "Traceback (most recent call last)" in text and any(part in text for part in ours):
            return f"traceback: {text[-1500:]}"
        return RIGHT if status == 0 else HEALED

    def heal(self, verdict: str) -> str:
        """Run again with nothing broken, and look at everything."""
        self.faults = self.proxy.faults = Faults()
        self.options = []
        again = self.start()
        text, _ = again.communicate(timeout=TIMEOUT)
        if again.returncode != 0 or self.contents() != self.expected:
            return f"not healed: {text[-1500:]}"
        left = self.left_behind()
        return f"left behind: {left}" if left else verdict

    def left_behind(self) -> str:
        """What should not be there after a run."""
        deadline = time.monotonic() + 15
        while self.daemons() and time.monotonic() < deadline:
            time.sleep(0.2)
        if self.mount_points():
            return "a mount"
        if self.daemons():
            return "a daemon"
        if self.lab.store.uploads(self.results):
            return "parts of an upload"
        internal = self.lab.store.list(self.results, recursive=True).internal
        if any(key.rpartition("/")[2].startswith(COMMIT) for key in internal):
            return "a commit record"
        return ", ".join(map(str, left_in(self.run_time)))


def left_in(folder: Path) -> list[Path]:
    """Return the files in a run-time or temp directory, but what is kept for later runs."""
    kept = {each for each in folder.rglob(f"{ENTRIES}-*") if each.is_dir()}
    return [path for path in folder.rglob("*") if path.is_file() and kept.isdisjoint(path.parents)]
