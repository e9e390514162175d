"""Jobs with several outputs: runs that are broken while they publish, and the ones after them.

The workflow has no inputs, and the run after a broken one starts in a new working
directory without ``--forceall``: only the bucket can tell it what to make again.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from conditions_proxy import enforcing_conditions, is_write
from fault_proxy import Faults, Request, proxied
from reliability.runs import HEALED, RIGHT, TIMEOUT, Lab, Try, nothing
from s3fuse.publish.commit import NAME as COMMIT
from s3fuse.publish.manifest import Manifest, manifest_url
from s3fuse.urls import S3Url

SNAKEFILE = Path(__file__).parent / "outputs.smk"
FILES = ("file1", "deep/file2", "file3", "deep/file4", "other/file5")
PARTS = ("1", "2", "3", "4", "5", "6")
#: An object of another program in the folder that a job writes.
FOREIGN, FOREIGN_CONTENT = "parts/foreign", b"foreign"
#: What runs write: the one before, the broken one, the one at the same time, the one after.
BEFORE, BROKEN, RIVAL, AFTER = "before", "broken", "rival", "after"
#: Share of tries in which the outputs were there before.
BEFORE_SHARE = 0.75
NOT_HAPPENED = "the case did not happen"
#: Seconds for which one of two runs waits until the other publishes, too.
MEETING = 120


@dataclass
class Publication(Try):
    """A broken run of jobs with several outputs, and the one after it.

    Attributes
    ----------
    fault : callable
        Prepare to break the run.
    content : str
        What the broken run writes.
    """

    fault: Callable[[Publication], None] = nothing
    content: str = BROKEN

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.run_time.mkdir(parents=True, mode=0o700)
        self.names = FILES[: self.random.randint(2, len(FILES))]
        self.was_there = self.random.random() < BEFORE_SHARE

    def run_broken(self) -> str:
        """Break a run, and return what it prints."""
        self.fault(self)
        return super().run_broken()

    def start(self) -> subprocess.Popen[str]:
        """Start the run that is broken."""
        return self.start_in("clone", self.content, "--forceall", *self.options)

    def start_in(self, clone: str, content: str, *words: str) -> subprocess.Popen[str]:
        """Start a run in a working directory of its own."""
        workdir = self.folder / clone
        workdir.mkdir()
        config = {"results": str(self.results).rstrip("/"), "files": self.names, "content": content}
        return self.snakemake(workdir, SNAKEFILE, config, words)

    def publish_old(self) -> None:
        """Put the object of another program into the bucket, and the outputs if they were there."""
        self.lab.store.filesystem.pipe_file(f"{self.results.bucket}/{FOREIGN}", FOREIGN_CONTENT)
        if self.was_there:
            process = self.start_in("old", BEFORE)
            text, _ = process.communicate(timeout=TIMEOUT)
            assert process.returncode == 0, text
            assert self.writers() == {"files": BEFORE, "parts": BEFORE}

    def outputs(self, content: str) -> dict[str, bytes]:
        """What a run publishes that writes this content, by key."""
        keys = [*self.names, *(f"parts/{part}" for part in (*PARTS, f"only-{content}"))]
        return dict.fromkeys(keys, content.encode())

    def writers(self) -> dict[str, str]:
        """Return what wrote the outputs of each job; nothing for a job whose outputs are mixed."""
        found = self.contents()
        found.pop(FOREIGN, None)
        jobs = {"files": True, "parts": self.is_folder_whole()}
        return {
            job: content
            for content in (BEFORE, BROKEN, RIVAL, AFTER)
            for job, is_whole in jobs.items()
            if is_whole and _of_job(job, found) == _of_job(job, self.outputs(content))
        }

    def is_folder_whole(self) -> bool:
        """Tell whether the manifest lists the objects of the folder, and is not pending."""
        folder, store = self.results.child("parts/"), self.lab.store
        listing = store.list(folder, recursive=True)
        url = manifest_url(folder)
        info = listing.internal.get(url.key)
        if info is None:
            return False
        infos = Manifest.parse(store.get(url, info), url).selected(folder, listing) or ()
        return {each.key for each in infos} == listing.objects.keys() - {FOREIGN}

    def judge(self, text: str) -> str:
        """Look at what the broken run has left in the bucket, and at what it has printed."""
        status = self.process.returncode
        found = self.contents()
        if found.pop(FOREIGN, None) != FOREIGN_CONTENT:
            return f"lost: {FOREIGN}"
        before, *others = [self.outputs(each) for each in (BEFORE, BROKEN, RIVAL)]
        for key, body in found.items():
            if body not in [outputs.get(key) for outputs in (before, *others)]:
                return f"wrong: {key} is not what any run has written"
        if self.was_there and (lost := before.keys() & others[0].keys() - found.keys()):
            return f"lost: {', '.join(sorted(lost))}"
        if status == 0 and self.writers() != {"files": self.content, "parts": self.content}:
            return "wrong: status 0 and not the right results"
        if "Traceback (most recent call last)" in text:
            return f"traceback: {text[-1500:]}"
        return RIGHT if status == 0 else HEALED

    def heal(self, verdict: str) -> str:
        """Run in a new working directory with nothing broken, and look at everything."""
        self.proxy.faults = Faults()
        again = self.start_in("fresh", AFTER)
        text, _ = again.communicate(timeout=TIMEOUT)
        if again.returncode != 0 or self.writers().keys() != {"files", "parts"}:
            return f"not healed: {text[-1500:]}"
        if self.contents().get(FOREIGN) != FOREIGN_CONTENT:
            return f"lost: {FOREIGN}"
        left = self.left_behind()
        return f"left behind: {left}" if left else verdict


def _of_job(job: str, objects: dict[str, bytes]) -> dict[str, bytes]:
    """Select the outputs of a job by their keys."""
    keys = {key for key in objects if key.startswith("parts/")}
    keys = keys if job == "parts" else objects.keys() - keys
    return {key: objects[key] for key in keys}


def kill_between_completions(this: Publication) -> None:
    """Kill the run when some of several files are visible, and the others are not."""
    _kill_before_change(this, "files", this.random.randint(2, len(this.names)))


def kill_half_way_through_a_folder(this: Publication) -> None:
    """Kill the run between the first object of the folder and the last change to it."""
    # The pending manifest and the objects; perhaps a deletion; the manifest.
    _kill_before_change(this, "parts", this.random.randint(3, len(PARTS) + 3))


def _kill_before_change(this: Publication, job: str, number: int) -> None:
    """Run one job, and kill it before one of the requests that change its outputs."""
    seen = 0

    def stall(request: Request) -> bool:
        nonlocal seen
        seen += is_write(request) and COMMIT not in request.key
        if seen == number and this.process.poll() is None:
            os.killpg(this.process.pid, signal.SIGKILL)
        return seen >= number

    def has_happened() -> str:
        is_killed = this.process.returncode == -signal.SIGKILL
        return "" if is_killed and job not in this.writers() else NOT_HAPPENED

    this.faults.stall = stall
    this.options += ["--until", job]
    this.mend.append(has_happened)


def refuse_second_output(this: Publication) -> None:
    """Forbid to begin the upload of the second of several files, or to send its part."""
    second = this.results.child(this.names[1]).key
    kind = this.random.choice(["POST upload", "PUT part"])
    before = this.lab.store.list(this.results, recursive=True)

    def refuse(request: Request) -> str | None:
        return "AccessDenied" if (request.kind, request.key) == (kind, second) else None

    def has_changed() -> str:
        if not this.proxy.counts.injected["AccessDenied"]:
            return NOT_HAPPENED
        if this.lab.store.list(this.results, recursive=True) != before:
            return "wrong: the bucket is not as before"
        return "wrong: parts of an upload" if this.lab.store.uploads(this.results) else ""

    this.faults.refuse = refuse
    this.options += ["--until", "files"]
    this.mend.append(has_changed)


def race(lab: Lab, folder: Path, results: S3Url, seed: int) -> str:
    """Let two runs publish the same outputs at the same time, where conditions are honoured."""
    meeting = threading.Barrier(2, timeout=MEETING)
    with ExitStack() as stack:
        place = stack.enter_context(enforcing_conditions(lab.server.connection))
        runs = [
            Publication(lab, folder / content, results, seed, fault=_meet(meeting), content=content)
            for content in (BROKEN, RIVAL)
        ]
        for run in runs:
            run.proxy = stack.enter_context(proxied(place.endpoint_url or "", run.faults))
            # Which of them is first differs from try to try.
            run.faults.latency = random.Random(f"{seed} {run.content}").uniform(0.0, 0.05)
        runs[0].publish_old()
        with ThreadPoolExecutor(2) as pool:
            texts = list(pool.map(Publication.run_broken, runs))
        for run, text in zip(runs, texts, strict=True):
            verdict = run.judge(text)
            if verdict not in (RIGHT, HEALED):
                return verdict
            if verdict == HEALED and "start the run again" not in text:
                return f"wrong: a run fails and does not say why: {text[-1500:]}"
        if meeting.broken:
            return NOT_HAPPENED
        winners = runs[0].writers()
        if BEFORE in winners.values():
            return f"wrong: no run has published: {winners}"
        verdict = runs[0].heal(RIGHT if winners.keys() == {"files", "parts"} else HEALED)
        left = runs[1].left_behind()
        return f"left behind: {left}" if left else verdict


def _meet(meeting: threading.Barrier) -> Callable[[Publication], None]:
    """Hold the first request that writes until another run sends one, too."""

    def fault(this: Publication) -> None:
        has_met = False

        def refuse(request: Request) -> None:
            nonlocal has_met
            if not has_met and request.method in ("PUT", "POST"):
                has_met = True
                with suppress(threading.BrokenBarrierError):
                    meeting.wait()

        this.faults.refuse = refuse
        this.options += ["--keep-going"]

    return fault
