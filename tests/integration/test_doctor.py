"""`s3fuse doctor` on machines and stores that are well, and on others."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from conftest import WITHOUT_DEVICE, Bucket, mounted, s3fuse
from fault_proxy import Faults, proxied
from s3fuse.embedded_server import Server

pytestmark = pytest.mark.fuse

#: Seconds within which the cause must be named.
AT_MOST = 15.0


def doctor(
    url: str, environment: dict[str, str], workdir: Path, wrapper: Sequence[str] = ()
) -> dict[str, tuple[str, str]]:
    """Run it; what it said and how that is, by check."""
    start = time.monotonic()
    words = ("doctor", "--json", url)
    run = s3fuse(*words, workdir=workdir, environment=environment, wrapper=wrapper)
    assert time.monotonic() - start < AT_MOST
    assert "Traceback" not in run.stderr
    found = {row["check"]: (row["state"], row["text"]) for row in json.loads(run.stdout)}
    assert run.returncode == any(state == "failed" for state, _ in found.values())
    assert mounted() == []
    return found


def the_cause(found: dict[str, tuple[str, str]]) -> tuple[str, str]:
    """The one check that failed, and what it said."""
    failed = [(check, text) for check, (state, text) in found.items() if state == "failed"]
    assert len(failed) == 1, found
    return failed[0]


def test_all_is_well(tmp_path: Path, server: Server, bucket: Bucket) -> None:
    bucket.write("folder/x.txt", "content")
    found = doctor(str(bucket.url), server.environment, tmp_path)
    assert {state for state, _ in found.values()} == {"ok"}
    assert list(found)[-4:] == ["list", "read", "write", "mount"]
    assert "folder/x.txt read" in found["mount"][1]
    assert bucket.keys() == ["folder/x.txt"]
    store = bucket.store
    assert store.uploads(bucket.url) == ()


def test_lines_for_people(tmp_path: Path, server: Server, bucket: Bucket) -> None:
    run = s3fuse("doctor", str(bucket.url), workdir=tmp_path, environment=server.environment)
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["ok"] * 9 + ["note", "ok", "ok"]
    assert f"no object in {bucket.url}" in lines[9]


def test_without_s3fs(tmp_path: Path, server: Server, bucket: Bucket) -> None:
    bucket.write("x.txt", "content")
    (tmp_path / "bin").mkdir()
    for name in ("fusermount", "fusermount3"):
        if program := shutil.which(name):
            (tmp_path / "bin" / name).symlink_to(program)
    environment = {**server.environment, "PATH": str(tmp_path / "bin")}
    found = doctor(str(bucket.url), environment, tmp_path)
    check, text = the_cause(found)
    assert check == "s3fs"
    assert "apt install s3fs" in text
    assert found["mount"] == ("skipped", "needs: s3fs")
    assert found["read"][0] == "ok"


@pytest.mark.skipif(os.geteuid() != 0, reason="a namespace of mounts needs root")
def test_without_the_device(tmp_path: Path, server: Server, bucket: Bucket) -> None:
    bucket.write("x.txt", "content")
    check, text = the_cause(doctor(str(bucket.url), server.environment, tmp_path, WITHOUT_DEVICE))
    assert check == "FUSE"
    assert "/dev/fuse is missing" in text


def test_a_wrong_key(tmp_path: Path, server: Server, bucket: Bucket) -> None:
    for wrong in ({"access_key": "WRONG"}, {"secret_key": "wrong"}):
        found = doctor(str(bucket.url), replace(server, **wrong).environment, tmp_path)
        check, text = the_cause(found)
        assert check == "credentials"
        assert f"check the {next(iter(wrong)).replace('_', ' ')}" in text
        assert found["list"] == ("skipped", "needs: credentials")


def test_no_credentials(tmp_path: Path, server: Server, bucket: Bucket) -> None:
    environment = {"SNAKEMAKE_STORAGE_S3FUSE_ENDPOINT_URL": server.endpoint_url}
    check, text = the_cause(doctor(str(bucket.url), environment, tmp_path))
    assert check == "credentials"
    assert "set AWS_ACCESS_KEY_ID" in text


def test_a_missing_bucket(tmp_path: Path, server: Server) -> None:
    found = doctor("s3://not-there", server.environment, tmp_path)
    check, text = the_cause(found)
    assert check == "list"
    assert "There is no bucket s3://not-there" in text
    assert found["credentials"][0] == "ok"


@pytest.mark.skipif(not shutil.which("faketime"), reason="faketime is not installed")
@pytest.mark.parametrize(("off", "way"), [("+1h", "ahead of"), ("-1h", "behind")])
def test_a_clock_an_hour_off(
    tmp_path: Path, server: Server, bucket: Bucket, off: str, way: str
) -> None:
    found = doctor(str(bucket.url), server.environment, tmp_path, ["faketime", "-f", off])
    check, text = the_cause(found)
    assert check == "clock"
    assert f"1 hour {way} that of {server.endpoint_url}" in text


def test_an_endpoint_that_hangs(tmp_path: Path, server: Server, bucket: Bucket) -> None:
    with proxied(server.endpoint_url, Faults(hang=True)) as proxy:
        environment = replace(server, endpoint_url=proxy.endpoint_url).environment
        check, text = the_cause(doctor(str(bucket.url), environment, tmp_path))
    assert check == "endpoint"
    assert "did not answer within 5 s" in text


def test_an_endpoint_that_is_not_there(tmp_path: Path, server: Server, bucket: Bucket) -> None:
    environment = replace(server, endpoint_url="http://127.0.0.1:9").environment
    check, text = the_cause(doctor(str(bucket.url), environment, tmp_path))
    assert check == "endpoint"
    assert "cannot be reached" in text


def test_a_bucket_that_may_only_be_read(tmp_path: Path, server: Server, bucket: Bucket) -> None:
    bucket.write("x.txt", "content")
    refuse = Faults(refuse=lambda request: "AccessDenied" if request.method == "POST" else None)
    with proxied(server.endpoint_url, refuse) as proxy:
        environment = replace(server, endpoint_url=proxy.endpoint_url).environment
        found = doctor(str(bucket.url), environment, tmp_path)
    assert found["write"][0] == "note"
    assert "inputs only" in found["write"][1]
    assert found["mount"][0] == "ok"


def test_what_was_left_behind(tmp_path: Path, server: Server, bucket: Bucket) -> None:
    code = "import s3fuse, sys, os, signal\n"
    code += "with s3fuse.mounted(sys.argv[1]): os.kill(os.getpid(), signal.SIGKILL)"
    environment = {**os.environ, **server.environment}
    subprocess.run([sys.executable, "-c", code, str(bucket.url)], env=environment, cwd=tmp_path)
    assert len(mounted()) == 1
    run = s3fuse("doctor", workdir=tmp_path, environment=server.environment)
    assert "note     left behind  1 mount and 0 uploads of processes that are gone" in run.stdout
    assert s3fuse("clean", workdir=tmp_path, environment=server.environment).returncode == 0
    assert mounted() == []
