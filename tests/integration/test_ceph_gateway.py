"""What a Ceph RADOS Gateway honours, as listed in the docstring of `ceph`."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from bucket_requests import DONE, OTHER_ETAG, PART, REFUSED, BucketRequests, etag_of_parts
from ceph import ceph_gateway
from conftest import wait_for
from s3fuse.embedded_server import Server
from s3fuse.errors import BucketNotFound, CredentialsError
from s3fuse.s3.store import Store

pytestmark = pytest.mark.ceph

#: The ETag of the object that an upload makes.
PARTS_ETAG = etag_of_parts(PART)

START_AND_HANG = """\
import sys, time
from pathlib import Path
from ceph import ceph_gateway
with ceph_gateway(Path(sys.argv[1])) as server:
    print(server.pid, flush=True)
    time.sleep(120)
"""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with ceph_gateway(tmp_path_factory.mktemp("ceph")) as server:
        yield server


@pytest.fixture
def bucket(gateway: Server) -> BucketRequests:
    """A new, empty bucket; requests to it are sent once."""
    return BucketRequests.new_bucket(gateway.connection)


class TestObjects:
    def test_put_head_list(self, bucket: BucketRequests) -> None:
        assert bucket.put("folder/one", b"one") == DONE
        assert bucket.put("two", b"two two") == DONE
        info = bucket.store.head(bucket.url.child("folder/one"))
        assert info is not None
        assert (info.size, info.md5) == (3, hashlib.md5(b"one").hexdigest())
        top = bucket.store.list(bucket.url)
        assert top.objects.keys() == {"two"}
        assert top.folders == {"folder/"}
        everything = bucket.store.list(bucket.url, recursive=True)
        assert everything.objects["folder/one"] == info
        assert everything.objects["two"].size == 7
        assert bucket.body("two") == b"two two"

    def test_missing(self, bucket: BucketRequests) -> None:
        assert bucket.store.head(bucket.url.child("missing")) is None
        with pytest.raises(BucketNotFound):
            bucket.store.check("missing-bucket")

    def test_delete(self, bucket: BucketRequests) -> None:
        bucket.put("key")
        assert bucket.status("delete_object", Key="key", IfMatch=OTHER_ETAG) == (204, "")
        assert bucket.store.head(bucket.url.child("key")) is None

    def test_wrong_keys(self, gateway: Server, bucket: BucketRequests) -> None:
        for wrong in ({"secret_key": "wrong"}, {"access_key": "wrong"}):
            with pytest.raises(CredentialsError):
                Store(replace(gateway.connection, **wrong)).check(bucket.url.bucket)

    def test_conditions_on_reading(self, bucket: BucketRequests) -> None:
        bucket.put("key")
        etag = bucket.etag("key")
        for method in ("get_object", "head_object"):
            assert bucket.status(method, Key="key", IfMatch=etag) == DONE
            assert bucket.status(method, Key="key", IfMatch=OTHER_ETAG)[0] == 412
            assert bucket.status(method, Key="key", IfNoneMatch=etag)[0] == 304

    def test_checksums(self, bucket: BucketRequests) -> None:
        md5, sha256 = (base64.b64encode(bytes(size)).decode() for size in (16, 32))
        assert bucket.put("key", ContentMD5=md5) == (400, "BadDigest")
        assert bucket.put("key", ChecksumSHA256=sha256) == DONE


@pytest.mark.parametrize("versioning", ["", "Suspended"])
class TestConditionalPut:
    """PutObject with conditions, where an object has one version."""

    @pytest.fixture(autouse=True)
    def _with_versioning(self, bucket: BucketRequests, versioning: str) -> None:
        if versioning:
            bucket.versioning("Enabled")
            bucket.versioning(versioning)

    def test_if_none_match_any(self, bucket: BucketRequests) -> None:
        assert bucket.put("key", b"first", IfNoneMatch="*") == DONE
        assert bucket.put("key", b"second", IfNoneMatch="*") == REFUSED
        assert bucket.body("key") == b"first"

    def test_if_match_any(self, bucket: BucketRequests) -> None:
        assert bucket.put("key", IfMatch="*") == REFUSED
        bucket.put("key")
        assert bucket.put("key", IfMatch="*") == DONE

    def test_a_quoted_etag_never_matches(self, bucket: BucketRequests) -> None:
        bucket.put("key", b"first")
        etag = bucket.etag("key")
        assert bucket.put("key", IfMatch=etag) == REFUSED
        assert bucket.put("key", IfMatch=OTHER_ETAG) == REFUSED
        assert bucket.body("key") == b"first"
        assert bucket.put("key", IfNoneMatch=etag) == DONE
        assert bucket.put("missing", IfMatch=etag) == REFUSED

    def test_an_etag_without_quotes_matches(self, bucket: BucketRequests) -> None:
        bucket.put("key", b"first")
        etag = bucket.etag("key").strip('"')
        assert bucket.put("key", IfNoneMatch=etag) == REFUSED
        assert bucket.put("key", b"second", IfMatch=etag) == DONE
        assert bucket.put("key", b"third", IfMatch=etag) == REFUSED
        assert bucket.body("key") == b"second"
        assert bucket.put("missing", IfMatch=etag) == REFUSED


class TestRaces:
    def test_one_of_many_creates(self, bucket: BucketRequests) -> None:
        answers = _put_concurrently(bucket, IfNoneMatch="*")
        assert sorted(answers) == [DONE] + 7 * [REFUSED]

    def test_one_of_many_replaces(self, bucket: BucketRequests) -> None:
        bucket.put("key", b"first")
        answers = _put_concurrently(bucket, IfMatch=bucket.etag("key").strip('"'))
        assert answers.count(DONE) == 1
        assert set(answers) <= {DONE, REFUSED, (500, "UnknownError")}


def _put_concurrently(bucket: BucketRequests, **conditions: str) -> list[tuple[int, str]]:
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda n: bucket.put("key", b"%d" % n, **conditions), range(8)))


class TestVersions:
    @pytest.fixture(autouse=True)
    def _with_versioning(self, bucket: BucketRequests) -> None:
        bucket.versioning("Enabled")

    def test_versions_are_kept(self, bucket: BucketRequests) -> None:
        versions = [bucket.call("put_object", Key="key", Body=b"%d" % n) for n in range(3)]
        assert bucket.body("key") == b"2"
        bucket.store.remove(bucket.url.child("key"))
        assert bucket.store.head(bucket.url.child("key")) is None
        listed = bucket.call("list_object_versions")
        ids = [version["VersionId"] for version in versions]
        assert [version["VersionId"] for version in listed["Versions"]] == ids[::-1]
        assert [marker["IsLatest"] for marker in listed["DeleteMarkers"]] == [True]
        first = bucket.call("head_object", Key="key", VersionId=ids[0])
        assert first["ETag"] == versions[0]["ETag"]

    def test_if_none_match_is_ignored(self, bucket: BucketRequests) -> None:
        for body in (b"first", b"second"):
            assert bucket.put("key", body, IfNoneMatch="*") == DONE
        assert bucket.body("key") == b"second"
        assert len(bucket.call("list_object_versions")["Versions"]) == 2

    def test_if_match_never_holds(self, bucket: BucketRequests) -> None:
        bucket.put("key")
        etag = bucket.etag("key")
        for condition in (etag, etag.strip('"'), OTHER_ETAG, "*"):
            assert bucket.put("key", IfMatch=condition) == REFUSED

    def test_if_none_match_with_an_etag_never_holds(self, bucket: BucketRequests) -> None:
        bucket.put("key")
        etag = bucket.etag("key")
        for condition in (etag, etag.strip('"'), OTHER_ETAG):
            assert bucket.put("key", IfNoneMatch=condition) == REFUSED

    @pytest.mark.parametrize("condition", [{"IfNoneMatch": "*"}, {"IfMatch": OTHER_ETAG}])
    def test_conditions_on_completion_are_ignored(
        self, bucket: BucketRequests, condition: dict[str, str]
    ) -> None:
        bucket.put("key")
        upload = bucket.upload("key")
        answer = bucket.call("complete_multipart_upload", **upload, **condition)
        assert answer["VersionId"]
        assert len(bucket.call("list_object_versions")["Versions"]) == 2


class TestUploads:
    @pytest.mark.parametrize("condition", [{"IfNoneMatch": "*"}, {"IfMatch": OTHER_ETAG}])
    def test_conditions_on_completion_are_ignored(
        self, bucket: BucketRequests, condition: dict[str, str]
    ) -> None:
        bucket.put("key", b"first")
        upload = bucket.upload("key")
        assert bucket.status("complete_multipart_upload", **upload, **condition) == DONE
        assert bucket.body("key") == PART

    def test_if_match_on_completion_of_a_missing_object_is_ignored(
        self, bucket: BucketRequests
    ) -> None:
        upload = bucket.upload("key")
        assert bucket.status("complete_multipart_upload", **upload, IfMatch=OTHER_ETAG) == DONE

    def test_only_a_repeated_completion_tells_the_etag(self, bucket: BucketRequests) -> None:
        upload = bucket.upload("key")
        assert bucket.call("complete_multipart_upload", **upload)["ETag"] == ""
        assert bucket.call("complete_multipart_upload", **upload)["ETag"] == PARTS_ETAG
        assert bucket.etag("key") == f'"{PARTS_ETAG}"'

    def test_a_repeated_completion_keeps_a_newer_object(self, bucket: BucketRequests) -> None:
        upload = bucket.upload("key")
        bucket.call("complete_multipart_upload", **upload)
        bucket.put("key", b"newer")
        again = bucket.status("complete_multipart_upload", **upload)
        assert again == (500, "InternalError")
        assert bucket.body("key") == b"newer"

    def test_abort(self, bucket: BucketRequests) -> None:
        upload = bucket.upload("key")
        which = {"Key": "key", "UploadId": upload["UploadId"]}
        assert [u["UploadId"] for u in bucket.store.uploads(bucket.url)] == [upload["UploadId"]]
        assert bucket.status("abort_multipart_upload", **which) == (204, "")
        assert bucket.store.uploads(bucket.url) == ()
        missing = (404, "NoSuchUpload")
        assert bucket.status("abort_multipart_upload", **which) == missing
        assert bucket.status("upload_part", **which, PartNumber=1, Body=PART) == missing
        assert bucket.status("complete_multipart_upload", **upload) == (500, "InternalError")
        assert bucket.store.head(bucket.url.child("key")) is None


class TestProcesses:
    def test_they_keep_to_loopback_and_their_directory(self, gateway: Server) -> None:
        conf = next(word for word in psutil.Process(gateway.pid).cmdline() if "ceph.conf" in word)
        base = Path(conf).parent
        processes = _processes_below(base)
        names = {process.name() for process in processes}
        assert names == {"ceph-mon", "ceph-mgr", "ceph-osd", "radosgw"}
        for process in processes:
            for connection in process.net_connections():
                if connection.status == psutil.CONN_LISTEN:
                    assert connection.laddr.ip == "127.0.0.1"
            for file in process.open_files():
                assert Path(file.path).is_relative_to(base) or file.mode == "r"

    def test_none_is_left_after_the_context(self, tmp_path: Path) -> None:
        with ceph_gateway(tmp_path):
            assert len(_processes_below(tmp_path)) == 4
        assert _processes_below(tmp_path) == []

    def test_none_is_left_after_a_kill(self, tmp_path: Path) -> None:
        command = [sys.executable, "-c", START_AND_HANG, str(tmp_path)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as starter:
            assert starter.stdout is not None
            assert starter.stdout.readline().strip().isdigit()
            assert len(_processes_below(tmp_path)) == 4
            starter.kill()
        wait_for(lambda: _processes_below(tmp_path) == [])


def _processes_below(base: Path) -> list[psutil.Process]:
    """The running processes that were given a file below a directory."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            is_daemon = f"{base}/ceph.conf" in process.cmdline()
            if is_daemon and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found
