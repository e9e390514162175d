"""Runs that outlast their tokens: the AWS provider chain gives new ones, and everything goes on."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from conftest import mounted, output_of, snakemake
from fault_proxy import Proxy, Request, proxied
from publishing import publish
from s3fuse.s3.connection import ENVIRONMENT_PREFIX, Connection
from s3fuse.s3.store import Store
from s3fuse.urls import S3Url
from stores import moto

pytestmark = [pytest.mark.fuse, pytest.mark.slow]

SMALL = Path(__file__).parent / "small.smk"
BUCKET = S3Url("a-bucket")
#: Seconds: a new key every so often, and how long after that the one before is good.
PERIOD, GRACE = 6.0, 6.0

# What `aws sso`, `saml2aws` or an assumed role do: a new key now and then.
GIVE_KEYS = """
import datetime, json, time
period = int(time.time() // {period})
until = datetime.datetime.fromtimestamp((period + 1) * {period} + {grace}, datetime.timezone.utc)
print(json.dumps({{"Version": 1, "AccessKeyId": f"KEY{{period}}", "SecretAccessKey": "x" * 40,
    "SessionToken": "token", "Expiration": until.isoformat()}}))
"""

# Opens the file again for each piece, as Iris does.
READ_SLOWLY = """
import hashlib, sys, time
digest = hashlib.sha256()
for number in range({pieces}):
    with open(sys.argv[1], "rb") as file:
        file.seek(number * {size})
        digest.update(file.read({size}))
    time.sleep({pause})
open(sys.argv[2], "w").write(digest.hexdigest())
"""


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Proxy]:
    """moto, which takes any key, behind a proxy that refuses old ones."""
    with moto(tmp_path) as connection, proxied(connection.endpoint_url or "") as proxy:
        Store(connection).call("create_bucket", BUCKET, "create")
        yield proxy


def test_a_job_outlasts_its_token(tmp_path: Path, proxy: Proxy) -> None:
    pieces, size = 9, 5 * 2**20
    content = os.urandom(pieces * size)
    (tmp_path / "in.bin").write_bytes(content)
    admin = Connection(proxy.endpoint_url, "us-east-1", "any", "thing")
    publish(Store(admin), tmp_path / "in.bin", BUCKET.child("in.bin"))
    (tmp_path / "keys.py").write_text(GIVE_KEYS.format(period=PERIOD, grace=GRACE))
    (tmp_path / "read.py").write_text(READ_SLOWLY.format(pieces=pieces, size=size, pause=2.5))
    (tmp_path / "aws").write_text(
        f"[default]\ncredential_process = {sys.executable} {tmp_path}/keys.py\n"
    )
    seen = set()

    def refuse_old(request: Request) -> str | None:
        seen.add(request.access_key)
        period = int(request.access_key.removeprefix("KEY"))
        is_old = time.time() > (period + 1) * PERIOD + GRACE
        return "ExpiredToken" if is_old else None

    proxy.faults.refuse = refuse_old
    config = [
        f"command={sys.executable} {tmp_path}/read.py $INPUT $OUTPUTS",
        f"input={BUCKET}/in.bin",
        f"outputs=[{BUCKET}/out.txt]",
    ]
    done = snakemake(
        tmp_path,
        *("--snakefile", SMALL, "--cores", "1", "--storage-s3fuse-access", "mount"),
        *("--config", *config),
        environment={
            "AWS_CONFIG_FILE": str(tmp_path / "aws"),
            f"{ENVIRONMENT_PREFIX}ENDPOINT_URL": proxy.endpoint_url,
            f"{ENVIRONMENT_PREFIX}REGION": "us-east-1",
        },
    )
    assert done.returncode == 0, output_of(done)
    proxy.faults.refuse = None
    answer = Store(admin).filesystem.cat_file(f"{BUCKET.bucket}/out.txt")
    assert answer.decode() == hashlib.sha256(content).hexdigest()
    assert len(seen) >= 4
    # The gateway has them; there is no new mount.
    assert output_of(done).count(f"Mounted {BUCKET}") == 1
    assert mounted() == []


def test_a_file_of_credentials_that_is_written_anew_is_read_again(
    tmp_path: Path, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    text = "[default]\naws_access_key_id = {}\naws_secret_access_key = x\n"
    connection = Connection(proxy.endpoint_url, "us-east-1")
    file.write_text(text.format("OLD"))
    store = Store(connection)
    store.check(BUCKET.bucket)
    assert connection.credentials().access_key == "OLD"
    proxy.faults.refuse = lambda it: "ExpiredToken" if it.access_key == "OLD" else None
    file.write_text(text.format("NEW"))
    (tmp_path / "x").write_text("content")
    info = publish(store, tmp_path / "x", BUCKET.child("x"))
    assert info.size == 7
    monkeypatch.setattr("s3fuse.s3.credentials.LOOK_UP_INTERVAL", 1e-3)
    assert connection.credentials().access_key == "NEW"
    assert replace(connection, anonymous=True).credentials().environment == {}
