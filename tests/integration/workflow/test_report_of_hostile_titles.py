"""Texts of the configuration and names of objects cannot put a script into the report."""

from __future__ import annotations

import html
from pathlib import Path

import pytest

from conftest import Bucket, MakeBucket, output_of
from demo import SAMPLES
from integration.conftest import Project
from s3fuse.embedded_server import Server

TITLE = "</script><script>alert(1)</script> `x`_"
# Snakemake takes <word> in a path for a path variable.
KEY = "a<b &amp; c.pp"


@pytest.mark.slow
def test_no_script_gets_into_the_report(
    tmp_path: Path, server: Server, bucket: Bucket, make_bucket: MakeBucket
) -> None:
    results = make_bucket()
    bucket.upload(SAMPLES / "pre-industrial.pp", KEY)
    project = Project(tmp_path, server.environment)
    project.configure(
        {
            "results": str(results.url),
            "datasets": {
                "one": {
                    "title": TITLE,
                    "files": [f"{bucket.url}/{KEY}"],
                    "constraint": "air_temperature",
                    "baseline": [1860, 1860],
                }
            },
        }
    )
    run = project.snakemake(timeout=400)
    assert run.returncode == 0, output_of(run)
    record = results.contents()["record.html"].decode()
    assert "<script" not in record
    assert html.escape(TITLE) in record
    assert html.escape(KEY) in record

    made = project.snakemake("--report", "report.html", timeout=400)
    assert made.returncode == 0, output_of(made)
    report = (tmp_path / "report.html").read_text()
    assert "<script>alert" not in report
    # The title is there, as text.
    assert html.escape(TITLE, quote=False) in report
    again = project.snakemake("--dry-run", timeout=400)
    assert "Nothing to be done" in output_of(again), output_of(again)
