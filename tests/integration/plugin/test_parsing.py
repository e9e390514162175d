"""Questions about objects that a Snakefile asks while Snakemake reads it."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import Bucket, output_of, snakemake
from s3fuse.embedded_server import Server

ASKING = """\
storage s3:
    provider="s3fuse",


def ask(place):
    names = ("in.txt", "missing.txt", "out/1.txt", "folder/")
    found = [exists(storage.s3(f"s3://BUCKET/{name}")) for name in names]
    if workflow.is_main_process:
        print(place, found)


ask("first")


rule all:
    input:
        storage.s3("s3://BUCKET/out/1.txt"),


ask("input")


rule step:
    input:
        storage.s3("s3://BUCKET/in.txt"),
    output:
        storage.s3("s3://BUCKET/out/{name}.txt"),
    shell:
        "cp {input} {output}"


ask("output")
"""


@pytest.mark.parametrize("options", [(), ("--forceall",)])
def test_exists_anywhere_in_a_snakefile(
    tmp_path: Path, server: Server, bucket: Bucket, options: tuple[str, ...]
) -> None:
    bucket.write("in.txt", "1")
    bucket.write("folder/x", "1")
    (tmp_path / "Snakefile").write_text(ASKING.replace("BUCKET", bucket.name))
    words = ("--cores", "1", *options)
    first = snakemake(tmp_path, *words, environment=server.environment)
    assert first.returncode == 0, output_of(first)
    for place in ("first", "input", "output"):
        assert f"{place} [True, False, False, True]" in first.stdout
    assert bucket.contents()["out/1.txt"] == b"1"
    again = snakemake(tmp_path, "--dry-run", *words, environment=server.environment)
    assert again.returncode == 0, output_of(again)
    assert "output [True, False, True, True]" in again.stdout


def test_a_misspelt_setting_is_named(tmp_path: Path, server: Server) -> None:
    text = f'storage s3:\n    provider="s3fuse",\n    endpoint="{server.endpoint_url}",\n'
    (tmp_path / "Snakefile").write_text(text)
    run = snakemake(tmp_path, "--cores", "1", environment=server.environment)
    assert run.returncode == 1
    text = output_of(run)
    assert (
        "There is no setting 'endpoint'; did you mean endpoint_url? The settings are access,"
        in text
    )
    assert "Traceback" not in text
