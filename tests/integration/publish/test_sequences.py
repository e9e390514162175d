"""Random sequences of what happens to the outputs of jobs, against a model of the bucket.

Runs plan and publish at different moments, are killed before any request that changes
the bucket, and meet objects that other people put, replace and delete. What Snakemake
would ask and order is asked and ordered of a real `Run`; the workflow is simulated, and
the store is `memory_store`, or a server behind the proxy that adds conditional writes.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from snakemake_interface_executor_plugins.settings import ExecMode

from bucket_model import (
    FOREIGN,
    INNER,
    JOBS,
    MANIFEST,
    BucketModel,
    Contents,
    JobModel,
    is_internal,
)
from capabilities import try_capabilities
from memory_store import MemoryStore, in_memory
from s3fuse.errors import PublishError, S3FuseError
from s3fuse.node.run_directory import VARIABLE
from s3fuse.s3.connection import Connection
from s3fuse.s3.store import Store
from s3fuse.session import SessionOptions
from s3fuse.urls import S3Url
from snakemake_storage_plugin_s3fuse.run import JobOutputs, Run
from stores import conditional

#: Requests that change what a bucket holds, uploads in parts included.
CHANGING = {
    *("put_object", "copy_object", "delete_object"),
    *("create_multipart_upload", "upload_part"),
    *("complete_multipart_upload", "abort_multipart_upload"),
}
#: About as many requests as a publication sends.
MOST_REQUESTS = {"file": 1, "two files": 9, "folder": 16, "file and folder": 20}


class Killed(BaseException):
    """The process is gone: nothing after it happens."""


class WatchedStore(Store):
    """Lets something happen before one of the requests that change the bucket."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._left = 0
        self._happens: Callable[[], None] | None = None
        self._spared: Collection[str] = ()
        self._is_dead = False

    def before_request(
        self, number: int, happens: Callable[[], None], spared: Collection[str] = ()
    ) -> None:
        """Let something happen before a request, or the next that is of no spared method."""
        self._left, self._happens, self._spared = number, happens, spared

    def die(self) -> None:
        """Send nothing any more."""
        self._is_dead = True
        raise Killed

    def call(self, method: str, *arguments: Any, **options: Any) -> dict[str, Any]:
        if self._is_dead:
            raise Killed
        if method in CHANGING and self._happens:
            if self._left <= 0 and method not in self._spared:
                happens, self._happens = self._happens, None
                happens()
            self._left -= 1
        return super().call(method, *arguments, **options)


class Rule:
    """A rule, as Snakemake has it."""

    benchmark = None
    is_checkpoint = False

    def __init__(self, name: str) -> None:
        self.name = name
        self.output: list[OutputFile] = []


class OutputFile(str):
    """An output of a rule, as Snakemake has it."""

    is_storage = True
    should_not_be_retrieved_from_storage = False
    flags: dict[str, Any]
    rule: Rule

    def match(self, path: str) -> bool:
        return path == self


@dataclass
class Snakemake:
    """One run of Snakemake from a fresh clone, with what it asks and orders of the plugin.

    Attributes
    ----------
    run : Run
        The plugin.
    bucket : str
        Where all outputs lie.
    etags : dict of str to str
        What the bucket held when this run was planned, or has published since.
    there : dict of str to Contents
        The outputs that were there then, and their contents.
    created : set of str
        Outputs that this run has published where there was nothing.
    sent : Contents
        All that this run has published.
    halves : Contents
        What a publication that failed may have made visible.
    claims : set of str
        ETags of manifests that a publication that failed may have left.
    """

    run: Run
    bucket: str
    etags: dict[str, str]
    there: dict[str, Contents] = field(default_factory=dict)
    created: set[str] = field(default_factory=set)
    sent: Contents = field(default_factory=dict)
    halves: Contents = field(default_factory=dict)
    claims: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._seen = list(self.etags)
        rules, jobs = [], []
        for job in JOBS:
            rule = Rule(job.name)
            for output in job.outputs:
                file = OutputFile(self.path(output))
                file.flags = {"directory": True} if output.endswith("/") else {}
                file.rule = rule
                rule.output.append(file)
            rules.append(rule)
            files = {"output": rule.output, "input": [], "log": [], "benchmark": None}
            jobs.append(SimpleNamespace(**files, attempt=1))
        self._workflow = SimpleNamespace(
            dag=SimpleNamespace(jobs=jobs, needrun_jobs=list),
            dag_settings=SimpleNamespace(allowed_rules=set()),
            exec_mode=ExecMode.DEFAULT,
            non_local_exec=False,
            remote_exec=False,
            iocache=SimpleNamespace(active=True),
            rules=rules,
        )
        self.run.workflow.learn(SimpleNamespace(rule=SimpleNamespace(workflow=self._workflow)))

    @property
    def store(self) -> WatchedStore:
        store = self.run.session.store
        assert isinstance(store, WatchedStore)
        return store

    def url(self, output: str) -> S3Url:
        return S3Url(self.bucket, output)

    def path(self, output: str) -> Path:
        return self.run.session.local_prefix / self.url(output).local_suffix()

    def exists(self, output: str) -> bool:
        return self.run.exists(self.url(output), self.path(output))

    def remove(self, output: str) -> None:
        self.run.remove(self.url(output), self.path(output))

    def is_superseded(self, output: str) -> bool:
        return self.run.versions.is_superseded(self.url(output))

    def differs(self, now: dict[str, str], key: str) -> bool:
        """Tell whether an object is another than planned; what is gone, nobody can lose."""
        return key in now and now[key] != self.etags.get(key)

    def plan(self, contents: Contents) -> None:
        """Ask for all outputs; note of which objects those that are there consist."""
        for output in itertools.chain.from_iterable(job.outputs for job in JOBS):
            if self.exists(output):
                keys = [output]
                if output.endswith("/"):
                    folder = self.run.versions.folder(self.url(output), self.path(output))
                    assert folder
                    keys = [info.key for info in folder.infos]
                self.there[output] = {key: contents[key] for key in keys}

    def start_jobs(self) -> None:
        """End planning."""
        self._workflow.iocache.active = False

    def start(self, job: JobModel) -> None:
        """Remove the outputs that are there, as before each job."""
        self.start_jobs()
        for output in job.outputs:
            if self.exists(output):
                self.remove(output)
            # Where there was nothing, another run may have published meanwhile.
            assert not (self.is_superseded(output) and self.exists(output))

    def published(
        self, job: JobModel, new: Contents, etags: dict[str, str], contents: Contents
    ) -> None:
        """Note what this run has published, and of that, what others have replaced since."""
        self.sent |= new
        for key in [*new, *_manifests(job)]:
            # A manifest is of all that lies beside it.
            folder = key.removesuffix(MANIFEST)
            told = [key] if key in new else filter(_is_in(folder), new)
            is_own = all(contents.get(each) == new[each] for each in told)
            self.etags[key] = etags[key] if is_own else "another"
        for output in job.outputs:
            is_seen = any(map(_is_in(output), self._seen))
            self.created |= set() if is_seen else {output}

    def fail(self, job: JobModel) -> None:
        """Remove what a failed job may have left in the storage."""
        for output in job.outputs:
            if self.exists(output):
                self.remove(output)

    def write(self, job: JobModel, new: Contents) -> None:
        """Write the local files of a job."""
        for output in job.folders:
            shutil.rmtree(self.path(output), ignore_errors=True)
            for key, content in new.items():
                if key.startswith(output):
                    _write(self.path(output) / key.removeprefix(output), content)
        for output in job.files:
            _write(self.path(output), new[output])

    def publish(self, job: JobModel) -> None:
        """Store each output, as after each job; all of them have the same result."""
        outputs = {self.url(output): self.path(output) for output in job.outputs}
        errors = []
        for url in outputs:
            try:
                self.run.publish(JobOutputs(outputs, []), url)
            except S3FuseError as error:
                errors.append(error)
        if errors:
            assert len(errors) == len(outputs)
            assert len(set(map(str, errors))) == 1
            raise errors[0]


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@dataclass(frozen=True)
class Event:
    """What happens before one of the requests of a publication.

    Attributes
    ----------
    kind : str
        ``kill`` this run, let another one ``plan`` or publish (``rival``), or let somebody
        put an object (``foreign``).
    number : int
        The requests that come before.
    new : Contents
        What the other run publishes.
    key : str
        The object that somebody puts.
    is_fresh : bool
        Whether the other run plans in this moment, and not before.
    """

    kind: str
    number: int
    new: Contents
    key: str
    is_fresh: bool


#: Contents of a few letters, so that the same comes again.
TEXTS = st.sampled_from([b"", b"a", b"b", b"c"])


@st.composite
def contents_of(draw: st.DrawFn, job: JobModel) -> Contents:
    """The outputs of a job."""
    new = {output: draw(TEXTS) for output in job.files}
    for folder in job.folders:
        inner = draw(st.lists(st.sampled_from(INNER), min_size=1, unique=True))
        new |= {folder + name: draw(TEXTS) for name in inner}
    return new


@st.composite
def publications(draw: st.DrawFn, *kinds: str) -> tuple[JobModel, Contents, Event | None]:
    """A job, what it writes, and what happens meanwhile: one of some kinds, or nothing."""
    job = draw(st.sampled_from(JOBS))
    new = draw(contents_of(job))
    if not kinds:
        return job, new, None
    event = Event(
        kind=draw(st.sampled_from(kinds)),
        number=draw(st.integers(0, MOST_REQUESTS[job.name])),
        new=draw(st.just(new) | contents_of(job)),
        key=draw(st.sampled_from([*job.files, *(key for key in FOREIGN if job.folder_of(key))])),
        is_fresh=draw(st.booleans()),
    )
    return job, new, event


class Clock:
    """The clock of a store, which stands still."""

    def __init__(self) -> None:
        self.set()

    def set(self) -> None:
        """Set it to the time of now, as sequences are over sooner than it says."""
        self.now = time.time()

    def __call__(self) -> float:
        return self.now

    def passes(self, seconds: int) -> None:
        self.now += seconds


class RealClock:
    """The clock of a real server, for which a test does not wait."""

    def set(self) -> None:
        """Do nothing."""

    def passes(self, seconds: int) -> None:
        """Do nothing."""


SLOTS = st.sampled_from(["first", "second"])


class Sequences(RuleBasedStateMachine):
    """Two runs, other people, and the bucket that they share."""

    connection: Connection
    #: The clock of the store.
    clock: Clock | RealClock
    #: Where the runs have their directories.
    folder: Path

    def __init__(self) -> None:
        super().__init__()
        self.place = Path(tempfile.mkdtemp(dir=self.folder))
        self.bucket = f"model-{uuid.uuid4().hex[:12]}"
        self.store = Store(self.connection)
        self.store.call("create_bucket", S3Url(self.bucket), "create")
        self.clock.set()
        self.model = BucketModel()
        self.runs: dict[str, Snakemake] = {}
        self.begun: list[Snakemake] = []
        self.foreign_contents = (f"foreign {number}".encode() for number in itertools.count())

    # The bucket, apart from the code under test.

    def contents(self) -> Contents:
        if isinstance(self.store.filesystem, MemoryStore):
            return self.store.filesystem.contents(self.bucket)
        return {key: self.store.filesystem.cat_file(f"{self.bucket}/{key}") for key in self.etags()}

    def etags(self) -> dict[str, str]:
        if isinstance(self.store.filesystem, MemoryStore):
            return self.store.filesystem.etags(self.bucket)
        page = self.store.call("list_objects_v2", S3Url(self.bucket), "list")
        return {each["Key"]: each["ETag"].strip('"') for each in page.get("Contents", ())}

    # What happens.

    @rule(slot=SLOTS)
    def plan(self, slot: str) -> None:
        """A run from a fresh clone takes the place of the one before."""
        self.do_plan(slot)

    def do_plan(self, slot: str) -> Snakemake:
        self.runs[slot] = snakemake = self.fresh()
        snakemake.start_jobs()
        return snakemake

    def fresh(self) -> Snakemake:
        """Begin a run, and let it plan."""
        os.environ.pop(VARIABLE, None)
        options = SessionOptions(mount_root=self.place / "run", cache_dir=self.place / "cache")
        clone = self.place / f"clone-{len(self.begun)}"
        snakemake = Snakemake(Run(self.connection, clone, options), self.bucket, self.etags())
        self.begun.append(snakemake)
        snakemake.plan(self.contents())
        for job in JOBS:
            there = {o: snakemake.there[o] for o in job.outputs if o in snakemake.there}
            self.model.planned(job, there)
        return snakemake

    @rule(slot=SLOTS, publication=publications())
    def publish(self, slot: str, publication: tuple[JobModel, Contents, Event | None]) -> None:
        """A run publishes what it has planned some time before."""
        self.do_publish(self.planned(slot), *publication)

    @rule(slot=SLOTS, publication=publications("plan", "rival", "foreign"))
    def publish_meanwhile(
        self, slot: str, publication: tuple[JobModel, Contents, Event | None]
    ) -> None:
        """The same, while something else happens."""
        self.do_publish(self.planned(slot), *publication)

    @rule(slot=SLOTS, publication=publications("kill"))
    def kill(self, slot: str, publication: tuple[JobModel, Contents, Event | None]) -> None:
        """A run is killed while it publishes what it has planned some time before."""
        self.do_publish(self.planned(slot), *publication)

    @rule(publication=publications("kill"))
    def kill_at_once(self, publication: tuple[JobModel, Contents, Event | None]) -> None:
        """A run is killed while it publishes what it has planned just now."""
        self.do_publish(self.fresh(), *publication)

    @rule(publication=publications())
    def make(self, publication: tuple[JobModel, Contents, Event | None]) -> None:
        """A run from a fresh clone makes a job, whatever has happened before."""
        job, new, _ = publication
        may_refuse = self.is_doubtful(job, new)
        assert self.do_publish(self.fresh(), *publication) or may_refuse

    def is_doubtful(self, job: JobModel, new: Contents) -> bool:
        """Whether a file of a folder is to replace what may be somebody else's.

        That is an object of which no manifest tells, or only one of a publication that
        has not ended.
        """
        now = self.contents()
        told = set()
        for folder in job.folders:
            manifest = json.loads(now.get(f"{folder}{MANIFEST}", "{}"))
            if not manifest.get("pending"):
                told |= {folder + key for key in manifest.get("objects", ())}
        others = (self.model.unknown | self.model.foreign) - told
        return any(job.folder_of(key) for key in others & new.keys())

    def planned(self, slot: str) -> Snakemake:
        return self.runs.get(slot) or self.do_plan(slot)

    def do_publish(
        self, snakemake: Snakemake, job: JobModel, new: Contents, event: Event | None = None
    ) -> bool:
        """Let a job succeed and publish its outputs; tell whether that succeeded."""
        self.start(snakemake, job)
        now, etags = self.contents(), self.etags()
        replaced = [key for key in job.files if snakemake.differs(etags, key)]
        late = [m for m in _manifests(job) if snakemake.etags.get(m) != etags.get(m)]
        is_late = any(etags.get(m) not in snakemake.claims for m in late)
        # Where somebody has published the same, there is nothing to lose.
        lost = [key for key in replaced if now[key] not in (new[key], snakemake.halves.get(key))]
        must_fail = is_late or lost != []
        protected = set(now if is_late else lost)
        may_refuse = self.is_doubtful(job, new)
        snakemake.write(job, new)
        happened: dict[str, Any] = {}
        error: S3FuseError | None = None

        def happens() -> None:
            assert event
            happened["now"] = now = self.contents()
            happened["etags"] = self.etags()
            self.model.claimed(job, new, now)
            if event.kind == "kill":
                happened["notes"] = self.notes()
                snakemake.store.die()
            self.model.began(job, new, now, protected)
            if event.kind == "plan":
                self.fresh()
            elif event.kind == "foreign":
                happened["key"] = event.key
                self.put(event.key, next(self.foreign_contents))
            else:
                others = [run for run in self.runs.values() if run is not snakemake]
                rival = self.fresh() if event.is_fresh or not others else others[0]
                happened["rival"] = self.do_publish(rival, job, event.new)

        if event:
            # Between the look at an object and its deletion, which no store makes one step,
            # another run may replace it. The folder is then made again.
            spared = ["delete_object"] if event.kind == "rival" else []
            snakemake.store.before_request(event.number, happens, spared)
        try:
            snakemake.publish(job)
        except Killed:
            self.left_notes(happened["notes"])
            self.runs = {slot: run for slot, run in self.runs.items() if run is not snakemake}
            self.model.began(job, new, self.contents(), protected)
            return False
        except S3FuseError as caught:
            error = caught
        finally:
            snakemake.store.before_request(0, lambda: None)
        if error is None:
            # Unless another run has just published the same.
            is_same = bool(happened.get("rival") and event and event.new == new and not is_late)
            assert not must_fail or is_same, "what somebody has replaced is lost"
            self.succeeded(job, new, happened)
            # Another run may have published the same after this one, in another form.
            sent = {k: v for k, v in happened.get("now", {}).items() if k in new}
            is_sent = sent == new and not _is_pending(job, happened["now"])
            own = happened["etags"] if happened.get("rival") and is_sent else self.etags()
            snakemake.published(job, new, own, self.contents())
            return True
        self.failed(job, new, error, protected, may_refuse)
        snakemake.halves |= new
        snakemake.claims |= {e for key, e in self.etags().items() if key in _manifests(job)}
        if not event and "Some outputs" not in str(error):
            # Manifests included.
            assert self.etags() == etags
        is_disturbed = "rival" in happened or happened.get("key") in new
        assert must_fail or replaced or late or is_disturbed or may_refuse, error
        has_one = late or may_refuse or happened.get("rival") is not False
        assert must_fail or replaced or has_one, "both runs failed"
        before = self.etags()
        snakemake.fail(job)
        assert self.etags() == before
        return False

    def start(self, snakemake: Snakemake, job: JobModel) -> None:
        """Start a job, before which a run deletes only what it has itself created."""
        before, contents = self.etags(), self.contents()
        snakemake.start(job)
        after = self.etags()
        gone = [o for o in job.outputs if any(map(_is_in(o), before.keys() - after.keys()))]
        assert snakemake.created.issuperset(gone)
        snakemake.created -= set(job.outputs)
        if gone:
            self.model.deleted(job, gone, self.contents())
            for key in before.keys() - after.keys():
                # What others have replaced, and then by the same, has the same ETag.
                is_same = contents[key] == snakemake.sent.get(key)
                assert snakemake.etags.pop(key) == before[key] or is_same

    def failed(
        self,
        job: JobModel,
        new: Contents,
        error: S3FuseError,
        protected: set[str],
        may_refuse: bool,
    ) -> None:
        """Compare what a run leaves that could not publish."""
        assert isinstance(error, PublishError), repr(error)
        assert "\n" not in str(error)
        now = self.contents()
        if "Some outputs of the same job have been replaced before" in str(error):
            assert len(new) > 1 or job.folders
            self.model.began(job, new, now, protected)
        else:
            is_refused = may_refuse and "may be somebody else's" in str(error)
            assert is_refused or "start the run again" in str(error)
            self.model.unchanged(now)

    def succeeded(self, job: JobModel, new: Contents, happened: dict[str, Any]) -> None:
        """Compare what a run leaves that has published."""
        now, key = self.contents(), happened.get("key")
        sent = {k: v for k, v in happened.get("now", {}).items() if k in new}
        if happened.get("rival") and sent == new and self.model.is_whole(job):
            # The other run has planned and published when all of this one was there.
            self.model.unchanged(now)
            return
        if key in new:
            # Somebody has put an object after this run had made its own visible.
            assert sent[key] == new[key]
            content, now[key] = now[key], new[key]
            self.model.published(job, new, now)
            self.model.put_foreign(key, content)
            return
        has_rival_lost = happened.get("rival") is False
        self.model.published(job, new, now, has_rival_lost=has_rival_lost)

    @rule(slot=SLOTS, job=st.sampled_from(JOBS))
    def fail(self, slot: str, job: JobModel) -> None:
        """A job fails, so that nothing is published."""
        snakemake = self.planned(slot)
        self.start(snakemake, job)
        before = self.etags()
        snakemake.fail(job)
        assert self.etags() == before

    @rule(job=st.sampled_from(JOBS), number=st.none() | st.integers(0, 5))
    def delete_all_output(self, job: JobModel, number: int | None) -> None:
        """Outputs are deleted, which happens while Snakemake plans."""
        snakemake = self.fresh()
        there = [output for output in job.outputs if output in snakemake.there]
        self.delete(snakemake, job, there, number)

    @rule(slot=SLOTS, job=st.sampled_from(JOBS))
    def touch(self, slot: str, job: JobModel) -> None:
        """Outputs get the time of now, if they are what was planned with."""
        snakemake = self.planned(slot)
        for output in job.outputs:
            if output in snakemake.there and not snakemake.is_superseded(output):
                self.do_touch(snakemake, output)

    def do_touch(self, snakemake: Snakemake, output: str) -> None:
        """Touch an output, which fails if it is not what the run knows."""
        before, keys = self.etags(), [output]
        if output.endswith("/"):
            keys = [f"{output}{MANIFEST}"]
            if text := self.contents().get(keys[0]):
                keys += [output + key for key in json.loads(text)["objects"]]
        is_as_planned = all(key in before and not snakemake.differs(before, key) for key in keys)
        try:
            snakemake.run.touch(snakemake.url(output), snakemake.path(output))
        except S3FuseError as error:
            assert not is_as_planned, error  # noqa: PT017
            assert self.etags() == before
        else:
            assert is_as_planned
            snakemake.etags[keys[0]] = self.etags()[keys[0]]
        self.model.unchanged(self.contents())

    def delete(
        self, snakemake: Snakemake, job: JobModel, outputs: list[str], number: int | None
    ) -> None:
        """Delete outputs; the run may be killed before one of its requests."""
        if number is not None:
            snakemake.store.before_request(number, snakemake.store.die)
        try:
            for output in outputs:
                snakemake.remove(output)
        except Killed:
            self.model.half_deleted(job, self.contents())
        else:
            self.model.deleted(job, outputs, self.contents())

    @rule(key=st.sampled_from(FOREIGN))
    def put_foreign(self, key: str) -> None:
        """Somebody puts an object of their own."""
        self.put(key, next(self.foreign_contents))

    @precondition(lambda self: self.model.objects)
    @rule(data=st.data())
    def replace(self, data: st.DataObject) -> None:
        """Somebody replaces an object, or writes one in the place of an output."""
        keys = {*self.model.objects, *(key for job in JOBS for key in job.files)}
        self.put(data.draw(st.sampled_from(sorted(keys))), next(self.foreign_contents))

    @precondition(lambda self: self.model.objects)
    @rule(data=st.data())
    def delete_object(self, data: st.DataObject) -> None:
        """Somebody deletes an object or a manifest."""
        manifests = [key for key in self.etags() if key.endswith(MANIFEST)]
        key = data.draw(st.sampled_from(sorted([*self.model.objects, *manifests])))
        self.store.remove(S3Url(self.bucket, key))
        self.model.delete_foreign(key)

    def put(self, key: str, content: bytes) -> None:
        self.store.call("put_object", S3Url(self.bucket, key), "write", Key=key, Body=content)
        self.model.put_foreign(key, content)

    @rule(seconds=st.integers(1, 2))
    def time_passes(self, seconds: int) -> None:
        self.clock.passes(seconds)

    def heal(self, contents: Callable[[JobModel], Contents]) -> None:
        """Let a run from a fresh clone make all jobs, whatever has happened before."""
        snakemake = self.fresh()
        assert not self.store.uploads(S3Url(self.bucket)), "parts of an upload are left"
        for job in JOBS:
            assert self.do_publish(snakemake, job, contents(job))
        self.fresh()

    # What a killed run leaves on the node.

    def notes(self) -> dict[Path, str]:
        return {path: path.read_text() for path in self.place.glob("run/*/*.json")}

    def left_notes(self, notes: dict[Path, str]) -> None:
        """Put the notes of a killed run back, as those of a process that is gone.

        They get other names: what the run has in memory removes its own when it is collected.
        """
        for path, text in notes.items():
            if not path.name.startswith("left-"):
                content = json.loads(text)
                content["process"]["started"] = 0
                path.with_name(f"left-{path.name}").write_text(json.dumps(content))

    def teardown(self) -> None:
        try:
            if sys.exception() is None:
                self.heal(last_contents)
                keys = sorted(key for key in self.etags() if is_internal(key))
                assert keys == sorted(key for job in JOBS for key in _manifests(job))
        finally:
            for each in self.begun:
                each.run.session.close()
            shutil.rmtree(self.place, ignore_errors=True)


def _is_in(output: str) -> Callable[[str], bool]:
    """Tell of keys whether they are an output or lie in it."""
    return lambda key: key == output or (output.endswith("/") and key.startswith(output))


def last_contents(job: JobModel) -> Contents:
    """What the last run of a sequence makes."""
    return dict.fromkeys([*job.files, *(f"{folder}last" for folder in job.folders)], b"last")


def _is_pending(job: JobModel, now: Contents) -> bool:
    """Tell whether a folder is about to change."""
    return any(json.loads(now[key]).get("pending") for key in _manifests(job) if key in now)


def _manifests(job: JobModel) -> list[str]:
    return [f"{folder}{MANIFEST}" for folder in job.folders]


class NoCollector:
    """Leaves the garbage collector of this process alone."""

    def restore(self) -> None:
        """Do nothing."""


@contextmanager
def simulated(folder: Path, connection: Connection, clock: Clock | RealClock) -> Iterator[None]:
    """Let runs be simulated in this process, one request after the other."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("s3fuse.session.Store", WatchedStore)
        # The order of requests is to be the same each time.
        patch.setattr("s3fuse.s3.parts.CONCURRENCY", 1)
        # It would keep all that there ever was in memory.
        patch.setattr("snakemake_storage_plugin_s3fuse.run.RelaxedCollector", NoCollector)
        Sequences.folder, Sequences.connection, Sequences.clock = folder, connection, clock
        yield


def run_sequences(number: int, steps: int = 15) -> None:
    Sequences.TestCase.settings = settings(
        max_examples=number,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=True,
        database=None,
        # Making a sequence shorter takes minutes; as it is, it has a page.
        phases=[Phase.generate],
    )
    Sequences.TestCase().runTest()


def run_in_memory(folder: Path, number: int) -> None:
    clock = Clock()
    with in_memory(clock) as connection, simulated(folder, connection, clock):
        run_sequences(number)


def test_some_sequences(tmp_path: Path) -> None:
    run_in_memory(tmp_path, 8)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_no_sequence_loses_an_output(tmp_path: Path, tries: range) -> None:
    run_in_memory(tmp_path, 50 * len(tries))


def test_a_folder_that_another_run_has_replaced_is_not_touched(tmp_path: Path) -> None:
    (job,) = [job for job in JOBS if job.name == "folder"]
    clock = Clock()
    with in_memory(clock) as connection, simulated(tmp_path, connection, clock):
        sequence = Sequences()
        sequence.heal(last_contents)
        sequence.do_plan("first")
        sequence.do_publish(sequence.do_plan("second"), job, {"tas/a": b"a"})
        with pytest.raises(PublishError, match="so it was not touched"):
            sequence.runs["first"].run.touch(
                sequence.runs["first"].url("tas/"), sequence.runs["first"].path("tas/")
            )
        sequence.teardown()


def test_a_folder_that_another_run_has_replaced_is_not_deleted(tmp_path: Path) -> None:
    (job,) = [job for job in JOBS if job.name == "folder"]
    clock = Clock()
    with in_memory(clock) as connection, simulated(tmp_path, connection, clock):
        sequence = Sequences()
        first = sequence.do_plan("first")
        # Where there was nothing before, so this run may delete it.
        sequence.do_publish(first, job, {"tas/a": b"a"})
        sequence.do_publish(sequence.do_plan("second"), job, {"tas/a": b"b", "tas/b": b"b"})
        before = sequence.etags()
        first.remove("tas/")
        assert sequence.etags() == before
        sequence.teardown()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_sequences_by_http(tmp_path: Path, tries: range) -> None:
    folder = tmp_path / "runs"
    folder.mkdir()
    with conditional(tmp_path / "data") as connection, simulated(folder, connection, RealClock()):
        run_sequences(max(1, len(tries) // 2))


@pytest.mark.slow
def test_the_store_in_memory_is_as_others() -> None:
    with in_memory(time.time) as connection:
        found = try_capabilities(connection)
    conditions = [name for name in found.names() if name.startswith(("put_", "complete_"))]
    assert all(getattr(found, name) for name in conditions)
    assert found.content_md5_checked
    assert found.empty_part
    assert found.abort
    assert found.etag_of_one_part == "md5-1"
