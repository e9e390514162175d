"""Inputs that are replaced, by others of the same size and time, while jobs read them.

Each version of an object is one byte again and again, so whoever reads can tell them apart.
Two jobs of a run read each object three times.  All of that must be the version that the run
planned with, or the run must fail.
"""

from __future__ import annotations

import copy
import json
import os
import subprocess
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from moto_store import serving_versions
from reliability.runs import HEALED, OLD, RIGHT, TIMEOUT, Lab, Try
from s3fuse.s3.store import Store

SNAKEFILE = Path(__file__).parent / "replaced.smk"
#: What is read, and the objects in it.
INPUTS: Mapping[str, tuple[str, ...]] = {
    "one.bin": ("one.bin",),
    "folder/": tuple(f"folder/{number}.bin" for number in range(4)),
    "": ("one.bin", *(f"folder/{number}.bin" for number in range(4))),
}
#: More than s3fs reads ahead.
SIZE = 12 * 2**20
FIRST, SECOND = 1, 2
#: Seconds from the start of a run, or of what it reads, within which something is replaced.
STARTING, READING = 4.0, 2.5
RESULTS = {"1.txt": OLD, "2.txt": OLD}


@dataclass
class Replacing(Try):
    """A run under which an object is replaced, and the one after it.

    Attributes
    ----------
    wanted : str
        What of the bucket is read.
    versioned : bool
        Whether the bucket keeps what was replaced.
    """

    wanted: str = ""
    versioned: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.expected = RESULTS
        self.inputs = self.lab.new_bucket(f"{self.results.bucket}-in")
        self.changed = self.random.choice(INPUTS[self.wanted])
        if self.versioned:
            status = {"Status": "Enabled"}
            self.lab.store.call(
                "put_bucket_versioning", self.inputs, "keep", VersioningConfiguration=status
            )
        for key in INPUTS[""]:
            self.write(key, FIRST)

    def write(self, key: str, byte: int) -> None:
        """Write an object; in a folder of this machine with the time that it had."""
        body = bytes([byte]) * SIZE
        path = self.lab.base / "data" / self.inputs.bucket / key
        before = path.stat() if path.exists() else None
        self.lab.store.call("put_object", self.inputs.child(key), "write", Key=key, Body=body)
        if before:
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    def start(self) -> subprocess.Popen[str]:
        """Start Snakemake on all inputs, one job after the other."""
        source = str(self.inputs.child(self.wanted) if self.wanted else self.inputs)
        config = {"input": source, "results": str(self.results).rstrip("/")}
        words = ["--storage-s3fuse-copy-below", "1MB", "--forceall", "--cores", "1"]
        return self.snakemake(self.folder, SNAKEFILE, config, words)

    def run_broken(self) -> str:
        """Replace an object at a random moment, and return what the run prints."""
        self.process = self.start()
        if self.random.random() < 0.3:
            time.sleep(self.random.uniform(0.0, STARTING))
        else:
            self.wait_until((self.folder / "reading").exists)
            time.sleep(self.random.uniform(0.0, READING))
        self.write(self.changed, SECOND)
        text, _ = self.process.communicate(timeout=TIMEOUT)
        return text

    def judge(self, text: str) -> str:
        """Look at what the run has published."""
        found = self.contents()
        new = {name: json.loads(each) for name, each in found.items() if each != OLD}
        values = [seen for each in new.values() for seen in each.values()]
        if any(seen not in ([FIRST], [SECOND]) for seen in values):
            return f"wrong: a mixture {new}"
        if len(new) == len(RESULTS) and new["1.txt"] != new["2.txt"]:
            return f"wrong: two versions {new}"
        if "Traceback (most recent call last)" in text and "/s3fuse/" in text:
            return f"traceback: {text[-1500:]}"
        if self.process.returncode == 0:
            return RIGHT if len(new) == len(RESULTS) else "wrong: status 0 without results"
        if self.versioned:
            return f"failed, and the bucket has what was planned: {text[-1500:]}"
        return HEALED if "replaced" in text else f"no reason: {text[-1500:]}"

    def heal(self, verdict: str) -> str:
        """Run again; all of it reads the versions that are there now."""
        again = self.start()
        text, _ = again.communicate(timeout=TIMEOUT)
        now = {Path(key).name: [FIRST] for key in INPUTS[self.wanted]}
        now[Path(self.changed).name] = [SECOND]
        found = [json.loads(each) for each in self.contents().values()]
        if again.returncode != 0 or found != [now] * len(RESULTS):
            return f"not healed: {found} {text[-1500:]}"
        left = self.left_behind()
        return f"left behind: {left}" if left else verdict


def replace_one(lab: Lab, seed: int, wanted: str, *, versioned: bool) -> str:
    """Try once, with a store that keeps versions or with the one of all tries."""
    with ExitStack() as stack:
        if versioned:
            server = stack.enter_context(serving_versions())
            lab = copy.copy(lab)
            lab.server, lab.store = server, Store(server.connection)
        results = lab.new_bucket(f"try-{seed}")
        folder = lab.base / f"try-{seed}"
        return Replacing(lab, folder, results, seed, wanted=wanted, versioned=versioned).run()
