"""What a job was given to read is still that when it ends, or its outputs are kept back."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from s3fuse.errors import ObjectChanged
from s3fuse.gateway.failures import Failure, Failures
from s3fuse.mount.mounts import Mounts
from s3fuse.mount.record import Mount
from s3fuse.node.directories import secure_directory
from s3fuse.node.processes import Node, current_owner
from s3fuse.s3.objects import ObjectInfo
from s3fuse.urls import S3Url
from snakemake_storage_plugin_s3fuse.job_inputs import JobInputs
from snakemake_storage_plugin_s3fuse.versions import Versions

URL = S3Url("bucket", "folder/x")
OUTPUT = S3Url("bucket", "output")
OLD = ObjectInfo("folder/x", 7, 1000.0, "old")
NEW = ObjectInfo("folder/x", 7, 2000.0, "new")


class Plan:
    """A run that has planned with the old version."""

    def planned(self, url: S3Url) -> ObjectInfo | None:
        return OLD

    known = planned


@pytest.fixture
def mounts(tmp_path: Path) -> Mounts:
    return Mounts(tmp_path, tmp_path, tmp_path / "run", tmp_path / "cache")


@pytest.fixture
def mount(mounts: Mounts) -> Mount:
    """A mount of this run, as far as it lies on disk."""
    directory = secure_directory(mounts.scope_directory / "bucket-x")
    made = Mount(
        *("bucket", directory, secure_directory(mounts.cache_dir / "scope/bucket-x")),
        identity="identity",
        read_write=False,
        links=mounts.links,
        workdir=mounts.workdir,
        node=Node.here(),
        owner=current_owner(),
        session=mounts.session,
    )
    made = replace(made, cache=mounts.cache_dir / mounts.scope_directory.name / "bucket-x")
    secure_directory(made.cache)
    made.save()
    return made


@pytest.fixture
def inputs(mounts: Mounts) -> JobInputs:
    return JobInputs(mounts, cast(Versions, Plan()))


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


def test_a_mounted_input_that_could_not_be_read_keeps_the_output_back(
    inputs: JobInputs, mount: Mount, link: Path
) -> None:
    inputs.given(URL, OLD, link)
    inputs.refuse_if_changed(OUTPUT, [(URL, link)])
    failures = Failures(mount.directory)
    # Of another version, which is another run's, or another job's.
    failures.add(Failure.of_version(NEW, "It is gone."))
    inputs.refuse_if_changed(OUTPUT, [(URL, link)])
    failures.add(Failure.of_version(OLD, "It was replaced."))
    with pytest.raises(ObjectChanged, match=r"^s3://bucket/output was not published: It was rep"):
        inputs.refuse_if_changed(OUTPUT, [(URL, link)])


@pytest.mark.parametrize("url", ["s3://bucket", "s3://bucket/folder/", "s3://bucket/folder"])
def test_what_could_not_be_read_of_a_folder_keeps_the_output_back(
    inputs: JobInputs, mount: Mount, link: Path, url: str
) -> None:
    folder = S3Url.parse(url)
    inputs.given_folder(folder, [], link)
    inputs.refuse_if_changed(OUTPUT, [(folder, link)])
    Failures(mount.directory).add(
        Failure.of_version(replace(OLD, key="other/x"), "It was replaced.")
    )
    if folder.key:
        inputs.refuse_if_changed(OUTPUT, [(folder, link)])
    Failures(mount.directory).add(Failure.of_version(OLD, "It was replaced."))
    with pytest.raises(ObjectChanged, match="It was replaced"):
        inputs.refuse_if_changed(OUTPUT, [(folder, link)])


def test_a_copied_input_may_be_replaced_later(
    inputs: JobInputs, mount: Mount, tmp_path: Path
) -> None:
    path = copy(tmp_path / "x")
    inputs.given(URL, OLD, path)
    Failures(mount.directory).add(Failure.of_version(OLD, "It was replaced."))
    inputs.refuse_if_changed(OUTPUT, [(URL, path)])


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
