"""The proxy that adds conditional writes: what it refuses, and what it passes on."""

from __future__ import annotations

import http.client
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest

from bucket_requests import DONE, OTHER_ETAG, REFUSED, BucketRequests
from conditions_proxy import enforcing_conditions
from s3fuse.embedded_server import Server
from s3fuse.s3.connection import Connection
from s3fuse.urls import S3Url

MISSING = (404, "NoSuchKey")


@pytest.fixture(scope="module")
def connection(server: Server) -> Iterator[Connection]:
    with enforcing_conditions(server.connection) as connection:
        yield connection


@pytest.fixture
def bucket(connection: Connection) -> BucketRequests:
    return BucketRequests.new_bucket(connection)


@pytest.mark.parametrize("key", ["key", "a b/c+d%20#e.nc", "größe/温度.nc"])
def test_conditions_of_a_put(bucket: BucketRequests, key: str) -> None:
    assert bucket.put(key, IfMatch=OTHER_ETAG) == MISSING
    assert bucket.put(key, IfMatch="*") == MISSING
    assert bucket.put(key, b"first", IfNoneMatch="*") == DONE
    assert bucket.put(key, b"second", IfNoneMatch="*") == REFUSED
    etag = bucket.etag(key)
    assert bucket.put(key, b"third", IfNoneMatch=etag) == (501, "NotImplemented")
    assert bucket.put(key, b"fourth", IfMatch=OTHER_ETAG) == REFUSED
    assert bucket.body(key) == b"first"
    assert bucket.put(key, b"fifth", IfMatch=etag) == DONE
    assert bucket.put(key, b"sixth", IfMatch=etag) == REFUSED
    assert bucket.put(key, b"seventh", IfMatch=bucket.etag(key).strip('"')) == DONE
    assert bucket.put(key, b"eighth", IfMatch="*") == DONE
    assert bucket.body(key) == b"eighth"


def test_a_refused_completion_keeps_the_upload(bucket: BucketRequests) -> None:
    bucket.put("key", b"first")
    upload = bucket.upload("key", b"second")
    assert bucket.complete(upload, IfNoneMatch="*") == REFUSED
    assert bucket.complete(upload, IfMatch=OTHER_ETAG) == REFUSED
    assert [each["UploadId"] for each in bucket.store.uploads(bucket.url)] == [upload["UploadId"]]
    assert bucket.body("key") == b"first"
    assert bucket.complete(upload, IfMatch=bucket.etag("key")) == DONE
    assert bucket.body("key") == b"second"
    assert bucket.complete(bucket.upload("missing"), IfMatch=OTHER_ETAG) == MISSING


def test_put_and_completion_take_turns(bucket: BucketRequests) -> None:
    uploads = [bucket.upload("key", b"upload %d" % number) for number in range(4)]
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(bucket.complete, upload, IfNoneMatch="*") for upload in uploads]
        answers += [pool.submit(bucket.put, "key", b"put", IfNoneMatch="*") for _ in range(4)]
    assert sorted(answer.result() for answer in answers) == [DONE] + 7 * [REFUSED]


def test_writes_without_conditions_take_turns(bucket: BucketRequests) -> None:
    """rclone fails, and at times loses the object, when they overlap."""
    for _ in range(10):
        with ThreadPoolExecutor(8) as pool:
            answers = [pool.submit(bucket.put, "key", os.urandom(8)) for _ in range(8)]
        assert {answer.result() for answer in answers} == {DONE}
        assert bucket.store.head(bucket.url.child("key")) is not None


def test_other_requests_are_passed_on(bucket: BucketRequests) -> None:
    body = os.urandom(3_000_000)
    assert bucket.put("folder/large", body) == DONE
    assert bucket.body("folder/large") == body
    assert bucket.store.list(bucket.url).folders == {"folder/"}
    source = f"{bucket.url.bucket}/folder/large"
    assert bucket.status("copy_object", Key="copy", CopySource=source) == DONE
    assert bucket.body("copy") == body
    assert bucket.status("delete_object", Key="copy") == (204, "")
    assert bucket.store.head(bucket.url.child("copy")) is None
    nowhere = BucketRequests(bucket.store, S3Url("no-such-bucket"))
    assert nowhere.put("key", IfNoneMatch="*") == (404, "NoSuchBucket")


def test_the_answer_is_as_from_aws(connection: Connection, bucket: BucketRequests) -> None:
    bucket.put("key")
    assert connection.endpoint_url is not None
    address = urlsplit(connection.endpoint_url).netloc
    client = http.client.HTTPConnection(address, timeout=20)
    for _ in range(2):
        # The connection is kept, whatever the answer was.
        path = f"/{bucket.url.bucket}/key"
        client.request("PUT", path, b"body", {"If-None-Match": "*"})
        answer = client.getresponse()
        assert answer.status == 412
        assert answer.headers["Content-Type"] == "application/xml"
        text = answer.read().decode()
        assert "<Code>PreconditionFailed</Code>" in text
        assert "<Condition>If-None-Match</Condition>" in text
    # What is not refused must be signed.
    client.request("PUT", path, b"body")
    assert client.getresponse().status in (400, 403)
    client.close()
