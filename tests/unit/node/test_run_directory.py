import os
import subprocess
import sys
from pathlib import Path

import pytest

from s3fuse.node.run_directory import NOTE, VARIABLE, RunDirectory

MAKE = """
import sys
from pathlib import Path
from s3fuse.node.run_directory import RunDirectory
made = RunDirectory(Path(sys.argv[1]))
(made.path / "copy").write_text("content")
print(made.path, flush=True)
sys.stdin.read()
made.remove()
"""


def another_process(prefix: Path, *, is_child: bool = True) -> subprocess.Popen[str]:
    environment = {**os.environ} if is_child else {**os.environ, VARIABLE: ""}
    return subprocess.Popen(
        [sys.executable, "-c", MAKE, str(prefix)],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_run_has_a_directory_that_ends_with_it(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "local")
    assert run.path == tmp_path / "local/run-0"
    assert run.path.stat().st_mode & 0o777 == 0o700
    run.remove()
    assert list((tmp_path / "local").iterdir()) == []


def test_runs_at_the_same_time_have_directories_of_their_own(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    with another_process(tmp_path, is_child=False) as other:
        assert other.stdout is not None
        assert Path(other.stdout.readline().strip()) == tmp_path / "run-1"
        run.remove()
        assert (tmp_path / "run-1/copy").exists()
        other.communicate()
    assert list(tmp_path.iterdir()) == []


def test_the_directory_goes_with_the_process_that_made_it(tmp_path: Path) -> None:
    outer = RunDirectory(tmp_path)
    with another_process(tmp_path) as inner:
        inner.communicate()
    assert (outer.path / "copy").read_text() == "content"
    outer.remove()
    assert not outer.path.exists()


def test_runs_of_one_batch_job_have_directories_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "42")
    run = RunDirectory(tmp_path)
    with another_process(tmp_path, is_child=False) as other:
        assert other.stdout is not None
        assert Path(other.stdout.readline().strip()) != run.path
        other.communicate()
    assert run.path.is_dir()


def test_a_child_with_another_prefix_has_a_directory_of_its_own(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "a")
    assert RunDirectory(tmp_path / "b").path == tmp_path / "b/run-0"
    assert RunDirectory(tmp_path / "a").path == run.path


def test_many_runs_that_start_at_once_have_directories_of_their_own(tmp_path: Path) -> None:
    others = [another_process(tmp_path, is_child=False) for _ in range(8)]
    for other in others:
        assert other.stdout is not None
    found = {Path(o.stdout.readline().strip()) for o in others if o.stdout}
    for other in others:
        other.communicate()
    assert found == {tmp_path / f"run-{number}" for number in range(8)}
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_has_left_is_gone_before_the_next(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/x").write_text("mine")
    prefix = tmp_path / "local"
    with another_process(prefix, is_child=False) as process:
        assert process.stdout is not None
        left = Path(process.stdout.readline().strip())
        (left / "link").symlink_to(tmp_path / "outside")
        other = RunDirectory(prefix)
        assert (left / "copy").exists()
        process.kill()
    other.remove()
    with another_process(prefix, is_child=False) as later:
        later.communicate()
    assert list(prefix.iterdir()) == []
    # Links are removed, not followed.
    assert (tmp_path / "outside/x").read_text() == "mine"


def test_a_directory_is_clean_when_a_run_gets_it(tmp_path: Path) -> None:
    with another_process(tmp_path, is_child=False) as process:
        assert process.stdout is not None
        left = Path(process.stdout.readline().strip())
        process.kill()
    run = RunDirectory(tmp_path)
    assert run.path == left
    assert [path.name for path in run.path.iterdir()] == [NOTE]


def test_kept_copies_stay_below_the_prefix(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    for name in ("bucket/a", "bucket/deep/b", "bucket/tas/@folder/c", "bucket/other"):
        (run.path / name).parent.mkdir(parents=True, exist_ok=True)
        (run.path / name).write_text(name)
    (tmp_path / "bucket").mkdir()
    (tmp_path / "bucket/a").write_text("of the run before")
    kept = ("bucket/a", "bucket/deep/b", "bucket/tas/@folder", "bucket/gone")
    run.remove(run.path / name for name in kept)
    found = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()}
    assert found == {"bucket/a", "bucket/deep/b", "bucket/tas/@folder/c"}
    assert (tmp_path / "bucket/a").read_text() == "bucket/a"
