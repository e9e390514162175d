import os
import subprocess
import sys
from pathlib import Path

import pytest

from s3fuse.mount.sweep import sweep
from s3fuse.node.directories import SCRATCH
from s3fuse.node.job_directory import JobDirectory

MAKE = """
import sys
from pathlib import Path
from s3fuse.node.job_directory import JobDirectory
made = JobDirectory(Path(sys.argv[1]), Path(sys.argv[2]))
(made.path / "copy").write_text("content")
print(made.path, flush=True)
sys.stdin.read()
made.remove()
"""


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "42")


def another_process(*places: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", MAKE, *map(str, places)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_outside_of_batch_jobs_nothing_is_added(tmp_path: Path) -> None:
    scratch = JobDirectory(tmp_path / "copies", tmp_path / "root")
    assert scratch.path == tmp_path / "copies"
    scratch.remove()
    assert list(tmp_path.iterdir()) == []


def test_jobs_have_folders_of_their_own(
    job: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = JobDirectory(tmp_path / "copies", tmp_path / "root")
    monkeypatch.setenv("SLURM_JOB_ID", "43")
    second = JobDirectory(tmp_path / "copies", tmp_path / "root")
    first.remove()
    assert second.path.is_dir()
    assert not first.path.exists()
    second.remove()
    assert list((tmp_path / "copies").iterdir()) == []
    assert list((tmp_path / "root" / SCRATCH).iterdir()) == []


def test_the_folder_goes_with_the_process_that_came_first(job: None, tmp_path: Path) -> None:
    outer = JobDirectory(tmp_path / "copies", tmp_path / "root")
    with another_process(tmp_path / "copies", tmp_path / "root") as inner:
        inner.communicate()
    assert (outer.path / "copy").read_text() == "content"
    outer.remove()
    assert not outer.path.exists()


def test_the_folder_of_a_killed_job_is_removed_by_a_sweep(job: None, tmp_path: Path) -> None:
    with another_process(tmp_path / "copies", tmp_path / "root") as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        (folder / "link").symlink_to(tmp_path)
        sweep(tmp_path / "root")
        assert (folder / "copy").exists()
        process.kill()
    sweep(tmp_path / "root")
    assert not folder.exists()
    # Links are removed, not followed.
    assert (tmp_path / "root").is_dir()
    assert list((tmp_path / "root" / SCRATCH).iterdir()) == []
    assert os.environ["SLURM_JOB_ID"] == "42"
