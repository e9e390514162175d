"""Secrets are in no command line, no log, no record and no file that others can read."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from pathlib import Path

import psutil
import pytest
import yaml

from conftest import ROOT, Bucket, MakeBucket, snakemake_command
from integration.conftest import SAMPLES, demo_config
from s3fuse.embedded_server import Server

pytestmark = pytest.mark.fuse


class Watch(threading.Thread):
    """Reads the command lines of all processes, again and again."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.done = threading.Event()

    def run(self) -> None:
        while not self.done.wait(0.01):
            for process in psutil.process_iter():
                try:
                    self.seen.add("\0".join(process.cmdline()))
                except (psutil.NoSuchProcess, psutil.ZombieProcess):
                    continue


@pytest.mark.parametrize(
    "profile",
    [True, pytest.param(False, marks=pytest.mark.slow)],
    ids=["with the profile", "without"],
)
def test_secrets_show_nowhere(
    tmp_path: Path, make_bucket: MakeBucket, server: Server, bucket: Bucket, profile: bool
) -> None:
    bucket.upload(SAMPLES / "pre-industrial.pp", "pre-industrial.pp")
    results = make_bucket()
    config = tmp_path / "config/config.yaml"
    config.parent.mkdir()
    text = demo_config(str(bucket.url), str(results.url))
    text["datasets"] = {
        "one": {
            "title": "One",
            "files": [f"{bucket.url}/pre-industrial.pp"],
            "constraint": "air_temperature",
            "baseline": [1860, 1860],
        }
    }
    config.write_text(yaml.safe_dump(text))
    # Without the profile, `run:` jobs get a process of their own, started by a shell.
    options = ["--profile", ROOT / "profiles/s3"] if profile else ["--cores", "2"]
    command = snakemake_command(
        *("--snakefile", ROOT / "Snakefile", "--verbose"),
        *("--storage-s3fuse-access", "mount", *options),
    )
    watch = Watch()
    watch.start()
    began = time.time()
    with (tmp_path / "output").open("w") as output:
        run = subprocess.run(
            command,
            cwd=tmp_path,
            env={**os.environ, **server.environment},
            stdout=output,
            stderr=subprocess.STDOUT,
            timeout=200,
            check=False,
        )
    watch.done.set()
    watch.join()
    assert run.returncode == 0, (tmp_path / "output").read_text()[-3000:]
    assert any("s3fs" in line and bucket.name in line for line in watch.seen)
    for line in watch.seen:
        assert server.secret_key not in line
        assert server.access_key not in line
    places = [tmp_path, *(Path(os.environ[name]) for name in ("XDG_RUNTIME_DIR", "HOME", "TMPDIR"))]
    looked_at = 0
    for place in places:
        for path in place.rglob("*"):
            if path.is_file() and path.stat().st_mtime >= began - 1:
                looked_at += 1
                assert server.secret_key.encode() not in path.read_bytes(), path
    # The output, Snakemake's log and the records of the jobs at least.
    assert looked_at > 10
