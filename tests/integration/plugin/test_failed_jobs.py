"""Whole runs: what failed jobs leave, and outputs that cannot be published as they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import Bucket, output_of, snakemake
from s3fuse.embedded_server import Server

pytestmark = pytest.mark.fuse

HEAD = """\
storage s3:
    provider="s3fuse",


rule all:
    default_target: True
    input:
        OUTPUT,


rule make:
    output:
        OUTPUT,
    shell:
        "SHELL"
"""
FAIL_ONCE = "; test -e {workdir}/tried || {{{{ touch {workdir}/tried; exit 1; }}}}"


def written(workdir: Path, bucket: Bucket, outputs: str, shell: str) -> None:
    """Write a Snakefile with one rule."""
    named = outputs.replace("s3:", f"s3://{bucket.name}/")
    text = HEAD.replace("OUTPUT", named).replace("SHELL", shell)
    (workdir / "Snakefile").write_text(text)


def test_a_second_attempt_starts_without_the_outputs_of_the_first(
    tmp_path: Path, bucket: Bucket, server: Server
) -> None:
    written(
        tmp_path,
        bucket,
        'storage.s3("s3:o.txt"), storage.s3("s3:d/")',
        "echo line >> {output[0]}; mkdir -p {output[1]}; touch {output[1]}/$$"
        + FAIL_ONCE.format(workdir=tmp_path),
    )
    words = ("--cores", "1", "--retries", "1")
    run = snakemake(tmp_path, *words, environment=server.environment)
    assert run.returncode == 0, output_of(run)
    contents = bucket.contents()
    assert contents["o.txt"] == b"line\n"
    assert len([key for key in contents if key.startswith("d/") and ".s3fuse" not in key]) == 1


@pytest.mark.parametrize("old", [None, "old"])
def test_ensure_looks_at_what_the_job_has_written(
    tmp_path: Path, bucket: Bucket, server: Server, old: str | None
) -> None:
    if old:
        bucket.write("o.txt", old)
    output = 'ensure(storage.s3("s3:o.txt"), non_empty=True)'
    target = HEAD.replace("        OUTPUT,\n\n\nrule make", "        TARGET,\n\n\nrule make")
    for shell, code in ((": > {output}", 1), ("echo new > {output}", 0)):
        text = target.replace("TARGET", 'storage.s3("s3:o.txt")').replace("OUTPUT", output)
        text = text.replace("s3:o", f"s3://{bucket.name}/o").replace("SHELL", shell)
        (tmp_path / "Snakefile").write_text(text)
        run = snakemake(
            tmp_path, "--cores", "1", "--forcerun", "make", environment=server.environment
        )
        assert run.returncode == code, output_of(run)
        found = bucket.contents().get("o.txt")
        assert found == (b"new\n" if code == 0 else old and old.encode())


@pytest.mark.parametrize(
    ("outputs", "shell", "sentence"),
    [
        (
            'storage.s3("s3:d/"), storage.s3("s3:d/x")',
            "mkdir -p {output[0]}; echo 1 > {output[0]}/x; echo 2 > {output[1]}",
            "of the same job would both become",
        ),
        (
            'storage.s3("s3:d/"), storage.s3("s3:d/e/")',
            "mkdir -p {output[0]}/e {output[1]}; touch {output[0]}/e/x {output[1]}/x",
            "of the same job would both become",
        ),
        ('storage.s3("s3:d/")', "touch {output}", "is a file, and s3:"),
        ('storage.s3("s3:a"), storage.s3("s3:d/")', "touch {output}", "is a file, and s3:"),
        ('storage.s3("s3:y")', "mkdir {output}; touch {output}/z", "is a directory, and s3:"),
    ],
)
def test_what_cannot_be_published_is_refused_before_anything_is_sent(
    tmp_path: Path, bucket: Bucket, server: Server, outputs: str, shell: str, sentence: str
) -> None:
    written(tmp_path, bucket, outputs, shell)
    run = snakemake(tmp_path, "--cores", "1", environment=server.environment)
    assert run.returncode == 1, output_of(run)
    assert output_of(run).count(sentence) == 1, output_of(run)
    assert bucket.contents() == {}
