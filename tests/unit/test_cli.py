import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from s3fuse.cli import _one_line, _printable, main

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The run-time directory of a batch job, which anybody could have created."""
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    tmp_path.chmod(0o1777)
    root = tmp_path / f"s3fuse-{os.geteuid()}"
    root.mkdir()
    (root / "uploads").mkdir()
    (root / "uploads/note.json").write_text("{}")
    return root


@pytest.mark.parametrize(
    "words", [["status"], ["status", "--all"], ["status", "--json"], ["unmount"], ["clean"]]
)
@pytest.mark.parametrize("kind", ["open", pytest.param("theirs", marks=needs_root)])
def test_a_directory_that_others_could_have_filled_is_refused(
    root: Path, words: list[str], kind: str
) -> None:
    if kind == "open":
        root.chmod(0o777)
        reason = f"{root} can be written by others"
    else:
        os.chown(root, 12345, 12345)
        reason = f"{root} is not a directory of yours"
    run = CliRunner().invoke(main, words)
    assert run.exit_code == 1
    assert run.stderr.startswith(f"s3fuse: {reason}")
    assert run.stderr.count("\n") == 1
    assert run.stdout == ""
    assert (root / "uploads/note.json").exists()


def test_a_mount_in_such_a_directory_is_no_mount(root: Path) -> None:
    inner = root / "scope/data-x"
    inner.mkdir(parents=True)
    (inner / "record.json").write_text("{}")
    root.chmod(0o777)
    run = CliRunner().invoke(main, ["unmount", str(inner / "mount")])
    assert run.exit_code == 2
    assert "is neither s3://BUCKET nor in a mount" in run.stderr


def test_completion_says_nothing_about_such_a_directory(root: Path) -> None:
    root.chmod(0o777)
    environment = {"_S3FUSE_COMPLETE": "bash_complete", "COMP_WORDS": "s3fuse unmount s3"}
    environment["COMP_CWORD"] = "2"
    run = CliRunner().invoke(main, env=environment, prog_name="s3fuse")
    assert (run.exit_code, run.output.strip()) == (0, "")


def test_doctor_names_such_a_directory(root: Path) -> None:
    root.chmod(0o777)
    run = CliRunner().invoke(main, ["doctor", "--endpoint-url", "http://127.0.0.1:1"])
    assert f"directories  {root} can be written by others" in run.output
    assert "left behind  needs: directories" in run.output


def test_paths_are_shown_in_one_line() -> None:
    assert _one_line("a\nb\tc\\d") == r"a\nb\tc\d"
    assert _printable(os.fsdecode(b"latin-\xe9")) == r"latin-\udce9"
    assert _printable("gr\xf6\xdfe") == "gr\xf6\xdfe"
