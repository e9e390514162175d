import os
from pathlib import Path

import pytest

from s3fuse.errors import RunDirError
from s3fuse.inputs.placement import Access
from s3fuse.s3.connection import Connection
from s3fuse.session import Session, SessionOptions


def session(prefix: Path, root: Path) -> Session:
    options = SessionOptions(access=Access.COPY, mount_root=root, cache_dir=root)
    return Session(Connection("http://127.0.0.1:1"), prefix, options)


def test_a_prefix_that_others_could_replace_ends_a_session_before_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "42")
    prefix = tmp_path / "snakemake-me/s3"
    prefix.mkdir(parents=True)
    prefix.parent.chmod(0o777)
    with pytest.raises(RunDirError, match="Others could replace"):
        session(prefix, tmp_path / "root")
    assert list(prefix.iterdir()) == []
    assert not (tmp_path / "root").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_run_time_directory_of_somebody_else_ends_a_session_before_it_begins(
    tmp_path: Path,
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    os.chown(root, 12345, 12345)
    with pytest.raises(RunDirError, match="is not a directory of yours"):
        session(tmp_path / "prefix", root)


def test_a_run_time_directory_that_appears_during_a_session_is_not_believed(
    tmp_path: Path,
) -> None:
    made = session(tmp_path / "prefix", tmp_path / "root")
    (tmp_path / "root").mkdir()
    (tmp_path / "root").chmod(0o777)
    with pytest.raises(RunDirError, match="can be written by others"):
        made.close()
