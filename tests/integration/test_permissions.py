"""The policy of docs/how-to/permissions.md, on a server that enforces it."""

from __future__ import annotations

import copy
import json
import re
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import botocore.session
import pytest

from conftest import ROOT, mounted, output_of, snakemake
from fault_proxy import Faults, proxied
from publishing import publish
from s3fuse.errors import AccessDenied
from s3fuse.gateway.catalogue import View
from s3fuse.inputs.download import Copier
from s3fuse.interactive import mounted as bucket_mounted
from s3fuse.mount.mounts import Mounts
from s3fuse.publish.journal import Journal
from s3fuse.s3.connection import ENVIRONMENT_PREFIX, Connection
from s3fuse.s3.parts import PART_SIZE
from s3fuse.s3.store import Store
from s3fuse.urls import S3Url
from stores import moto

pytestmark = pytest.mark.fuse

PAGE = ROOT / "docs/how-to/permissions.md"
POLICY = json.loads(re.findall(r"```json\n(.*?)```", PAGE.read_text(), re.DOTALL)[0])
INPUT, RESULT = S3Url("my-bucket", "x.txt"), S3Url("my-results", "y.txt")


@dataclass
class Cloud:
    """A server with users."""

    admin: Connection

    def __post_init__(self) -> None:
        session = botocore.session.Session()
        keys = {"aws_access_key_id": "any", "aws_secret_access_key": "thing"}
        self._iam = session.create_client(
            "iam", "us-east-1", endpoint_url=self.admin.endpoint_url, **keys
        )
        self._users = 0

    def enforce(self, after: str) -> None:
        """Let policies hold after so many requests."""
        request = urllib.request.Request(
            f"{self.admin.endpoint_url}/moto-api/reset-auth", after.encode(), method="POST"
        )
        request.add_header("Content-Type", "text/plain")
        urllib.request.urlopen(request).close()

    def user(self, policy: dict[str, Any]) -> Connection:
        """Somebody new, who may do what a policy allows."""
        self.enforce("inf")
        self._users += 1
        name = f"user-{self._users}"
        self._iam.create_user(UserName=name)
        self._iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=json.dumps(policy))
        key = self._iam.create_access_key(UserName=name)["AccessKey"]
        self.enforce("0")
        return replace(self.admin, access_key=key["AccessKeyId"], secret_key=key["SecretAccessKey"])

    def root(self, do: Callable[[Store], Any]) -> Any:
        """Do something as somebody who may do all."""
        self.enforce("inf")
        try:
            return do(Store(self.admin))
        finally:
            self.enforce("0")


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    with moto(tmp_path) as admin:
        store = Store(admin)
        for bucket in (INPUT.bucket, RESULT.bucket):
            store.call("create_bucket", S3Url(bucket), "create")
        (tmp_path / "x.txt").write_text("content")
        publish(store, tmp_path / "x.txt", INPUT)
        yield Cloud(admin)


def without(sid: str, action: str) -> dict[str, Any]:
    """The policy without one of its actions."""
    policy = copy.deepcopy(POLICY)
    for statement in policy["Statement"]:
        if statement["Sid"] == sid:
            statement["Action"].remove(action)
    policy["Statement"] = [each for each in policy["Statement"] if each["Action"]]
    return policy


def plan(store: Store, folder: Path) -> None:
    store.list(S3Url(INPUT.bucket))


def plan_results(store: Store, folder: Path) -> None:
    store.list(S3Url(RESULT.bucket))


def read(store: Store, folder: Path) -> None:
    info = store.list(S3Url(INPUT.bucket)).objects[INPUT.key]
    Copier(store).object(INPUT, info, folder / "copy")


def write(store: Store, folder: Path) -> None:
    publish(store, folder / "x.txt", RESULT)


def delete(store: Store, folder: Path) -> None:
    store.remove(RESULT)


def abort(store: Store, folder: Path) -> None:
    """Upload parts until a file has become shorter: what is there is removed again."""
    large = folder / "large"
    large.write_bytes(bytes(3 * PART_SIZE))
    upload = store.call("create_multipart_upload", RESULT, "write", Key=RESULT.key)["UploadId"]
    store.call("abort_multipart_upload", RESULT, "write", Key=RESULT.key, UploadId=upload)


def abort_of_the_killed(store: Store, folder: Path) -> None:
    """As after a process that was killed before it knew the number of its upload."""
    store.uploads(S3Url(RESULT.bucket))


NEEDED = {
    ("FindInputs", "s3:ListBucket"): plan,
    ("ReadInputs", "s3:GetObject"): read,
    ("FindResults", "s3:ListBucket"): plan_results,
    ("FindResults", "s3:ListBucketMultipartUploads"): abort_of_the_killed,
    ("WriteResults", "s3:GetObject"): write,
    ("WriteResults", "s3:PutObject"): write,
    ("WriteResults", "s3:DeleteObject"): delete,
    ("WriteResults", "s3:AbortMultipartUpload"): abort,
}


def test_each_action_is_needed_and_they_are_enough(cloud: Cloud, tmp_path: Path) -> None:
    assert {(s["Sid"], a) for s in POLICY["Statement"] for a in s["Action"]} == set(NEEDED)
    everything = Store(cloud.user(POLICY))
    for do in (plan, read, plan_results, abort_of_the_killed, write, delete, abort):
        do(everything, tmp_path)
    for (sid, action), do in NEEDED.items():
        store = Store(cloud.user(without(sid, action)))
        with pytest.raises(AccessDenied, match="Not allowed to"):
            do(store, tmp_path)


@pytest.mark.slow
def test_a_workflow_runs_with_it(cloud: Cloud, tmp_path: Path) -> None:
    user = cloud.user(POLICY)
    (tmp_path / "Snakefile").write_text(
        "storage s3:\n    provider='s3fuse'\n"
        f"rule all:\n    input: storage.s3('{RESULT}')\n"
        f"rule copy:\n    input: storage.s3('{INPUT}')\n    output: storage.s3('{RESULT}')\n"
        "    shell: 'cp {input} {output}'\n"
    )
    values = {
        "ENDPOINT_URL": user.endpoint_url,
        "REGION": "us-east-1",
        "ACCESS_KEY": user.access_key,
        "SECRET_KEY": user.secret_key,
    }
    environment = {ENVIRONMENT_PREFIX + name: str(value) for name, value in values.items()}
    for access in ("mount", "copy"):
        words = ["--cores", "1", "--storage-s3fuse-access", access]
        run = snakemake(tmp_path, *words, environment=environment)
        assert run.returncode == 0, output_of(run)
        assert ("Mounted" in output_of(run)) == (access == "mount")
        run = snakemake(tmp_path, *words, "--delete-all-output", environment=environment)
        assert run.returncode == 0, output_of(run)
    assert mounted() == []


def test_public_data_need_no_keys(cloud: Cloud, tmp_path: Path) -> None:
    cloud.root(
        lambda store: store.call("put_object_acl", INPUT, "write", Key=INPUT.key, ACL="public-read")
    )
    cloud.enforce("inf")
    assert cloud.admin.endpoint_url
    unsigned = Faults(refuse=lambda request: "AccessDenied" if request.access_key else None)
    with proxied(cloud.admin.endpoint_url, unsigned) as proxy:
        public = Connection(proxy.endpoint_url, anonymous=True)
        with bucket_mounted(f"s3://{INPUT.bucket}", connection=public) as folder:
            assert (folder / INPUT.key).read_text() == "content"
        store = Store(public)
        Copier(store).object(
            INPUT, store.list(S3Url(INPUT.bucket)).objects[INPUT.key], tmp_path / "y"
        )
        assert (tmp_path / "y").read_text() == "content"
        with pytest.raises(AccessDenied):
            Store(replace(cloud.admin, endpoint_url=proxy.endpoint_url)).list(INPUT.parent)
    assert mounted() == []


@pytest.mark.slow
def test_without_listing_inputs_are_mounted_and_copied(cloud: Cloud, tmp_path: Path) -> None:
    user = cloud.user(without("FindInputs", "s3:ListBucket"))
    info = cloud.root(lambda store: store.head(INPUT))
    # What is planned is shown without a look around it.
    mounts = Mounts(tmp_path / "links", tmp_path, tmp_path / "run", tmp_path / "cache")
    mount = mounts.mount(INPUT.bucket, user)
    try:
        assert mounts.show(mount, View.of_object(info)).read_text() == "content"
    finally:
        mounts.unmount_own()
    Copier(Store(user)).object(INPUT, info, tmp_path / "copy")
    assert (tmp_path / "copy").read_text() == "content"
    assert not Journal(tmp_path).has_notes
    assert mounted() == []
