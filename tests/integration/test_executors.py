"""Jobs in processes that Snakemake hands over to an engine of somebody's own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT, Bucket, MakeBucket, daemons, mounted, output_of, snakemake
from moto_store import serving_versions
from reliability.runs import left_in
from s3fuse.embedded_server import Server
from s3fuse.s3.store import Store
from s3fuse.urls import S3Url

pytestmark = pytest.mark.fuse

SNAKEFILE = Path(__file__).with_name("months.smk")
#: An engine: it runs a script beside everything else, and prints the number of the job.
SUBMIT = """\
#!/bin/bash
export JOB_ID=$$
setsid bash "$1" > "job-$JOB_ID.log" 2>&1 < /dev/null &
echo $JOB_ID
"""

#: Two jobs that read the same, one after the other.
TWICE = """\
storage s3:
    provider="s3fuse",


rule all:
    input:
        storage.s3("s3://BUCKET/out/2.txt"),


rule one:
    input:
        storage.s3("s3://BUCKET/INPUT"),
    output:
        storage.s3("s3://BUCKET/out/1.txt"),
    shell:
        "cat {input}FILES > {output}"


rule two:
    input:
        storage.s3("s3://BUCKET/INPUT"),
        storage.s3("s3://BUCKET/out/1.txt"),
    output:
        storage.s3("s3://BUCKET/out/2.txt"),
    shell:
        "cat {input[0]}FILES > {output}"
"""
#: What somebody does before the second job begins.
REPLACE = """\
from s3fuse import Store
from s3fuse.s3.connection import Connection

files = Store(Connection.from_environment()).filesystem
files.pipe_file("BUCKET/in/x", b"second")
files.pipe_file("BUCKET/in/y", b" and more")
"""


def submitting(folder: Path, before: str = "") -> list[object]:
    """Words that let Snakemake send jobs to the engine; each script begins with a command."""
    submit = folder / "submit"
    submit.write_text(SUBMIT.replace("export", f"{before}\nexport", 1))
    submit.chmod(0o755)
    return [
        *("--profile", ROOT / "profiles/cluster-generic"),
        *("--cluster-generic-submit-cmd", submit, "--cluster-generic-cancel-cmd", "kill"),
        *("--remote-job-local-storage-prefix", folder / "copies"),
        *("--storage-s3fuse-access", "mount", "--seconds-between-status-checks", "1"),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("old", ["gone", "on the node", "in the bucket"])
@pytest.mark.parametrize("wanted", ["in/x", "in/"])
def test_all_jobs_of_a_run_read_what_it_has_planned_with(
    tmp_path: Path, wanted: str, old: str
) -> None:
    with serving_versions() as server:
        store, url = Store(server.connection), S3Url("bucket")
        store.call("create_bucket", url, "create")
        if old == "in the bucket":
            enabled = {"Status": "Enabled"}
            store.call("put_bucket_versioning", url, "change", VersioningConfiguration=enabled)
        store.filesystem.pipe_file("bucket/in/x", b"first")
        files = "/*" if wanted.endswith("/") else ""
        text = TWICE.replace("INPUT", wanted).replace("FILES", files).replace("BUCKET", "bucket")
        (tmp_path / "Snakefile").write_text(text)
        (tmp_path / "replace.py").write_text(REPLACE.replace("BUCKET", "bucket"))
        before = f"{sys.executable} replace.py"
        if old != "on the node":
            before += f"; {sys.executable} -m s3fuse cache --clear"
        words = submitting(tmp_path, f'grep -q "two" "$1" && {{ {before}; }}')
        run = snakemake(tmp_path, *words, environment=server.environment)
        made = {
            key: store.filesystem.cat_file(f"bucket/{key}")
            for key in store.list(url.child("out/"), recursive=True).objects
        }
    if old != "gone":
        assert run.returncode == 0, output_of(run)
        assert made == {"out/1.txt": b"first", "out/2.txt": b"first"}
    else:
        assert run.returncode == 1
        assert made == {"out/1.txt": b"first"}
        logs = "".join(log.read_text() for log in tmp_path.glob("job-*.log"))
        assert "s3://bucket/in/x was replaced" in logs


#: A folder that others and a job of the run write into.
INTO = """\
storage s3:
    provider="s3fuse",


rule all:
    input:
        storage.s3("s3://BUCKET/names.txt"),


rule more:
    output:
        storage.s3("s3://BUCKET/in/new"),
    shell:
        "echo new > {output}"


rule names:
    input:
        storage.s3("s3://BUCKET/in/"),
        storage.s3("s3://BUCKET/in/new"),
    output:
        storage.s3("s3://BUCKET/names.txt"),
    shell:
        "ls {input[0]} > {output}"
"""


@pytest.mark.slow
def test_a_folder_has_what_jobs_of_the_run_wrote_into_it(
    tmp_path: Path, server: Server, bucket: Bucket
) -> None:
    bucket.write("in/old", "old")
    (tmp_path / "Snakefile").write_text(INTO.replace("BUCKET", bucket.name))
    run = snakemake(tmp_path, *submitting(tmp_path), environment=server.environment)
    assert run.returncode == 0, output_of(run)
    assert bucket.contents()["names.txt"] == b"new\nold\n"


def test_a_submit_script(tmp_path: Path, server: Server, make_bucket: MakeBucket) -> None:
    inputs, results = make_bucket(), make_bucket()
    months = [f"2026-{number:02d}" for number in range(1, 4)]
    for month in months:
        inputs.write(f"{month}.bin", month * 50_000)
    words = [*submitting(tmp_path), "--snakefile", SNAKEFILE]
    config = ["--config", f"inputs={inputs.url}", f"results={results.url}"]

    run = snakemake(tmp_path, *words, *config, environment=server.environment)

    assert run.returncode == 0, output_of(run)
    for month in months:
        expected = subprocess.check_output(["sha256sum"], input=(month * 50_000).encode())
        assert results.contents()[f"{month}.txt"] == expected
    # Each job has mounted for itself, and left nothing.
    logs = [log.read_text() for log in tmp_path.glob("job-*.log")]
    assert [log.count("Mounted s3://") for log in logs] == [1, 1, 1]
    assert mounted() == []
    assert [name for name in daemons() if name.startswith("s3fs")] == []
    assert not list((tmp_path / "copies").glob("*/job-*"))
    assert left_in(Path(os.environ["TMPDIR"])) == []
