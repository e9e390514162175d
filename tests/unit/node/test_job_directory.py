import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from s3fuse.errors import RunDirError
from s3fuse.mount.sweep import sweep
from s3fuse.node.directories import SCRATCH
from s3fuse.node.job_directory import JobDirectory, _note_name, remove_abandoned
from s3fuse.node.processes import Node

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


def note_of(path: Path, note: Path, text: Path) -> None:
    """Write a note of a process that is gone."""
    note.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    gone = {"pid": 2**22 + 1, "started": 1}
    content = {"path": str(text), "node": asdict(Node.here()), "process": gone}
    (note.parent / _note_name(path)).write_text(json.dumps(content))


def test_a_note_leads_to_the_folder_that_it_is_named_after_only(tmp_path: Path) -> None:
    victim = tmp_path / "job-thesis"
    victim.mkdir()
    (victim / "chapter1").touch()
    note = tmp_path / "root" / SCRATCH / "note"
    (tmp_path / "root").mkdir(mode=0o700)
    # The note of another folder, a folder that is none of a job, and a link.
    note_of(tmp_path / "job-1", note, victim)
    (tmp_path / "thesis").mkdir()
    note_of(tmp_path / "thesis", note, tmp_path / "thesis")
    (tmp_path / "job-2").symlink_to(victim)
    note_of(tmp_path / "job-2", note, tmp_path / "job-2")
    remove_abandoned(tmp_path / "root")
    assert (victim / "chapter1").exists()
    assert (tmp_path / "thesis").exists()


def test_notes_that_others_could_have_written_are_not_read(tmp_path: Path) -> None:
    folder = tmp_path / "job-1"
    folder.mkdir()
    root = tmp_path / "root"
    root.mkdir(mode=0o700)
    note_of(folder, root / SCRATCH / "note", folder)
    for path in (root, root / SCRATCH):
        path.chmod(0o777)
        with pytest.raises(RunDirError, match="can be written by others"):
            remove_abandoned(root)
        path.chmod(0o700)
    assert folder.exists()
    remove_abandoned(root)
    assert not folder.exists()


def test_a_folder_that_others_could_have_put_there_is_left_alone(tmp_path: Path) -> None:
    # A temp directory was cleaned, and somebody made a link where the prefix was.
    shared = tmp_path / "tmp"
    shared.mkdir()
    shared.chmod(0o777)
    results = tmp_path / "results/s3/job-1"
    results.mkdir(parents=True)
    (shared / "prefix").symlink_to(tmp_path / "results")
    folder = shared / "prefix/s3/job-1"
    (tmp_path / "root").mkdir(mode=0o700)
    note_of(folder, tmp_path / "root" / SCRATCH / "note", folder)
    remove_abandoned(tmp_path / "root")
    assert results.exists()
    assert len(list((tmp_path / "root" / SCRATCH).iterdir())) == 1
