"""What a job was given to read is still that when it ends, or its outputs are kept back."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from s3fuse.errors import ObjectChanged
from s3fuse.s3.objects import ObjectInfo
from s3fuse.s3.store import Store
from s3fuse.urls import S3Url
from snakemake_storage_plugin_s3fuse.job_inputs import JobInputs
from snakemake_storage_plugin_s3fuse.versions import Versions

URL = S3Url("bucket", "folder/x")
OUTPUT = S3Url("bucket", "output")
OLD = ObjectInfo("folder/x", 7, 1000.0, "old")
NEW = ObjectInfo("folder/x", 7, 2000.0, "new")


class CountingStore:
    """Holds one object, and counts the questions."""

    def __init__(self) -> None:
        self.info: ObjectInfo | None = OLD
        self.heads = 0

    def head(self, url: S3Url) -> ObjectInfo | None:
        self.heads += 1
        return self.info


class Plan:
    """A run that has planned with the old version."""

    def planned(self, url: S3Url) -> ObjectInfo | None:
        return OLD

    known = planned


@pytest.fixture
def store() -> CountingStore:
    return CountingStore()


@pytest.fixture
def inputs(store: CountingStore) -> JobInputs:
    return JobInputs(cast(Store, store), cast(Versions, Plan()))


@pytest.fixture
def link(tmp_path: Path) -> Path:
    path = tmp_path / "link"
    path.symlink_to("elsewhere")
    return path


def copy(path: Path, content: str = "content") -> Path:
    """Write a copy of an object, with its time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    os.utime(path, (OLD.mtime, OLD.mtime))
    return path


def test_a_linked_input_that_was_replaced_keeps_the_output_back(
    inputs: JobInputs, store: CountingStore, link: Path
) -> None:
    inputs.given(URL, OLD, link)
    inputs.refuse_if_changed(OUTPUT, [(URL, link)])
    for now in (NEW, None):
        store.info = now
        with pytest.raises(ObjectChanged, match="replaced while a job read it"):
            inputs.refuse_if_changed(OUTPUT, [(URL, link)])


def test_a_copied_input_may_be_replaced_later(
    inputs: JobInputs, store: CountingStore, tmp_path: Path
) -> None:
    path = copy(tmp_path / "x")
    inputs.given(URL, OLD, path)
    store.info = NEW
    inputs.refuse_if_changed(OUTPUT, [(URL, path)])
    assert store.heads == 0


@pytest.mark.parametrize(("seconds", "is_known"), [(0, True), (1, False)])
def test_a_link_of_another_process_is_known_by_its_time(
    inputs: JobInputs, link: Path, seconds: int, is_known: bool
) -> None:
    time = OLD.mtime + seconds
    os.utime(link, (time, time), follow_symlinks=False)
    if is_known:
        inputs.refuse_if_changed(OUTPUT, [(URL, link)])
    else:
        with pytest.raises(ObjectChanged):
            inputs.refuse_if_changed(OUTPUT, [(URL, link)])


EDITS: dict[str, Callable[[Path], object]] = {
    "other bytes": lambda folder: (folder / "x").write_text("CONTENT"),
    "more bytes": lambda folder: copy(folder / "x", "content and more"),
    "another file": lambda folder: (folder / "deep/y").write_text(""),
    "a file less": lambda folder: (folder / "x").unlink(),
    "a link": lambda folder: (folder / "y").symlink_to("x"),
}


@pytest.mark.parametrize("edit", EDITS)
def test_a_copied_folder_that_a_job_has_changed_keeps_the_output_back(
    inputs: JobInputs, tmp_path: Path, edit: str
) -> None:
    folder, path = S3Url("bucket", "folder/"), tmp_path / "folder"
    copy(path / "x")
    copy(path / "deep/x")
    infos = [OLD, ObjectInfo("folder/deep/x", 7, OLD.mtime, "old")]
    inputs.given_folder(folder, infos, path)
    inputs.refuse_if_changed(OUTPUT, [(folder, path)])
    EDITS[edit](path)
    with pytest.raises(ObjectChanged, match="The local copy of s3://bucket/folder/ was changed"):
        inputs.refuse_if_changed(OUTPUT, [(folder, path)])
    # The next job does not get it.
    assert not path.exists()
