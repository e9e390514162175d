import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from s3fuse.errors import RunDirError
from s3fuse.node import directories, processes
from s3fuse.node.directories import scope, secure_directory
from s3fuse.node.locks import locked
from s3fuse.node.processes import Node, Process


def test_a_directory_is_made_for_us_alone(tmp_path: Path) -> None:
    path = secure_directory(tmp_path / "a" / "b")
    assert path.stat().st_mode & 0o777 == 0o700


def test_a_directory_that_others_can_write_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(RunDirError, match=f"{tmp_path} can be written by others"):
        secure_directory(tmp_path)


def test_a_link_in_place_of_a_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with pytest.raises(RunDirError, match="is not a directory of yours"):
        secure_directory(tmp_path / "link")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_somebody_else_is_refused(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, 12345)
    with pytest.raises(RunDirError, match="is not a directory of yours"):
        secure_directory(tmp_path)


def test_a_batch_job_has_a_scope_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = scope(tmp_path)
    assert scope(tmp_path) == plain
    assert scope(tmp_path.parent) != plain
    monkeypatch.setenv("SLURM_JOB_ID", "42")
    assert scope(tmp_path) != plain


def test_a_batch_job_does_not_trust_the_run_time_directory_it_inherits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/12345")
    assert directories.default_mount_root() == Path("/run/user/12345/s3fuse")
    monkeypatch.setenv("SLURM_JOB_ID", "42")
    assert directories.default_mount_root().parent == Path(os.environ["TMPDIR"])


def test_a_process_is_not_mistaken_for_a_later_one() -> None:
    me = Process.of(os.getpid())
    assert me.handle is not None
    assert Process(me.pid, me.started - 1).handle is None
    ended = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True
    )
    assert Process(int(ended.stdout), 0.0).handle is None


def test_what_another_machine_or_container_did_is_not_judged_here() -> None:
    here = Node.here()
    assert not here.is_elsewhere
    assert replace(here, host="another").is_elsewhere
    assert replace(here, namespaces="pid:[1] mnt:[1]").is_elsewhere
    # A namespace does not survive a boot, so this was here.
    assert not replace(here, boot="before", namespaces="pid:[1] mnt:[1]").is_elsewhere


def test_children_find_the_owner_of_their_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(processes.OWNER_VARIABLE, raising=False)
    owner = processes.current_owner()
    assert owner.pid == os.getpid()
    code = "from s3fuse.node.processes import current_owner; print(current_owner().pid)"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(child.stdout) == os.getpid()


def test_an_owner_that_is_no_ancestor_is_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    # As when a batch job on another node inherits the environment.
    monkeypatch.setenv(processes.OWNER_VARIABLE, f"{2**22 + 1}:{Process.of(os.getpid()).started}")
    assert processes.current_owner().pid == os.getpid()


def test_a_lock_excludes_others_until_it_is_free(tmp_path: Path) -> None:
    with locked(tmp_path) as held:
        assert held
        with locked(tmp_path, wait=False) as again:
            assert not again
    with locked(tmp_path, wait=False) as held:
        assert held


def test_a_scope_that_others_remove_meanwhile_is_locked_all_the_same(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from s3fuse.node.locks import locked
from s3fuse.mount.unmount import remove_empty_scope
directory = Path(sys.argv[1])
for _ in range(1000):
    with locked(directory):
        # Fails where somebody else is in here.
        (directory / "mine").touch(exist_ok=False)
        (directory / "mine").unlink()
        remove_empty_scope(directory)
"""
    command = [sys.executable, "-c", code, tmp_path / "scope"]
    others = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    assert [other.communicate()[1] for other in others] == [""] * 4
    assert not (tmp_path / "scope").exists()
