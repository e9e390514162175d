"""Where the answer about an object comes from, and what a run refuses."""

from __future__ import annotations

import os
from pathlib import Path
from typing import cast

import pytest

from s3fuse.errors import ObjectChanged, RunDirError
from s3fuse.s3.connection import Connection
from s3fuse.s3.listings import Listings
from s3fuse.s3.objects import Listing, ObjectInfo
from s3fuse.s3.store import Store
from s3fuse.urls import S3Url
from snakemake_storage_plugin_s3fuse.plan import Plan
from snakemake_storage_plugin_s3fuse.versions import Versions
from snakemake_storage_plugin_s3fuse.workflow_state import WorkflowState

URL = S3Url("bucket", "folder/x")
PATH = Path("bucket/folder/x")
OLD = ObjectInfo("folder/x", 1, 1000.0, "old")
NEW = ObjectInfo("folder/x", 2, 2000.0, "new")


class CountingStore:
    """Holds one object, and counts the questions."""

    def __init__(self) -> None:
        self.info: ObjectInfo | None = OLD
        self.heads = self.lists = 0

    def head(self, url: S3Url) -> ObjectInfo | None:
        self.heads += 1
        return self.info

    def list(self, url: S3Url, *, recursive: bool = False) -> Listing:
        self.lists += 1
        return Listing({self.info.key: self.info} if self.info else {}, frozenset())

    def has_objects(self, url: S3Url) -> bool:
        return self.info is not None


class Stage(WorkflowState):
    """Snakemake's part, as a test sets it."""

    is_planning = True
    runs_here = False
    writes = False

    def may_change(self, path: Path) -> bool:
        return self.writes

    def is_output(self, path: Path) -> bool:
        return self.writes


@pytest.fixture
def store() -> CountingStore:
    return CountingStore()


@pytest.fixture
def stage() -> Stage:
    return Stage()


@pytest.fixture
def versions(store: CountingStore, stage: Stage, tmp_path: Path) -> Versions:
    real = cast(Store, store)
    plan = Plan(Connection(), tmp_path)
    return Versions(real, Listings(real), stage, Path("local"), plan)


def test_planning_lists_a_folder_once(versions: Versions, store: CountingStore) -> None:
    for name in "xyz":
        versions.current(S3Url("bucket", f"folder/{name}"), PATH)
    assert (store.lists, store.heads) == (1, 0)
    assert versions.planned(URL) == OLD


@pytest.mark.parametrize(
    ("writes", "runs_here", "lists", "heads"),
    [
        # No job writes it: the listing of the plan stays valid.
        (False, False, 1, 0),
        # Jobs of this process write it, so this process knows.
        (True, True, 1, 0),
        # Jobs on other nodes write it, so only the store knows.
        (True, False, 1, 2),
    ],
)
def test_once_jobs_run_the_store_is_asked_only_where_others_write(
    versions: Versions,
    store: CountingStore,
    stage: Stage,
    writes: bool,
    runs_here: bool,
    lists: int,
    heads: int,
) -> None:
    versions.current(URL, PATH)
    stage.is_planning, stage.writes, stage.runs_here = False, writes, runs_here
    assert (versions.at_once(URL, PATH) == OLD) == (heads == 0)
    assert [versions.current(URL, PATH) for _ in range(2)] == [OLD, OLD]
    assert (store.lists, store.heads) == (lists, heads)


def test_what_nobody_writes_is_looked_up_once(
    versions: Versions, store: CountingStore, stage: Stage
) -> None:
    stage.is_planning = False
    assert versions.at_once(URL, PATH) is None
    assert [versions.current(URL, PATH) for _ in range(3)] == [OLD] * 3
    assert (store.lists, store.heads) == (0, 1)


def test_a_folder_stays_as_it_was_planned(
    versions: Versions, store: CountingStore, stage: Stage
) -> None:
    folder = URL.parent
    planned = versions.folder(folder, PATH)
    stage.is_planning = False
    store.info = NEW
    again = versions.folder(folder, PATH)
    assert planned == again
    assert planned
    assert planned.infos == [OLD]
    # But with what this run has published in it.
    versions.published(URL, [NEW])
    own = versions.folder(folder, PATH)
    assert own
    assert own.infos == [NEW]


def test_a_folder_that_a_rule_writes_is_what_it_is_now(
    versions: Versions, store: CountingStore, stage: Stage
) -> None:
    versions.folder(URL.parent, PATH)
    stage.is_planning, stage.writes = False, True
    store.info = NEW
    versions.folder(URL.parent, PATH)
    assert store.lists == 2


def test_a_published_version_is_the_current_one(
    versions: Versions, store: CountingStore, stage: Stage
) -> None:
    stage.is_planning = False
    versions.published(URL, [NEW])
    assert versions.current(URL, PATH) == NEW
    assert versions.at_once(URL, PATH) == NEW
    versions.removed(URL)
    assert versions.current(URL, PATH) is None
    assert versions.at_once(URL, PATH) is None
    assert store.heads == 0


@pytest.mark.parametrize("was_there", [True, False])
def test_an_output_is_created_where_there_was_none(
    versions: Versions, store: CountingStore, was_there: bool
) -> None:
    store.info = OLD if was_there else None
    versions.current(URL, PATH)
    versions.published(URL, [NEW])
    assert versions.is_created(URL) is not was_there


def test_a_superseded_output_is_replaced_and_not_created(versions: Versions) -> None:
    versions.supersede(URL, "old")
    assert versions.is_superseded(URL)
    versions.published(URL, [NEW])
    assert not versions.is_superseded(URL)
    assert not versions.is_created(URL)


def test_a_replaced_input_is_refused_unless_a_rule_writes_it(
    versions: Versions, stage: Stage
) -> None:
    versions.current(URL, PATH)
    versions.refuse_if_changed(URL, PATH, OLD)
    with pytest.raises(ObjectChanged, match="replaced after this run was planned"):
        versions.refuse_if_changed(URL, PATH, NEW)
    stage.writes = True
    versions.refuse_if_changed(URL, PATH, NEW)


def test_a_job_elsewhere_goes_on_with_what_was_planned(
    versions: Versions, store: CountingStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variable = Plan(Connection(), tmp_path).variable
    monkeypatch.setenv(variable, f"{os.getpid() + 1}:/of/a/run/around")
    monkeypatch.setattr(Stage, "sends_jobs", True)
    folder = S3Url("bucket", "folder/")
    assert versions.exists(URL, PATH)
    assert versions.folder(folder, PATH.parent)
    # Another storage block with the same store.
    Plan(Connection(), tmp_path).write(S3Url("bucket", "other"), [OLD])
    assert len(os.environ[variable].split(os.pathsep)) == 3
    assert "around" not in os.environ[variable]
    store.info = NEW

    def in_job() -> Versions:
        job = Stage()
        monkeypatch.setattr(Stage, "is_remote", True)
        monkeypatch.setattr(Stage, "sends_jobs", False)
        real = cast(Store, store)
        plan = Plan(Connection(), tmp_path / "elsewhere")
        return Versions(real, Listings(real), job, Path("local"), plan)

    for is_planning in (True, False):
        monkeypatch.setattr(Stage, "is_planning", is_planning)
        job = in_job()
        assert job.current(URL, PATH) == OLD
        assert job.planned(S3Url("bucket", "other")) == OLD
        found = job.folder(folder, PATH.parent)
        assert found
        assert found.infos == [OLD]
    # Where the file is not there, or was cut.
    for content in (None, '{"url": "s3://buck'):
        path = tmp_path / "plan"
        monkeypatch.setenv(variable, f"1:{path}")
        if content:
            path.write_text(content)
        assert in_job().current(URL, PATH) == NEW
    with pytest.raises(RunDirError, match=r"cannot be written to .*elsewhere: No such file"):
        Plan(Connection(), tmp_path / "elsewhere").write(URL, [OLD])


def test_a_folder_into_which_rules_write_is_not_planned(
    versions: Versions, store: CountingStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = Plan(Connection(), tmp_path)
    monkeypatch.setenv(plan.variable, "")
    monkeypatch.setattr(Stage, "sends_jobs", True)
    monkeypatch.setattr(Stage, "writes_below", lambda _, directory: directory.endswith("folder/"))
    assert versions.folder(S3Url("bucket", "folder/"), PATH.parent)
    listings = Listings(cast(Store, store))
    plan.give_to(listings)
    before = store.lists
    listings.tree(S3Url("bucket", "folder/"))
    assert store.lists == before + 1
