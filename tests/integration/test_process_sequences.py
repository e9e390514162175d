"""Random sequences of real runs that are killed or compete, against a model of the bucket.

`publish/test_sequences.py` has many more sequences, in one process.
"""

from __future__ import annotations

import itertools
import os
import random
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bucket_model import FOREIGN, INNER, JOBS, BucketModel, Contents, JobModel
from conditions_proxy import enforcing_conditions
from conftest import Bucket, MakeBucket, snakemake_command, wait_for
from fault_proxy import Faults, Proxy, Request, proxied
from s3fuse.embedded_server import Server

SNAKEFILE = Path(__file__).parent / "sequences.smk"
#: What happens before the run that makes all that is missing.
STEPS = 3
#: More requests that change the bucket than any publication sends.
MOST_REQUESTS = 24
#: Seconds within which a run must end.
TIMEOUT = 120.0
#: What the loser of two runs says: when it publishes, or already when it looks at the folder.
LOST = (
    "since this run was planned, so it was not published|"
    "was replaced while it was in use; start the run again"
)


class Sequence:
    """One sequence, in a bucket of its own.

    Parameters
    ----------
    number : int
        Decides what happens.
    folder : Path
        For clones.
    bucket : Bucket
        An empty bucket.
    server : Server
        The server of the bucket.
    proxy : Proxy
        What killed runs go through, in front of a store that honours conditions.
    """

    def __init__(
        self, number: int, folder: Path, bucket: Bucket, server: Server, proxy: Proxy
    ) -> None:
        self.random = random.Random(number)
        self.folder, self.bucket, self.proxy = folder, bucket, proxy
        self.model = BucketModel()
        self.done: list[str] = []
        self._numbers = itertools.count(1)
        # What killed runs note there is no business of other tests.
        (folder / "run").mkdir(mode=0o700)
        self._environment = {
            **os.environ,
            **server.environment,
            "SNAKEMAKE_STORAGE_S3FUSE_ENDPOINT_URL": proxy.endpoint_url,
            "XDG_RUNTIME_DIR": str(folder / "run"),
        }

    def happen(self) -> None:
        for _ in range(STEPS):
            happens = self.random.choice(
                [self.run, self.kill, self.kill, self.compete, self.meddle]
            )
            self.done.append(happens.__name__)
            happens()
        self.done.append("repair")
        self.repair()

    def run(self) -> None:
        """One run makes a job again."""
        job, new = self._draw()
        text = self._end(self._start([job], new))
        assert text is None, text
        self.model.published(job, new, self.bucket.contents())

    def kill(self) -> None:
        """A run is killed before one of its requests."""
        job, new = self._draw()
        number = self.random.randint(1, MOST_REQUESTS if len(job.outputs) > 1 else 14)
        seen: list[Request] = []

        def stall(asked: Request) -> bool:
            if asked.method in ("PUT", "POST", "DELETE"):
                seen.append(asked)
            return len(seen) >= number

        self.proxy.faults = Faults(stall=stall)
        process = self._start([job], new)
        try:
            wait_for(lambda: len(seen) >= number or process.poll() is not None)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        ended = self._end(process)
        self.proxy.faults = Faults()
        self.done.append(f"{job.name} at {number}, {len(seen)} requests")
        if ended is None:
            self.model.published(job, new, self.bucket.contents())
        else:
            self.model.began(job, new, self.bucket.contents())

    def compete(self) -> None:
        """Two runs from two clones make the same job."""
        job, first = self._draw()
        second = self._draw(job)[1]
        processes = [self._start([job], new) for new in (first, second)]
        ended = [self._end(process) for process in processes]
        now = self.bucket.contents()
        won = [new for new, text in zip((first, second), ended, strict=True) if text is None]
        lost = [new for new, text in zip((first, second), ended, strict=True) if text is not None]
        for text in filter(None, ended):
            assert re.search(LOST, text), text
            assert "Traceback" not in text
        assert won, ended
        # Where both have succeeded, one has followed the other.
        new = next((each for each in won if each.items() <= now.items()), won[0])
        left = {
            key: content
            for each in lost
            for key, content in each.items()
            if key not in new and now.get(key) == content and "have been replaced before" in text
        }
        self.model.published(job, new, {k: v for k, v in now.items() if k not in left})
        for each in lost if left else []:
            self.model.began(job, each, now)

    def meddle(self) -> None:
        """Somebody puts an object, replaces one or deletes one."""
        outputs = [key for job in JOBS for key in job.files]
        keys = sorted({*FOREIGN, *outputs, *self.model.objects})
        key, number = self.random.choice(keys), next(self._numbers)
        self.done.append(key)
        if key in self.model.objects and self.random.random() < 0.5:
            self.bucket.remove(key)
            self.model.delete_foreign(key)
        else:
            self.bucket.write(key, f"foreign {number}")
            self.model.put_foreign(key, f"foreign {number}".encode())

    def repair(self) -> None:
        """A run from a fresh clone makes what is missing, and only that."""
        new = {key: content for job in JOBS for key, content in self._draw(job)[1].items()}
        text = self._end(self._start([], new))
        assert text is None, text
        now = self.bucket.contents()
        for job in JOBS:
            self.model.repaired(job, {k: v for k, v in new.items() if job.has(k)}, now)
        assert not self.bucket.store.uploads(self.bucket.url), "parts of an upload are left"

    def _draw(self, job: JobModel | None = None) -> tuple[JobModel, Contents]:
        job = job or self.random.choice(JOBS)
        keys = list(job.files)
        for folder in job.folders:
            names = self.random.sample(INNER, self.random.randint(1, len(INNER)))
            keys += [folder + name for name in names]
        number = next(self._numbers)
        return job, {key: f"{number} {key}".encode() for key in keys}

    def _start(self, jobs: list[JobModel], new: Contents) -> subprocess.Popen[str]:
        """Start a run from a fresh clone that makes some jobs again, or all that is missing."""
        clone = self.folder / f"clone-{next(self._numbers)}"
        for key, content in new.items():
            path = clone / "made" / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        rules = [job.name.replace(" ", "_") for job in jobs]
        words = ["--snakefile", SNAKEFILE, "--cores", "2", *(rules or ["all"])]
        words += ["--forcerun", *rules] if rules else []
        config = [f"bucket={self.bucket.name}", f"made={clone}/made"]
        return subprocess.Popen(
            snakemake_command(*words, "--config", *config),
            cwd=clone,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def _end(self, process: subprocess.Popen[str]) -> str | None:
        """Wait for a run; return what it has printed, or None if it has succeeded."""
        try:
            text, _ = process.communicate(timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            text, _ = process.communicate()
            pytest.fail(f"the run did not end: {text}")
        return text if process.returncode else None


@pytest.fixture
def conditional_proxy(server: Server) -> Iterator[Proxy]:
    """What may stall requests to a store that honours conditions."""
    with enforcing_conditions(server.connection) as connection:
        assert connection.endpoint_url
        with proxied(connection.endpoint_url) as proxy:
            yield proxy


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_no_sequence_of_processes_loses_an_output(
    tmp_path: Path,
    make_bucket: MakeBucket,
    server: Server,
    conditional_proxy: Proxy,
    tries: range,
) -> None:
    for number in range(2 * len(tries)):
        folder = tmp_path / str(number)
        folder.mkdir()
        sequence = Sequence(number, folder, make_bucket(), server, conditional_proxy)
        try:
            sequence.happen()
        except BaseException as error:
            error.add_note(f"sequence {number}: {', '.join(sequence.done)}")
            raise
