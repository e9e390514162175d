"""Whole runs with a checkpoint whose output is in the bucket."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from conftest import Bucket, output_of, snakemake
from s3fuse.embedded_server import Server

pytestmark = pytest.mark.fuse

TEXT = """\
storage s3:
    provider="s3fuse",


def parts(wildcards):
    checkpoints.split.get()
    names = glob_wildcards(storage.s3("s3://BUCKET/d/p{name}")).name
    return [storage.s3(f"s3://BUCKET/q/{name}") for name in sorted(names)]


rule all:
    default_target: True
    input:
        parts,
    output:
        storage.s3("s3://BUCKET/all"),
    shell:
        "cat {input} > {output} < /dev/null"


checkpoint split:
    input:
        storage.s3("s3://BUCKET/in"),
    output:
        storage.s3("s3://BUCKET/d/"),
    shell:
        "mkdir -p {output}; for i in $(seq $(cat {input})); do echo $i > {output}/p$i; done"


rule part:
    input:
        storage.s3("s3://BUCKET/d/"),
    output:
        storage.s3("s3://BUCKET/q/{name}"),
    shell:
        "test ! -e FAIL; cp {input}/p{wildcards.name} {output}"
"""


def test_a_run_after_the_checkpoint_lists_its_folder_in_the_bucket(
    tmp_path: Path, bucket: Bucket, server: Server
) -> None:
    text = TEXT.replace("BUCKET", bucket.name).replace("FAIL", str(tmp_path / "fail"))
    (tmp_path / "Snakefile").write_text(text)
    (tmp_path / "fail").touch()
    bucket.write("in", "3")

    def run(code: int, *words: str) -> str:
        done = snakemake(tmp_path, "--cores", "2", *words, environment=server.environment)
        assert done.returncode == code, output_of(done)
        return output_of(done)

    run(1)
    (tmp_path / "fail").unlink()
    # Whoever lists a path that is not on this disk is told before anything runs.
    said = run(0, "--dry-run")
    assert said.count(f"s3://{bucket.name}/d/ is the folder of a checkpoint") == 1
    run(0)
    assert bucket.contents()["all"] == b"1\n2\n3\n"
    assert "Nothing to be done" in run(0)
    # The checkpoint runs again, with a part less: nothing is left of the folder before.
    time.sleep(1.1)
    bucket.write("in", "2")
    run(0)
    assert bucket.contents()["all"] == b"1\n2\n"
    assert sorted(key for key in bucket.contents() if key.startswith("d/p")) == ["d/p1", "d/p2"]
