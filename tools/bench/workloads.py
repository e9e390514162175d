"""The workloads: what is done, by whom, and what this project must reach."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bench.data import BATCH, MANY, SAMPLES
from bench.fetched import PAGE, Fetched
from bench.sides import Place

WORK = Path(__file__).with_name("work.py")
REMOTE = ("S3 plugin", "plain s3fs", "rclone, wide", "rclone, narrow", "xarray")


@dataclass(frozen=True)
class Limit:
    """What must hold of the medians of a round.

    Attributes
    ----------
    ratio : float
        At most this many times ...
    of : sequence of str
        ... the seconds of the fastest of these sides.
    plus_upload : float
        Bytes whose upload at one connection's speed is allowed beside.
    plus_seconds : float
        So much is allowed beside.
    """

    ratio: float
    of: Sequence[str]
    plus_upload: float = 0.0
    plus_seconds: float = 0.0


@dataclass(frozen=True)
class Workload:
    """One workload.

    Attributes
    ----------
    title : str
        What is done.
    bucket : str
        Which data it reads; see `data`.
    sides : sequence of str
        Who does it.
    limits : sequence of Limit
        Of the seconds of a job, or of the whole command for `command`.
    megabytes : float, optional
        At most so many may be moved by this project.
    requests : int, optional
        At most so many may be sent by this project.
    disk : int, optional
        At most so many bytes of disk may be taken by this project at any time.
    memory : int, optional
        Bytes that the whole command may use.
    rounds : int
        How often each side is measured; more often where a run is short and its limit
        close to what the machine itself varies by.
    needed : float, optional
        MB that the job cannot do without.
    exactly : mapping of str to int
        Requests of this project, by kind, whatever the machine.
    bytes_read : int, optional
        Bytes of objects that this project reads, whatever the machine.
    whole_command : bool
        Whether Snakemake's own start is part of what is judged.
    before : int
        Runs before the one that is measured, on the same node.
    runs : int
        Runs that are measured together; of the seconds, the mean.
    """

    title: str
    bucket: str
    sides: Sequence[str]
    limits: Sequence[Limit]
    megabytes: float | None = None
    requests: int | None = None
    disk: int | None = None
    memory: int | None = None
    rounds: int = 5
    needed: float | None = None
    exactly: Mapping[str, int] = field(default_factory=dict)
    bytes_read: int | None = None
    whole_command: bool = False
    step: str = ""
    access: str = ""
    keys: Sequence[str] = ("tas.nc",)
    cores: int = 1
    options: Sequence[str] = ()
    snakefile: str = "Snakefile"
    command: str = ""
    before: int = 0
    runs: int = 1

    def config(self, place: Place, run: str) -> dict[str, Any]:
        """The configuration of Snakemake for one run."""
        outputs = f"{place.outputs}/{run}"
        inputs = [f"{place.root}{self.bucket}/{key}" for key in self.keys]
        config: dict[str, Any] = {
            "provider": place.provider,
            "access": self.access,
            "work": self.step,
        }
        if self.snakefile == "many.smk":
            many = {"inputs": f"{place.root}{self.bucket}", "outputs": outputs}
            return {**config, **many, "count": len(self.keys), "command": self.command}
        extension = "pp" if self.step == "merge" else "nc"
        # xarray opens URLs by itself; to Snakemake they are words.
        has_files = bool(place.provider) or not place.root.startswith("s3://")
        job = {
            "inputs": inputs if has_files else [],
            "urls": [] if has_files else inputs,
            # rclone's server refuses uploads below a folder that s3fs has made.
            "output": f"{outputs}.{extension}",
        }
        return {**config, "jobs": [job]}


#: Bytes of the file of a year, as netCDF-C lays it out.
YEAR = 378_479_146
#: Where the leaves of its index of chunks lie (`grep -abo TREE`; the root is in the head), and
#: the node of the names of its attributes (`grep -abo BTLF`).
LEAVES = (
    *(67_401_538, 67_404_674, 126_505_410, 185_606_146, 244_706_882, 303_807_618),
    362_910_402,
)
NAMES = 312_105_382
#: The leaf of day 200, and where that begins (`h5dump -p`).
LEAF_200, DAY_200 = 185_606_146, 207_382_082
#: netCDF-C reads the start of a file twice, at its begin and behind the first pages, and then
#: the names.
OPENED = (0, 4 * PAGE, NAMES)
#: A listing of each bucket, for planning; of the output, our look whether it is whole.
PLANNED = {"LIST": 2, "HEAD": 1, "PUT": 1}


def _fetched(*positions: int) -> Fetched:
    """Work out what is fetched of the file of a year for a job that reads at these positions."""
    fetched = Fetched(YEAR)
    fetched.metadata([*LEAVES, NAMES])
    fetched.steps([*OPENED, *positions])
    return fetched


ONE_DAY = _fetched(LEAF_200, DAY_200)

EVERYONE = ("s3fuse", *REMOTE, "local disk")
ONE_FILE: Mapping[str, Workload] = {
    "W1": Workload(
        "10 × 10 points of one day of 379 MB",
        "year",
        EVERYONE,
        [Limit(1.05, REMOTE)],
        megabytes=25,
        rounds=7,
        requests=40,
        exactly={**PLANNED, "GET": ONE_DAY.requests},
        bytes_read=ONE_DAY.bytes,
        needed=1.04,
        step="one-day",
        access="random",
    ),
    "W2": Workload(
        "the same points, every 30th day",
        "year",
        EVERYONE,
        [Limit(1.05, REMOTE)],
        megabytes=100,
        # dask reads days in any order, on which it depends how the pieces are cut, and what is
        # fetched ahead.
        exactly=PLANNED,
        needed=13.5,
        step="every-30th-day",
        access="random",
    ),
    "W3": Workload(
        "time mean over the whole file",
        "year",
        EVERYONE,
        [Limit(0.95, REMOTE), Limit(1.7, ["local disk"])],
        megabytes=1.02 * YEAR / 1e6,
        # Every byte once; the job may come before what reads ahead for it.
        exactly=PLANNED,
        bytes_read=YEAR,
        needed=YEAR / 1e6,
        step="mean",
        access="sequential",
    ),
}
WORKLOADS: Mapping[str, Workload] = {
    **ONE_FILE,
    "W4": Workload(
        "save a lazy cube of 62 MB in 60 chunks",
        "year",
        ("s3fuse", "plain s3fs", "local disk"),
        [Limit(1.5, ["local disk"], plus_upload=62.2e6), Limit(0.1, ["plain s3fs"])],
        # Parts of 16 MiB.
        exactly={"LIST": 1, "POST upload": 2, "PUT part": 4, "HEAD": 1},
        bytes_read=0,
        needed=62.2,
        step="save",
        keys=(),
    ),
    "W5": Workload(
        "merge 120 PP files of 312 kB",
        "fields",
        ("s3fuse", "S3 plugin", "plain s3fs", "local disk"),
        [Limit(1 / 1.5, ["S3 plugin"]), Limit(1 / 8, ["plain s3fs"])],
        exactly={"LIST": 2, "GET": 120, "PUT": 1, "HEAD": 1},
        bytes_read=120 * 312_464,
        needed=37.5,
        step="merge",
        access="sequential",
        keys=sorted(path.name for path in (SAMPLES / "UM").iterdir()),
    ),
    "W6": Workload(
        "dry run over 10,000 inputs and 10,000 outputs",
        "many",
        ("s3fuse", "local disk"),
        [Limit(1.25, ["local disk"])],
        requests=50,
        rounds=9,
        # Pages of 1,000 keys, and an empty folder.
        exactly={"LIST": MANY // 1000 + 1},
        bytes_read=0,
        whole_command=True,
        snakefile="many.smk",
        keys=[str(number) for number in range(MANY)],
        options=("--dry-run", "--quiet", "rules"),
        command="true",
    ),
    "W7": Workload(
        "nothing to do",
        "batch",
        ("s3fuse", "local disk"),
        [Limit(1.3, ["local disk"])],
        rounds=9,
        whole_command=True,
        snakefile="many.smk",
        keys=[str(number) for number in range(BATCH)],
        exactly={"LIST": 2},
        bytes_read=0,
        command="head -c 1000 {input} > {output}",
        before=1,
    ),
    "W8": Workload(
        "60 jobs with Iris, 5 MB in, 1 MB out",
        "batch",
        ("s3fuse", "local disk"),
        [Limit(1 / 0.85, ["local disk"])],
        snakefile="many.smk",
        keys=[str(number) for number in range(BATCH)],
        cores=2,
        exactly={"LIST": 2, "GET": BATCH, "PUT": BATCH, "HEAD": BATCH},
        needed=60 * 5.2,
        command=f"{sys.executable} {WORK} last-day {{output}} {{input}}",
    ),
    "W9": Workload(
        "time mean over 2 GB, with 512 MB of memory",
        "long",
        ("s3fuse",),
        [],
        disk=10**9,
        memory=512 * 2**20,
        needed=2073.7,
        step="mean",
        access="sequential",
        options=("--storage-s3fuse-cache-size", "1GB"),
    ),
    **{
        f"W10, {key}": replace(
            workload,
            title=f"{workload.title}, in another run on the node",
            sides=("s3fuse", "local disk"),
            limits=[Limit(1, ["local disk"], plus_seconds=0.4)],
            megabytes=None,
            requests=None,
            exactly={"LIST": 2, "PUT": 1},
            bytes_read=0,
            options=("--forceall",),
            before=1,
        )
        for key, workload in ONE_FILE.items()
    },
    "W11": replace(
        ONE_FILE["W3"],
        title="20 runs that take the time mean, one after the other",
        sides=("s3fuse",),
        limits=[],
        rounds=1,
        exactly={},
        options=("--forceall",),
        runs=20,
    ),
}
