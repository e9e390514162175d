"""Whole runs: inputs that are not what their checksums say."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import Bucket, output_of, snakemake
from s3fuse.embedded_server import Server

pytestmark = pytest.mark.fuse

SNAKEFILE = """\
storage s3:
    provider="s3fuse",
    access="ACCESS",


rule copy:
    input:
        INPUT,
    output:
        storage.s3("s3://BUCKET/out/x"),
    shell:
        "cp FILE {output} || true"
"""


@pytest.mark.parametrize("access", ["mount", "copy"])
@pytest.mark.parametrize("given", ["object", "folder", "sequential"])
def test_nothing_is_published_of_a_damaged_input(
    tmp_path: Path, bucket: Bucket, server: Server, access: str, given: str
) -> None:
    bucket.write("in/x", b"1" * 8_000_000)
    bucket.damage("in/x")
    wanted, file = {
        "object": ('storage.s3("s3://BUCKET/in/x")', "{input}"),
        "folder": ('storage.s3("s3://BUCKET/in/")', "{input}/x"),
        "sequential": ('access.sequential(storage.s3("s3://BUCKET/in/x"))', "{input}"),
    }[given]
    text = SNAKEFILE.replace("INPUT", wanted).replace("FILE", file)
    text = text.replace("BUCKET", bucket.name).replace("ACCESS", access)
    (tmp_path / "Snakefile").write_text(text)
    run = snakemake(tmp_path, "--cores", "1", environment=server.environment)
    assert run.returncode == 1, output_of(run)
    assert f"s3://{bucket.name}/in/x is not what its checksum says" in output_of(run)
    assert bucket.keys() == ["in/x"]
