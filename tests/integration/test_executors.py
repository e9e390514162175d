"""Jobs in processes that Snakemake hands over to an engine of somebody's own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from conftest import ROOT, MakeBucket, daemons, mounted, output_of, snakemake
from s3fuse.embedded_server import Server

pytestmark = pytest.mark.fuse

SNAKEFILE = Path(__file__).with_name("months.smk")
#: An engine: it runs a script beside everything else, and prints the number of the job.
SUBMIT = """\
#!/bin/bash
export JOB_ID=$$
setsid bash "$1" > "job-$JOB_ID.log" 2>&1 < /dev/null &
echo $JOB_ID
"""


def test_a_submit_script(tmp_path: Path, server: Server, make_bucket: MakeBucket) -> None:
    inputs, results = make_bucket(), make_bucket()
    months = [f"2026-{number:02d}" for number in range(1, 4)]
    for month in months:
        inputs.write(f"{month}.bin", month * 50_000)
    submit = tmp_path / "submit"
    submit.write_text(SUBMIT)
    submit.chmod(0o755)
    words = [
        *("--profile", ROOT / "profiles/cluster-generic", "--snakefile", SNAKEFILE),
        *("--cluster-generic-submit-cmd", submit, "--cluster-generic-cancel-cmd", "kill"),
        *("--remote-job-local-storage-prefix", tmp_path / "copies"),
        *("--storage-s3fuse-access", "mount", "--seconds-between-status-checks", "1"),
    ]
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
    assert not [path for path in Path(os.environ["TMPDIR"]).rglob("*") if path.is_file()]
