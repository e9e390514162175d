"""A bucket that does not exist gives one sentence, however many objects are asked for."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from conftest import Bucket, output_of, snakemake
from demo import SAMPLES, iris_samples
from integration.conftest import Project, demo_config
from s3fuse.embedded_server import Server

SNAKEFILE = """\
storage s3:
    provider="s3fuse",


NAMES = range(200)


rule all:
    input:
        storage.s3(expand("s3://RESULTS/out/{name}.txt", name=NAMES)),


rule step:
    input:
        storage.s3("s3://INPUTS/in.txt"),
    output:
        storage.s3("s3://RESULTS/out/{name}.txt"),
    shell:
        "cp {input} {output}"


rule one:
    input:
        storage.s3("s3://INPUTS/in.txt"),
    output:
        storage.s3("s3://RESULTS/one.txt"),
        storage.s3("s3://RESULTS/two.txt"),
    shell:
        "for name in {output}; do cp {input} $name; done"


rule folder:
    output:
        storage.s3("s3://RESULTS/folder/"),
    shell:
        "mkdir -p {output} && echo 1 > {output}/x"


rule chosen:
    input:
        lambda wildcards: [storage.s3(f"s3://INPUTS/{name}.txt") for name in NAMES],
    output:
        local("chosen.txt"),
    shell:
        "cat {input} > {output}"
"""


def run(
    workdir: Path, server: Server, inputs: str, results: str, *options: str
) -> subprocess.CompletedProcess[str]:
    text = SNAKEFILE.replace("INPUTS", inputs).replace("RESULTS", results)
    (workdir / "Snakefile").write_text(text)
    return snakemake(workdir, "--cores", "2", *options, environment=server.environment)


def assert_one_sentence(run: subprocess.CompletedProcess[str], server: Server, name: str) -> None:
    text = output_of(run)
    sentence = (
        f"There is no bucket s3://{name} at {server.endpoint_url}; check its name, or create it."
    )
    assert run.returncode == 1
    assert text.count(sentence) == text.count(f"s3://{name} ") == 1, text
    assert "Traceback" not in text
    assert "ExceptionGroup" not in text
    before, _, after = text.partition("Building DAG of jobs...\n")
    assert before
    assert len(after.strip().splitlines()) <= 5, after


@pytest.mark.parametrize("dry_run", [("--dry-run",), ()], ids=["dry run", "run"])
@pytest.mark.parametrize(
    "words",
    [(), ("one",), ("folder",), ("--forceall",), ("one", "--forceall")],
    ids=["all", "one", "folder", "forced", "one forced"],
)
def test_bucket_for_results(
    tmp_path: Path, server: Server, bucket: Bucket, words: tuple[str, ...], dry_run: tuple[str, ...]
) -> None:
    bucket.write("in.txt", "1")
    found = run(tmp_path, server, bucket.name, "no-such-bucket", *words, *dry_run)
    assert_one_sentence(found, server, "no-such-bucket")


@pytest.mark.parametrize("words", [(), ("one",), ("chosen",), ("chosen", "--forceall")])
def test_bucket_with_inputs(
    tmp_path: Path, server: Server, bucket: Bucket, words: tuple[str, ...]
) -> None:
    found = run(tmp_path, server, "no-such-bucket", bucket.name, *words, "--dry-run")
    assert_one_sentence(found, server, "no-such-bucket")


def test_only_the_buckets_of_the_rules_that_are_needed_are_asked(
    tmp_path: Path, server: Server, bucket: Bucket
) -> None:
    (tmp_path / "chosen.txt").write_text("1")
    found = run(tmp_path, server, bucket.name, "no-such-bucket", "chosen")
    assert "no-such-bucket" not in output_of(found)


@pytest.mark.parametrize("dry_run", [("--dry-run",), ()], ids=["dry run", "run"])
def test_results_of_the_workflow(
    tmp_path: Path, server: Server, bucket: Bucket, dry_run: tuple[str, ...]
) -> None:
    for name in iris_samples():
        bucket.upload(SAMPLES / name, name)
    project = Project(tmp_path, server.environment)
    project.configure(demo_config(str(bucket.url), "s3://no-such-bucket"))
    assert_one_sentence(project.snakemake(*dry_run), server, "no-such-bucket")
