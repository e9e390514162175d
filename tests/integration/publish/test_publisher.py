"""Outputs of a job: together or not at all, whatever happens in between."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from conditions_proxy import enforcing_conditions
from conftest import Bucket
from fault_proxy import Faults, Proxy
from publishing import publish_folder, publisher_of
from s3fuse.embedded_server import Server
from s3fuse.errors import AccessDenied, EndpointError, PublishError, S3FuseError
from s3fuse.publish.commit import NAME as COMMIT
from s3fuse.publish.manifest import NAME as MANIFEST
from s3fuse.publish.manifest import manifest_url
from s3fuse.publish.output import Output
from s3fuse.publish.publisher import Publisher
from s3fuse.s3.connection import Connection
from s3fuse.s3.listings import Listings
from s3fuse.s3.store import Store
from s3fuse.urls import S3Url
from snakemake_storage_plugin_s3fuse.plan import Plan
from snakemake_storage_plugin_s3fuse.versions import Versions
from snakemake_storage_plugin_s3fuse.workflow_state import WorkflowState

#: Requests that change what a bucket holds.
CHANGING = ("put_object", "complete_multipart_upload", "delete_object", "copy_object")


class Killed(BaseException):
    """The process is gone: nothing after it happens."""


class MortalStore(Store):
    """Is killed before one of its requests, and answers none after that."""

    def __init__(self, connection: Connection, requests: int) -> None:
        super().__init__(connection)
        self.requests = requests

    def call(self, method: str, *arguments: Any, **options: Any) -> dict[str, Any]:
        if method in CHANGING:
            self.requests -= 1
        if self.requests < 0:
            raise Killed
        return super().call(method, *arguments, **options)


class Planning(WorkflowState):
    """A workflow that plans, and whose rules write everything."""

    is_planning = True

    def is_output(self, path: Path) -> bool:
        return True

    def are_siblings(self, paths: Iterable[Path]) -> bool:
        return True


@pytest.fixture
def local(tmp_path: Path) -> Callable[[str, str], Path]:
    """Write a file, or the files of a directory, with some content."""

    def write(name: str, content: str) -> Path:
        path = tmp_path / "local" / content / name
        files = [path / "a", path / "deep/b", path / f"only-{content}"]
        for file in files if name.endswith("/") else [path]:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{file.name} {content}" if file.name[:4] != "only" else content)
        return path

    return write


class Job:
    """A job with some outputs, on a bucket."""

    def __init__(self, store: Store, bucket: Bucket, names: list[str], write: Any) -> None:
        self.store, self.bucket, self.names, self.write = store, bucket, names, write

    def url(self, name: str) -> S3Url:
        return self.bucket.url.child(name)

    def versions(self) -> Versions:
        """What a new run from a fresh clone plans with."""
        store = Store(self.store.connection)
        plan = Plan(store.connection, Path("unused"))
        return Versions(store, Listings(store), Planning(), Path("local"), plan)

    def there(self) -> dict[str, bool]:
        """Which outputs Snakemake would find."""
        versions = self.versions()
        return {
            name: versions.folder(self.url(name), Path(name)) is not None
            if name.endswith("/")
            else versions.current(self.url(name), Path(name)) is not None
            for name in self.names
        }

    def run(self, content: str, store: Store | None = None) -> None:
        """Plan from a fresh clone, and publish all outputs."""
        versions = self.versions()
        for name in self.names:
            # Snakemake asks for each.
            if name.endswith("/"):
                versions.folder(self.url(name), Path(name))
            else:
                versions.current(self.url(name), Path(name))
        self.publish(versions, content, store)

    def publish(
        self,
        versions: Versions,
        content: str,
        store: Store | None = None,
        publisher: Publisher | None = None,
    ) -> None:
        outputs = []
        for name in self.names:
            url, path = self.url(name), self.write(name, content)
            target = manifest_url(url) if name.endswith("/") else url
            outputs.append(Output(path, url, versions.expected(target)))
        (publisher or publisher_of(store or self.store)).publish(outputs)

    def contents(self, *, counted: bool = False) -> set[str]:
        """What the objects of the outputs tell of the job that wrote them.

        With `counted`, only those that belong to an output that is there.
        """
        bodies = self.bucket.contents()
        keys = {key for key in bodies if not key.rpartition("/")[2].startswith(".s3fuse-")}
        if counted:
            versions = self.versions()
            folders = [versions.folder(self.url(n), Path(n)) for n in self.names if n[-1] == "/"]
            inside = {info.key for folder in folders if folder for info in folder.infos}
            keys &= {*self.names, *inside}
        return {bodies[key].decode().rpartition(" ")[2] for key in keys}

    def internal(self) -> list[str]:
        keys = [key.rpartition("/")[2] for key in self.bucket.contents()]
        return sorted(key for key in keys if key.startswith(COMMIT))


SHAPES = {
    "two files": ["x", "deep/y"],
    "a folder": ["tas/"],
    "a file and a folder": ["x", "tas/"],
    "two folders": ["tas/", "pr/"],
}


@pytest.fixture(params=SHAPES, ids=str)
def job(request: pytest.FixtureRequest, store: Store, bucket: Bucket, local: Any) -> Job:
    return Job(store, bucket, SHAPES[request.param], local)


def test_published_and_replaced(job: Job) -> None:
    for content in ("1", "2"):
        job.run(content)
        assert job.contents() == {content}
        assert all(job.there().values())
        assert job.internal() == []
    folders = sum(name.endswith("/") for name in job.names)
    # Nothing of the first version is left: each folder has 3 files and a manifest.
    assert len(job.bucket.keys()) == 4 * folders + len(job.names) - folders


@pytest.mark.slow
@pytest.mark.parametrize("before", ["nothing", "old"])
def test_killed_before_any_request(job: Job, before: str) -> None:
    old: set[str] = set()
    if before == "old":
        job.run("old")
        old = {"old"}
    for requests in range(100):
        try:
            job.run("new", MortalStore(job.store.connection, requests))
        except Killed:
            contents, there = job.contents(), job.there()
            # Old, new, or known to be made again.
            if len(contents) == 1 and all(there.values()):
                assert contents in (old, {"new"})
            elif contents != old:
                assert not all(there.values()), (requests, contents, there)
            # The next run, from a fresh clone, repairs what there is to repair.
            job.run("repaired")
            assert job.contents() == {"repaired"}, requests
            assert all(job.there().values())
            if before == "old":
                job.run("old")
            else:
                for key in job.bucket.contents():
                    job.bucket.remove(key)
        else:
            assert job.contents() == {"new"}
            assert requests > 2
            return
    pytest.fail("it needs too many requests")


def test_what_is_published_after_a_cut_commit_is_no_part_of_it(
    store: Store, bucket: Bucket, local: Any
) -> None:
    job = Job(store, bucket, ["x", "y"], local)
    job.run("old")
    with pytest.raises(Killed):
        # Killed when the record and the first of both outputs are there.
        job.run("new", MortalStore(store.connection, 2))
    assert job.contents() == {"old", "new"}
    assert job.there() == {"x": False, "y": False}
    # The workflow changes: another job writes `x`, and none `y`.
    Job(store, bucket, ["x"], local).run("newer")
    assert job.there() == {"x": True, "y": False}


class RefusingStore(Store):
    """Refuses one of the requests that change something."""

    def __init__(self, connection: Connection, request: int) -> None:
        super().__init__(connection)
        self.left = request

    def call(self, method: str, *arguments: Any, **options: Any) -> dict[str, Any]:
        if method in CHANGING:
            self.left -= 1
            if self.left == -1:
                raise AccessDenied("not now")
        return super().call(method, *arguments, **options)


@pytest.mark.slow
@pytest.mark.parametrize("before", ["nothing", "old"])
def test_a_job_whose_publication_failed_may_be_tried_again(
    job: Job, before: str, honouring: Store
) -> None:
    job.store = honouring
    for request in range(100):
        if before == "old":
            job.run("old")
        store = RefusingStore(job.store.connection, request)
        publisher, versions = publisher_of(store), planned(job)
        try:
            job.publish(versions, "new", publisher=publisher)
        except S3FuseError:
            # As by `--retries`: another try of the same run, which plans nothing anew.
            job.publish(versions, "again", publisher=publisher)
            assert job.contents() == {"again"}, request
            assert all(job.there().values())
        else:
            assert job.contents() == {"new"}
            assert request > 2
            return
        for key in job.bucket.contents():
            job.bucket.remove(key)
    pytest.fail("it needs too many requests")


def test_a_refused_output_changes_nothing(
    job: Job, server: Server, proxy: Proxy, bucket: Bucket
) -> None:
    job.run("old")
    before = bucket.contents()
    last = job.url(job.names[-1]).key
    last += "only-new" if last.endswith("/") else ""
    proxy.faults = Faults(
        refuse=lambda asked: (
            "AccessDenied" if asked.method in ("PUT", "POST") and asked.key == last else None
        )
    )
    behind = Connection(proxy.endpoint_url, "us-east-1", server.access_key, server.secret_key)
    with pytest.raises(AccessDenied, match="Not allowed to write"):
        job.run("new", Store(behind))
    assert bucket.contents() == before
    assert all(not job.store.uploads(job.url(name)) for name in job.names)


def test_objects_of_others_survive_and_do_not_count(
    store: Store, bucket: Bucket, local: Any
) -> None:
    job = Job(store, bucket, ["tas/"], local)
    bucket.write("tas/foreign", "foreign")
    assert job.there() == {"tas/": False}
    job.run("1")
    job.run("2")
    assert bucket.contents()["tas/foreign"] == b"foreign"
    assert "tas/only-1" not in bucket.contents()
    versions = job.versions()
    publisher = publisher_of(store)
    folder = versions.folder(job.url("tas/"), Path("tas/"))
    assert folder
    assert "tas/foreign" not in {info.key for info in folder.infos}
    manifest = versions.expected(manifest_url(job.url("tas/")))
    assert manifest
    publisher.delete(job.url("tas/"), [manifest, *folder.infos])
    assert bucket.keys() == ["tas/foreign"]


def test_an_object_of_somebody_else_is_not_replaced_by_a_file_of_the_folder(
    store: Store, bucket: Bucket, local: Any, tmp_path: Path
) -> None:
    job = Job(store, bucket, ["tas/"], local)
    job.run("1")
    bucket.write("tas/only-2", "somebody's")
    before = bucket.contents()
    with pytest.raises(PublishError, match="tas/only-2 is in the bucket, and was no part of"):
        job.run("2")
    assert bucket.contents() == before


def test_what_a_killed_deletion_has_left_of_a_folder_is_deleted_by_the_next_run(
    store: Store, bucket: Bucket, local: Any
) -> None:
    job = Job(store, bucket, ["tas/"], local)
    job.run("1")
    versions = job.versions()
    folder, manifest = (
        versions.folder(job.url("tas/"), Path("tas/")),
        versions.expected(manifest_url(job.url("tas/"))),
    )
    assert folder
    assert manifest
    with pytest.raises(Killed):
        publisher_of(MortalStore(store.connection, 1)).delete(
            job.url("tas/"), [manifest, *folder.infos]
        )
    assert job.there() == {"tas/": False}
    job.run("2")
    assert job.contents() == {"2"}


def test_an_object_of_the_old_folder_that_somebody_has_replaced_is_not_deleted(
    store: Store, bucket: Bucket, local: Any
) -> None:
    job = Job(store, bucket, ["tas/"], local)
    job.run("1")
    bucket.write("tas/only-1", "replaced by somebody")
    assert job.there() == {"tas/": False}
    job.run("2")
    assert bucket.contents()["tas/only-1"] == b"replaced by somebody"


@pytest.fixture
def honouring(server: Server) -> Iterator[Store]:
    """A store that honours conditions on both requests that make an object visible."""
    with enforcing_conditions(server.connection) as connection:
        yield Store(connection)


class Unconditional(Store):
    """A store that ignores conditions."""

    def call(self, method: str, *arguments: Any, **options: Any) -> dict[str, Any]:
        options = {k: v for k, v in options.items() if k not in ("IfMatch", "IfNoneMatch")}
        return super().call(method, *arguments, **options)


def planned(job: Job) -> Versions:
    """What a run plans with that asks for each output."""
    versions = job.versions()
    for name in job.names:
        versions.expected(manifest_url(job.url(name)) if name.endswith("/") else job.url(name))
    return versions


@pytest.mark.parametrize("was_there", [True, False])
def test_what_another_run_has_published_is_not_replaced(
    job: Job, was_there: bool, bucket: Bucket, honouring: Store
) -> None:
    job.store = honouring
    if was_there:
        job.run("old")
    versions = planned(job)
    job.run("other")
    before = bucket.contents()
    with pytest.raises(PublishError, match="was replaced since this run was planned"):
        job.publish(versions, "new")
    assert {k: v for k, v in bucket.contents().items() if COMMIT not in k} == before


def test_no_parts_are_left_where_another_run_has_published_the_same(
    store: Store, bucket: Bucket, local: Any, honouring: Store
) -> None:
    job = Job(honouring, bucket, ["x", "deep/y"], local)
    job.run("old")
    versions = planned(job)
    job.run("new")
    job.publish(versions, "new")
    assert job.contents() == {"new"}
    assert [upload for name in job.names for upload in store.uploads(job.url(name))] == []


class Overtaken(Store):
    """Lets another run publish before the last object of a folder is sent."""

    def __init__(self, connection: Connection, other: Callable[[], None]) -> None:
        super().__init__(connection)
        self.other: Callable[[], None] | None = other

    def call(self, method: str, url: S3Url, *arguments: Any, **options: Any) -> dict[str, Any]:
        if method == "put_object" and url.key.endswith("only-new") and self.other:
            other, self.other = self.other, None
            other()
        return super().call(method, url, *arguments, **options)


def test_what_an_overtaken_run_has_put_is_deleted_by_the_next(
    bucket: Bucket, local: Any, honouring: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("s3fuse.s3.parts.CONCURRENCY", 1)
    job = Job(honouring, bucket, ["tas/"], local)
    with pytest.raises(PublishError, match="Some outputs of the same job"):
        job.run("new", Overtaken(honouring.connection, lambda: job.run("other")))
    assert "tas/only-new" in bucket.contents()
    job.run("last")
    assert job.contents() == {"last"}
    assert all(job.there().values())


@pytest.mark.slow
@pytest.mark.parametrize("was_there", [True, False])
def test_of_two_runs_one_wins_and_the_other_says_so(
    job: Job, was_there: bool, honouring: Store, tries: range
) -> None:
    job.store = honouring
    for number in tries:
        if was_there:
            job.run(f"old{number}")
        else:
            for key in job.bucket.contents():
                job.bucket.remove(key)
        plans = {content: planned(job) for content in (f"a{number}", f"b{number}")}
        with ThreadPoolExecutor(2) as pool:
            ended = {
                content: pool.submit(job.publish, plans[content], content) for content in plans
            }
        failed = {content: each.exception() for content, each in ended.items()}
        (winner,) = [content for content, error in failed.items() if error is None]
        (error,) = [error for error in failed.values() if error is not None]
        assert isinstance(error, PublishError)
        assert job.contents() == {winner}
        assert all(job.there().values())


@pytest.mark.slow
def test_without_conditions_nobody_deletes_and_a_mixture_is_made_again(
    job: Job, honouring: Store, tries: range
) -> None:
    # The proxy of the store that honours conditions also takes writes in turn.
    job.store = honouring
    for number in tries:
        job.run(f"old{number}")
        plans = {content: planned(job) for content in (f"a{number}", f"b{number}")}
        with ThreadPoolExecutor(2) as pool:
            ended = [
                pool.submit(job.publish, plan, content, Unconditional(honouring.connection))
                for content, plan in plans.items()
            ]
        errors = [each.exception() for each in ended]
        assert all(error is None or isinstance(error, S3FuseError) for error in errors)
        if len(job.contents(counted=True)) > 1 and all(job.there().values()):
            pytest.fail(f"{job.contents()} is taken for complete: {errors}")
        job.run("repaired")
        assert job.contents() == {"repaired"}
        assert all(job.there().values())


class Deaf(Store):
    """Does what it is told, and loses the first answer to each request that completes."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self.lost: set[str] = set()

    def call(self, method: str, url: S3Url, *arguments: Any, **options: Any) -> dict[str, Any]:
        answer = super().call(method, url, *arguments, **options)
        if method in CHANGING[:2] and url.key not in self.lost and COMMIT not in url.key:
            self.lost.add(url.key)
            raise EndpointError("the answer was lost")
        return answer


def test_a_lost_answer_is_no_failure(job: Job) -> None:
    for content in ("1", "2"):
        job.run(content, Deaf(job.store.connection))
        assert job.contents() == {content}
        assert job.internal() == []


def test_a_record_that_nobody_can_read_gets_a_sentence(
    store: Store, bucket: Bucket, local: Any
) -> None:
    job = Job(store, bucket, ["x", "y"], local)
    job.run("1")
    bucket.write(f"{COMMIT}1.json", "{}")
    with pytest.raises(PublishError, match="is no record of a publication; delete it"):
        job.there()
    bucket.remove(f"{COMMIT}1.json")
    bucket.write(f"tas/{MANIFEST}", "{}")
    bucket.write("tas/x", "x")
    with pytest.raises(PublishError, match="is no manifest of a folder; delete it"):
        Job(store, bucket, ["tas/"], local).there()


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    path = tmp_path / "odd"
    path.mkdir()
    (path / "file").write_text("content")
    return path


def make_fifo(path: Path) -> None:
    os.mkfifo(path / "fifo")


def make_dangling(path: Path) -> None:
    (path / "link").symlink_to("nowhere")


def make_loop(path: Path) -> None:
    (path / "deep").mkdir()
    (path / "deep/up").symlink_to(path)


def make_reserved(path: Path) -> None:
    (path / MANIFEST).write_text("{}")


def make_newline(path: Path) -> None:
    (path / "two\nlines").write_text("")


def make_bytes(path: Path) -> None:
    with open(os.fsencode(path) + b"/\xff", "w"):
        pass


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (make_fifo, "fifo cannot be stored in .*: it is neither a file nor a directory"),
        (make_dangling, "link cannot be stored in .*: No such file or directory"),
        (make_loop, "deep/up is a link to a directory that it lies in"),
        (make_reserved, "names that begin with '.s3fuse-' are reserved"),
        (make_newline, r"cannot be the key of an object"),
        (make_bytes, r"cannot be the key of an object"),
    ],
)
def test_what_cannot_be_an_object_is_refused_by_path(
    store: Store, bucket: Bucket, odd: Path, make: Callable[[Path], None], message: str
) -> None:
    make(odd)
    with pytest.raises(PublishError, match=message):
        publisher_of(store).publish([Output(odd, bucket.url.child("tas/"))])
    assert bucket.keys() == []


class LookingAtFiles(Store):
    """Notes which temporary files have a name while it sends something."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self.files: set[Path] = set()

    def call(self, method: str, *arguments: Any, **options: Any) -> dict[str, Any]:
        self.files |= {path for path in Path(tempfile.gettempdir()).iterdir() if path.is_file()}
        return super().call(method, *arguments, **options)


def test_a_killed_publication_leaves_no_temporary_file(
    server: Server, bucket: Bucket, local: Any
) -> None:
    store = LookingAtFiles(server.connection)
    url = bucket.url.child("tas/")
    *_, manifest = publish_folder(store, local("tas/", "1"), url)
    publisher_of(store).touch(manifest_url(url), manifest)
    assert store.files == set()
    head = store.call("head_object", url, "look at", Key=manifest.key)
    assert head["ContentType"] == "application/json"


def test_links_are_followed(store: Store, bucket: Bucket, odd: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere/deep").mkdir(parents=True)
    (tmp_path / "elsewhere/deep/x").write_text("x")
    (odd / "directory").symlink_to(tmp_path / "elsewhere")
    (odd / "link").symlink_to("file")
    publisher_of(store).publish([Output(odd, bucket.url.child("tas/"))])
    contents = bucket.contents()
    del contents[f"tas/{MANIFEST}"]
    assert contents == {
        "tas/file": b"content",
        "tas/link": b"content",
        "tas/directory/deep/x": b"x",
    }


def test_an_object_is_touched_with_its_metadata(store: Store, bucket: Bucket) -> None:
    bucket.write("x.nc", "content")
    url = bucket.url.child("x.nc")
    before = store.head(url)
    assert before
    touched = publisher_of(store).touch(url, before)
    assert touched.mtime >= before.mtime
    assert bucket.contents()["x.nc"] == b"content"
    with pytest.raises(S3FuseError):
        publisher_of(store).touch(bucket.url.child("gone"), before)
