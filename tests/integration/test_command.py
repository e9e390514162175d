"""The command ``s3fuse``, as typed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from conftest import Bucket, mounted
from s3fuse.server import Server


def s3fuse(
    *words: str, workdir: Path, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "s3fuse", *words],
        cwd=workdir,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_mount_and_unmount_by_hand(tmp_path: Path, server: Server, bucket: Bucket) -> None:
    bucket.write("x.txt", "content")
    made = s3fuse("mount", str(bucket.url), workdir=tmp_path, environment=server.environment)
    assert made.returncode == 0, made.stderr
    point = Path(made.stdout.strip())
    assert (point / "x.txt").read_text() == "content"
    status = s3fuse("status", workdir=tmp_path)
    assert status.stdout == f"{bucket.url}\tread-only\thealthy\t{point}\n"
    assert s3fuse("status", workdir=tmp_path.parent).stdout == ""
    assert s3fuse("unmount", str(bucket.url), workdir=tmp_path).returncode == 0
    assert mounted() == []
    assert not point.exists()
    again = s3fuse("unmount", workdir=tmp_path)
    assert (again.returncode, again.stderr) == (0, "Nothing is mounted for this directory.\n")


def test_a_busy_read_write_mount_stays_and_the_status_says_so(
    tmp_path: Path, server: Server, bucket: Bucket
) -> None:
    made = s3fuse(
        *("mount", "--read-write", str(bucket.url)),
        workdir=tmp_path,
        environment=server.environment,
    )
    point = Path(made.stdout.strip())
    with (point / "out.txt").open("w") as file:
        file.write("half")
        with subprocess.Popen(["cat"], stdin=subprocess.PIPE, cwd=point) as holder:
            busy = s3fuse("unmount", "--timeout", "1", workdir=tmp_path)
            assert busy.returncode == 1
            assert f"cat (pid {holder.pid})" in busy.stderr
            assert f"-u {point}" in busy.stderr
            assert "Traceback" not in busy.stderr
        file.write(" and half")
    assert s3fuse("unmount", workdir=tmp_path).returncode == 0
    assert (bucket.folder / "out.txt").read_text() == "half and half"
    assert mounted() == []


@pytest.mark.parametrize(
    ("words", "status", "sentence"),
    [
        (["mount", "data"], 2, "s3fuse: 'data' is no S3 URL; write s3://"),
        (["mount", "s3://data/x"], 2, "is not a whole bucket; write s3://data."),
        (["mount", "s3://not-there"], 1, "s3fuse: There is no bucket s3://not-there"),
        (["mount"], 2, "Missing argument"),
        (["serve", "--", "no-such-program"], 2, "no-such-program cannot be run"),
    ],
)
def test_mistakes_get_a_sentence_and_a_status(
    tmp_path: Path, server: Server, words: list[str], status: int, sentence: str
) -> None:
    run = s3fuse(*words, workdir=tmp_path, environment=server.environment)
    assert run.returncode == status
    assert sentence in run.stderr
    assert "Traceback" not in run.stderr


def test_serve_gives_its_command_a_store_and_its_status_back(tmp_path: Path) -> None:
    (tmp_path / "data/my-bucket").mkdir(parents=True)
    (tmp_path / "data/my-bucket/x.txt").write_text("content")
    code = "from s3fuse.cli import _connection; from s3fuse import Store, S3Url; import sys; "
    code += "sys.exit(Store(_connection()).head(S3Url('my-bucket', 'x.txt')).size)"
    run = s3fuse("serve", "--data", "data", "--", sys.executable, "-c", code, workdir=tmp_path)
    assert run.returncode == 7, run.stderr


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_server_never_outlives_the_command(tmp_path: Path, number: signal.Signals) -> None:
    words = [sys.executable, "-m", "s3fuse", "serve", "--data", "data", "--", "cat"]
    serve = subprocess.Popen(
        words, cwd=tmp_path, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert serve.stderr is not None
    assert serve.stdin is not None
    assert "Serving data at http://127.0.0.1:" in serve.stderr.readline()
    children = psutil.Process(serve.pid).children()
    while len(children) < 2:
        time.sleep(0.05)
        children = psutil.Process(serve.pid).children()
    servers = [child for child in children if child.name() == "rclone"]
    assert len(servers) == 1
    serve.send_signal(number)
    serve.wait(20)
    gone, alive = psutil.wait_procs(servers, timeout=20)
    assert (len(gone), alive) == (1, [])
    serve.stdin.close()
    serve.stderr.close()
