"""Encryption by the store, and buckets whose readers pay, with a Ceph RADOS Gateway."""

from __future__ import annotations

import base64
import json
import os
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from bucket_requests import BucketRequests
from ceph import GUEST, KMS_KEY, CephServer, ceph_gateway
from conftest import output_of, snakemake
from publishing import publish
from s3fuse.errors import AccessDenied, S3FuseError
from s3fuse.gateway.catalogue import View
from s3fuse.inputs.download import Copier
from s3fuse.mount.mounts import Mounts
from s3fuse.mount.options import MountOptions
from s3fuse.mount.s3fs_cache.pending_uploads import unsent
from s3fuse.s3.connection import ENVIRONMENT_PREFIX, Connection
from s3fuse.s3.store import Store

pytestmark = [pytest.mark.ceph, pytest.mark.fuse]

CUSTOMER_KEY = base64.b64encode(os.urandom(32)).decode()
#: Connections that encrypt, and what HEAD tells of their objects.
WAYS = {
    "SSE-C": ({"sse_customer_key": CUSTOMER_KEY}, {"SSECustomerAlgorithm": "AES256"}),
    "SSE-KMS": (
        {"sse": "aws:kms", "sse_kms_key_id": KMS_KEY},
        {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": KMS_KEY},
    ),
}
#: One piece, and more than two parts.
SIZES = [100_000, 70_000_000]

SNAKEFILE = """\
storage s3:
    provider="s3fuse",
    access="ACCESS",


rule copy:
    input:
        storage.s3("s3://BUCKET/in/x"),
        storage.s3("s3://BUCKET/in/"),
    output:
        storage.s3("s3://BUCKET/out/x"),
        storage.s3("s3://BUCKET/folder/"),
    shell:
        "cmp {input[0]} {input[1]}/x && cp {input[0]} {output[0]}"
        " && mkdir -p {output[1]} && cp {input[0]} {output[1]}/x"
"""


@pytest.fixture(scope="module")
def ceph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CephServer]:
    with ceph_gateway(tmp_path_factory.mktemp("ceph")) as server:
        yield server


@pytest.fixture
def bucket(ceph: CephServer) -> BucketRequests:
    return BucketRequests.new_bucket(ceph.connection)


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def encrypting(ceph: CephServer, way: str) -> Connection:
    return replace(ceph.connection, **WAYS[way][0])


def written(path: Path, size: int, seed: int = 0) -> bytes:
    content = random.Random(seed).randbytes(size)
    path.write_bytes(content)
    return content


def headers(store: Store, bucket: BucketRequests, key: str) -> dict[str, object]:
    answer = store.call("head_object", bucket.url, "look at", Key=key)
    return {name: answer[name] for _, told in WAYS.values() for name in told if name in answer}


@pytest.mark.parametrize("size", SIZES)
def test_what_is_published_can_be_read(
    tmp_path: Path,
    bucket: BucketRequests,
    encrypting: Connection,
    way: str,
    size: int,
    made: Mounts,
) -> None:
    store, url = Store(encrypting), bucket.url.child("x")
    # The second replaces the first.
    for seed in (1, 2):
        content = written(tmp_path / "x", size, seed)
        publish(store, tmp_path / "x", url)
        assert headers(store, bucket, "x") == WAYS[way][1]
    listed = store.list(bucket.url).objects["x"]
    Copier(store).object(url, listed, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == content
    mount = made.mount(url.bucket, encrypting)
    for sequential in (False, True):
        shown = made.show(mount, View.of_object(listed, sequential=sequential))
        assert shown.read_bytes() == content
    assert made.failures(url.bucket) == []


def test_without_the_key_it_is_a_sentence(
    tmp_path: Path, bucket: BucketRequests, ceph: CephServer
) -> None:
    encrypting = replace(ceph.connection, sse_customer_key=CUSTOMER_KEY)
    written(tmp_path / "x", 1000)
    publish(Store(encrypting), tmp_path / "x", bucket.url.child("x"))
    listed = bucket.store.list(bucket.url).objects["x"]
    other = base64.b64encode(os.urandom(32)).decode()
    for connection in (ceph.connection, replace(encrypting, sse_customer_key=other)):
        with pytest.raises(S3FuseError, match="sse_customer_key"):
            Copier(Store(connection)).object(bucket.url.child("x"), listed, tmp_path / "copy")
        assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("access", ["mount", "copy"])
def test_a_whole_run(
    tmp_path: Path, bucket: BucketRequests, ceph: CephServer, way: str, access: str
) -> None:
    settings, told = WAYS[way]
    store = Store(replace(ceph.connection, **settings))
    content = written(tmp_path / "x", 6_000_000)
    publish(store, tmp_path / "x", bucket.url.child("in/x"))
    text = SNAKEFILE.replace("BUCKET", bucket.url.bucket).replace("ACCESS", access)
    (tmp_path / "Snakefile").write_text(text)
    variables = {ENVIRONMENT_PREFIX + name.upper(): value for name, value in settings.items()}
    run = snakemake(tmp_path, "--cores", "1", environment={**ceph.environment, **variables})
    assert run.returncode == 0, output_of(run)
    assert CUSTOMER_KEY not in output_of(run)
    for key in ("out/x", "folder/x"):
        assert headers(store, bucket, key) == told
        info = store.head(bucket.url.child(key))
        assert info
        Copier(store).object(bucket.url.child(key), info, tmp_path / "copy")
        assert (tmp_path / "copy").read_bytes() == content
    again = snakemake(tmp_path, "--cores", "1", environment={**ceph.environment, **variables})
    assert "Nothing to be done" in output_of(again)


def test_a_read_write_mount_encrypts(
    bucket: BucketRequests, encrypting: Connection, way: str, made: Mounts, tmp_path: Path
) -> None:
    options = MountOptions(read_write=True)
    with made.shared(bucket.url.bucket, encrypting, options) as mount:
        content = written(mount.point / "x", 6_000_000)
    store = Store(encrypting)
    assert headers(store, bucket, "x") == WAYS[way][1]
    Copier(store).object(
        bucket.url.child("x"), store.list(bucket.url).objects["x"], tmp_path / "copy"
    )
    assert (tmp_path / "copy").read_bytes() == content


def test_the_key_of_a_customer_and_what_it_encrypts_stay_with_the_gateway(
    tmp_path: Path, bucket: BucketRequests, ceph: CephServer, made: Mounts
) -> None:
    encrypting = replace(ceph.connection, sse_customer_key=CUSTOMER_KEY)
    store, url = Store(encrypting), bucket.url.child("x")
    content = written(tmp_path / "x", 3_000_000)
    info = publish(store, tmp_path / "x", url)
    mount = made.mount(url.bucket, encrypting)
    assert made.show(mount, View.of_object(info, sequential=True)).read_bytes() == content
    marker = content[1_000_000:1_000_064]
    kept = [path for place in (made.cache_dir, made.root) for path in place.rglob("*")]
    # A socket and the mount itself are no files of the disk.
    files = [path for path in kept if path.is_file() and not path.is_relative_to(mount.point)]
    assert not [path for path in files if marker in path.read_bytes()]
    assert not [path for path in files if CUSTOMER_KEY.encode() in path.read_bytes()]
    assert not [each for each in psutil.process_iter(["cmdline"]) if CUSTOMER_KEY in str(each.info)]
    assert mount.daemon
    assert CUSTOMER_KEY not in str(psutil.Process(mount.daemon.pid).environ())


def test_whoever_reads_pays_and_says_so(
    tmp_path: Path, bucket: BucketRequests, ceph: CephServer, made: Mounts
) -> None:
    bucket.put("x", b"content")
    allowed = {"AWS": [f"arn:aws:iam:::user/{GUEST}"]}
    resources = [f"arn:aws:s3:::{bucket.url.bucket}{rest}" for rest in ("", "/*")]
    statement = {
        "Effect": "Allow",
        "Principal": allowed,
        "Action": ["s3:*"],
        "Resource": resources,
    }
    policy = {"Version": "2012-10-17", "Statement": [statement]}
    bucket.call("put_bucket_policy", Policy=json.dumps(policy))
    payment = {"Payer": "Requester"}
    bucket.call("put_bucket_request_payment", RequestPaymentConfiguration=payment)
    info = bucket.store.head(bucket.url.child("x"))
    assert info
    with pytest.raises(AccessDenied):
        Copier(Store(ceph.guest)).object(bucket.url.child("x"), info, tmp_path / "x")
    paying = replace(ceph.guest, requester_pays=True)
    Copier(Store(paying)).object(bucket.url.child("x"), info, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == b"content"
    mount = made.mount(bucket.url.bucket, paying)
    assert made.show(mount, View.of_object(info)).read_bytes() == b"content"
    written(tmp_path / "y", 40_000_000)
    publish(Store(paying), tmp_path / "y", bucket.url.child("y"))
    with made.shared(bucket.url.bucket, paying, MountOptions(read_write=True)) as read_write:
        (read_write.point / "z").write_text("z")
        assert (read_write.point / "x").read_bytes() == b"content"
        assert not unsent(read_write)
    assert replace(bucket, store=Store(paying)).body("z") == b"z"
