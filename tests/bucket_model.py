"""A model of a bucket in which jobs publish outputs, and other people do what they like.

The model knows keys, contents and who wrote them, and nothing of the code under test. It
tells which buckets are right after each thing that happens, and what a run that plans may
take for there. Where a run was killed, several buckets are right; the model then goes on
with the one that is found.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

#: How the last part of the keys begins that the project keeps for itself.
INTERNAL = ".s3fuse-"
MANIFEST = ".s3fuse-manifest.json"
COMMIT = ".s3fuse-commit-"

#: The content of all outputs of a job, by key.
Contents = dict[str, bytes]


@dataclass(frozen=True)
class JobModel:
    """A job, by the keys of its outputs; those of folders end with a slash."""

    name: str
    outputs: tuple[str, ...]

    @property
    def files(self) -> list[str]:
        return [output for output in self.outputs if not output.endswith("/")]

    @property
    def folders(self) -> list[str]:
        return [output for output in self.outputs if output.endswith("/")]

    def folder_of(self, key: str) -> str | None:
        """The folder output that an object lies in."""
        return next((folder for folder in self.folders if key.startswith(folder)), None)

    def has(self, key: str) -> bool:
        """Whether an object belongs to this job, if it is not of somebody else."""
        return key in self.files or self.folder_of(key) is not None


JOBS = (
    JobModel("file", ("one.txt",)),
    JobModel("two files", ("two/x.txt", "deep/y.txt")),
    JobModel("folder", ("tas/",)),
    JobModel("file and folder", ("mixed/x.txt", "mixed/pr/")),
)
#: Files that a job may write into a folder.
INNER = ("a", "b", "deep/c", "deep/er/d")
#: Objects of other people, in folders of jobs and around them.
FOREIGN = ("readme", "two/foreign", "tas/foreign", "tas/deep/foreign", "mixed/pr/foreign")


def is_internal(key: str) -> bool:
    return key.rpartition("/")[2].startswith(INTERNAL)


class BucketModel:
    """What the bucket holds, and may hold.

    Attributes
    ----------
    objects : dict
        The content of each object, but those that the project keeps for itself.
    foreign : set of str
        Keys of objects that somebody else wrote.
    unknown : set of str
        Keys of objects of which nobody can tell any more that a job wrote them.
    """

    def __init__(self) -> None:
        self.objects: Contents = {}
        self.foreign: set[str] = set()
        self.unknown: set[str] = set()
        # What may be there of each job: the last commit that succeeded, and those
        # that were begun since.
        self._commits: dict[JobModel, list[Contents]] = {job: [] for job in JOBS}
        # The jobs whose outputs must be found, as nothing has harmed them.
        self._whole: set[JobModel] = set()

    # What other people do.

    def put_foreign(self, key: str, content: bytes) -> None:
        self.objects[key] = content
        self.foreign.add(key)
        self.unknown.discard(key)
        for job in JOBS:
            # A folder with another object than its manifest says is made again. A file is
            # there, whoever wrote it.
            if job.folder_of(key) and any(key in commit for commit in self._commits[job]):
                self._whole.discard(job)

    def delete_foreign(self, key: str) -> None:
        """Let somebody else delete an object, or the manifest of a folder."""
        self.objects.pop(key, None)
        self.foreign.discard(key)
        self.unknown.discard(key)
        for job in JOBS:
            if key in job.files or any(key in commit for commit in self._commits[job]):
                self._whole.discard(job)
            if is_internal(key) and job.folder_of(key):
                self._whole.discard(job)
                self._disown(job)

    def _disown(self, job: JobModel) -> None:
        """Nothing tells any more who wrote the objects of a folder."""
        inside = {key for key in self.objects if job.folder_of(key)}
        self.unknown |= inside - self.foreign

    # What a run has done.

    def unchanged(self, now: Mapping[str, bytes]) -> None:
        """Nothing has changed."""
        assert self._objects(now) == self.objects

    def published(
        self,
        job: JobModel,
        new: Contents,
        now: Mapping[str, bytes],
        *,
        has_rival_lost: bool = False,
    ) -> None:
        """A job has succeeded: all of it is there, and nothing is left of what was before.

        Parameters
        ----------
        job : JobModel
            The job.
        new : Contents
            What the run has published.
        now : mapping of str to bytes
            What the bucket holds.
        has_rival_lost : bool
            Another run has failed in between. Where one of its outputs was the same, it cannot
            know that it has changed nothing, and leaves its commit record.
        """
        found = self._objects(now)
        for key in self.unknown - new.keys():
            # May be kept, as somebody else's, or deleted, as the last publication's.
            if job.has(key) and key not in found:
                del self.objects[key]
        self._forget(self.unknown - self.objects.keys())
        kept = {
            key: content
            for key, content in self.objects.items()
            if not job.folder_of(key) or key in self.foreign | self.unknown
        }
        assert found == kept | new
        records = records_of(job, now)
        assert has_rival_lost or not records, "a commit record is left"
        for folder in job.folders:
            assert_manifest(folder, new, now)
        self._commits[job] = [new]
        self._whole.add(job)
        if records:
            self._whole.discard(job)
        self.objects = found
        self._forget(new)

    def claimed(self, job: JobModel, new: Contents, now: Mapping[str, bytes]) -> None:
        """A run that publishes a job has claimed each folder before it changes the folder."""
        for folder in job.folders:
            found = part(self._objects(now), folder)
            if found != part(self.objects, folder):
                assert f"{folder}{MANIFEST}" in now, f"{folder} changes without a claim"
                manifest = json.loads(now[f"{folder}{MANIFEST}"])
                if not manifest.get("pending"):
                    assert_manifest(folder, new, now)

    def began(
        self,
        job: JobModel,
        new: Contents,
        now: Mapping[str, bytes],
        protected: Collection[str] = (),
    ) -> None:
        """A run has begun to publish a job, and is not at the end, if it will ever be.

        Each object is the old one or the new one. What a folder no longer has may be
        deleted once all of the new one is there.

        Parameters
        ----------
        job : JobModel
            The job.
        new : Contents
            What the run publishes.
        now : mapping of str to bytes
            What the bucket holds.
        protected : collection of str
            Objects that somebody has replaced since the run was planned.
        """
        found = self._objects(now)
        for key in self.objects.keys() | found.keys():
            contents = [new[key]] if key in new and key not in protected else []
            contents += [self.objects[key]] if key in self.objects else []
            if key in found:
                assert found[key] in contents, f"{key} has a content that nobody wrote"
                continue
            assert job.folder_of(key), f"{key} is lost"
            assert key not in self.foreign, f"{key}, of somebody else, was deleted"
            is_sent = found.items() >= part(new, job.folder_of(key) or "").items()
            assert key not in new, f"{key} was deleted, and is to be replaced"
            assert is_sent, f"{key} was deleted before the new folder was there"
        if found == self.objects and not records_of(job, now):
            # Nothing has begun.
            return
        changed = {key for key in new if found.get(key) != self.objects.get(key)}
        self._commits[job].append(new)
        self._whole.discard(job)
        self.objects = found
        self._forget(changed)
        self._forget((self.foreign | self.unknown) - found.keys())

    def repaired(self, job: JobModel, new: Contents, now: Mapping[str, bytes]) -> None:
        """A run has made a job again if it had to, and all of it is there.

        Other than after `published`, more than one job may have changed.
        """
        found = self._objects(now)
        others = {
            key
            for key in self.foreign | self.unknown
            if key in found and found[key] == self.objects.get(key)
        }
        replaced = self.foreign - others
        for key in replaced:
            assert any(each.has(key) for each in JOBS), f"{key} was changed"
            assert not job.has(key) or key in {*job.files, *new}, f"{key} was changed"
        ours = {k: v for k, v in found.items() if job.has(k) and k not in others}
        told = {output: part(ours, output) for output in job.outputs if output not in others}
        if ours == new:
            assert records_of(job, now) == [], "a commit record is left"
            for folder in job.folders:
                assert_manifest(folder, new, now)
            return
        assert not told or any(
            all(inside == part(commit, output) != {} for output, inside in told.items())
            for commit in self._commits[job]
        ), f"{told} is a mixture of {self._commits[job]}"

    def deleted(self, job: JobModel, outputs: Iterable[str], now: Mapping[str, bytes]) -> None:
        """Outputs that were there were deleted, and nothing of anybody else."""
        outputs = list(outputs)
        found = self._objects(now)
        for key in self.objects.keys() - found.keys():
            assert key in outputs or (job.folder_of(key) in outputs and key not in self.foreign), (
                f"{key} was deleted"
            )
        for output in outputs:
            inside = [key for key in found if key.startswith(output) and output.endswith("/")]
            assert output not in found
            assert set(inside) <= self.foreign | self.unknown, f"{inside} were left"
        self._whole.discard(job)
        self.objects = found
        self._forget((self.foreign | self.unknown) - found.keys())

    def half_deleted(self, job: JobModel, now: Mapping[str, bytes]) -> None:
        """A run was killed while it deleted outputs."""
        found = self._objects(now)
        for key in self.objects.keys() - found.keys():
            assert job.has(key), f"{key} was deleted"
            assert key not in self.foreign or key in job.files, f"{key} was deleted"
        assert found.items() <= self.objects.items()
        self._whole.discard(job)
        self.objects = found
        self._forget((self.foreign | self.unknown) - found.keys())

    # What a run that plans finds.

    def planned(self, job: JobModel, there: Mapping[str, Contents]) -> None:
        """A run has found outputs: all of them from one commit.

        Parameters
        ----------
        job : JobModel
            The job.
        there : mapping of str to Contents
            The outputs that the run takes for there, and the contents of each.
        """
        for output, contents in there.items():
            for key, content in contents.items():
                assert self.objects.get(key) == content, f"{output} is not what the bucket holds"
        # A file that somebody else has written is there, and tells nothing.
        told = {output: found for output, found in there.items() if output not in self.foreign}
        assert not told or any(
            all(found == part(commit, output) for output, found in told.items())
            for commit in self._commits[job]
        ), f"{told} is a mixture of {self._commits[job]}"
        if job in self._whole:
            assert set(there) == set(job.outputs), f"only {sorted(there)} were found"

    def is_whole(self, job: JobModel) -> bool:
        """Whether nothing has harmed the outputs of a job since it has succeeded."""
        return job in self._whole

    def _forget(self, keys: Iterable[str]) -> None:
        self.foreign -= set(keys)
        self.unknown -= set(keys)

    @staticmethod
    def _objects(now: Mapping[str, bytes]) -> Contents:
        return {key: content for key, content in now.items() if not is_internal(key)}


def part(commit: Contents, output: str) -> Contents:
    """The part of a commit that is one of its outputs."""
    return {
        key: content
        for key, content in commit.items()
        if key == output or (output.endswith("/") and key.startswith(output))
    }


def records_of(job: JobModel, now: Mapping[str, bytes]) -> list[str]:
    """Find the commit records in a bucket that are about a job."""
    found = []
    for key, content in now.items():
        if key.rpartition("/")[2].startswith(COMMIT):
            names = [url.split("/", 3)[3] for url in json.loads(content)["outputs"]]
            if set(names) & set(job.outputs):
                found.append(key)
    return found


def assert_manifest(folder: str, new: Contents, now: Mapping[str, bytes]) -> None:
    """The manifest of a folder lists what it was published with."""
    manifest = json.loads(now[f"{folder}{MANIFEST}"])
    assert not manifest.get("pending")
    sizes = {f"{folder}{key}": each["size"] for key, each in manifest["objects"].items()}
    assert sizes == {key: len(content) for key, content in part(new, folder).items()}
