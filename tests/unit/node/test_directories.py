import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from s3fuse.errors import RunDirError
from s3fuse.node import directories, processes
from s3fuse.node.directories import (
    existing_directory,
    is_secure,
    remove_tree,
    scope,
    secure_directory,
    secure_prefix,
)
from s3fuse.node.locks import locked
from s3fuse.node.processes import Node, Process

#: A user that is neither root nor the one of the tests.
SOMEBODY = 12345

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")


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


@needs_root
def test_a_directory_of_somebody_else_is_refused(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, 12345)
    with pytest.raises(RunDirError, match="is not a directory of yours"):
        secure_directory(tmp_path)


def test_nothing_is_made_by_a_look(tmp_path: Path) -> None:
    assert not existing_directory(tmp_path / "a")
    assert not existing_directory(tmp_path / "a/b")
    (tmp_path / "file").touch()
    assert not existing_directory(tmp_path / "file/b")
    with pytest.raises(RunDirError, match="is not a directory of yours"):
        existing_directory(tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@needs_root
@pytest.mark.parametrize("inner", ["", "scope", "scope/data-x"])
def test_a_directory_that_cannot_be_looked_at_is_refused(tmp_path: Path, inner: str) -> None:
    (tmp_path / "closed/s3fuse/scope/data-x").mkdir(parents=True)
    (tmp_path / "closed").chmod(0o700)
    os.seteuid(SOMEBODY)
    try:
        for check in (secure_directory, existing_directory, secure_prefix):
            with pytest.raises(RunDirError):
                check(tmp_path / "closed/s3fuse" / inner)
    finally:
        os.seteuid(0)


def test_a_loop_of_links_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    for check in (secure_directory, secure_prefix):
        with pytest.raises(RunDirError, match="cannot be made"):
            check(tmp_path / "a/x")


def test_a_directory_below_one_in_which_everybody_may_rename_it_is_refused(tmp_path: Path) -> None:
    inner = tmp_path / "open/ours"
    inner.mkdir(mode=0o700, parents=True)
    inner.parent.chmod(0o777)
    for check in (secure_directory, existing_directory, secure_prefix):
        with pytest.raises(RunDirError, match=f"Others could replace {inner}, because .*/open "):
            check(inner)
        with pytest.raises(RunDirError, match=f"Others could replace {inner}/x, because"):
            secure_directory(inner / "x")
    assert not is_secure(inner)
    # As in /tmp, only the owner may rename it.
    inner.parent.chmod(0o1777)
    assert is_secure(inner)
    assert secure_prefix(inner) == inner


@needs_root
@pytest.mark.parametrize("mode", [0o777, 0o755])
def test_a_directory_below_one_that_somebody_has_made_in_tmp_is_refused(
    tmp_path: Path, mode: int
) -> None:
    tmp_path.chmod(0o1777)
    theirs = tmp_path / "snakemake-me"
    theirs.mkdir()
    theirs.chmod(mode)
    os.chown(theirs, SOMEBODY, SOMEBODY)
    for check in (secure_directory, secure_prefix):
        with pytest.raises(RunDirError, match=f"Others could replace .*, because {theirs} "):
            check(theirs / "s3")
    assert list(theirs.iterdir()) == []


def test_a_directory_behind_a_link_in_an_open_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real/inner").mkdir(parents=True)
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "open/link").symlink_to(tmp_path / "real")
    (tmp_path / "link").symlink_to(tmp_path / "open/link")
    for written in ("open/link/inner", "link/inner"):
        with pytest.raises(RunDirError, match="Others could replace"):
            secure_directory(tmp_path / written / "x")


def test_a_local_prefix_is_made_for_us_alone(tmp_path: Path) -> None:
    assert secure_prefix(tmp_path / "a/b").stat().st_mode & 0o777 == 0o700


def test_a_local_prefix_that_everybody_may_write_is_refused(tmp_path: Path) -> None:
    prefix = tmp_path / "prefix"
    prefix.mkdir()
    prefix.chmod(0o777)
    with pytest.raises(RunDirError, match=f"{prefix} can be written by others"):
        secure_prefix(prefix)
    prefix.chmod(0o1777)
    with pytest.raises(RunDirError, match=f"{prefix} can be written by others"):
        secure_prefix(prefix)


def test_a_local_prefix_of_a_group_is_accepted(tmp_path: Path) -> None:
    # As directories are made with the umask 002.
    prefix = tmp_path / ".snakemake/storage/s3"
    prefix.mkdir(parents=True)
    for path in (tmp_path, prefix.parent.parent, prefix.parent, prefix):
        path.chmod(0o2775)
    assert secure_prefix(prefix) == prefix


def test_a_local_prefix_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with pytest.raises(RunDirError, match="is not a directory of yours"):
        secure_prefix(tmp_path / "link")


@needs_root
def test_a_local_prefix_of_somebody_else_is_refused(tmp_path: Path) -> None:
    os.chown(tmp_path, SOMEBODY, SOMEBODY)
    with pytest.raises(RunDirError, match="is not a directory of yours; remove it, or set local-"):
        secure_prefix(tmp_path)


def test_a_working_directory_that_everybody_may_write_keeps_its_prefix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As the volumes of Kubernetes are; the workflow itself lies there.
    tmp_path.chmod(0o777)
    monkeypatch.chdir(tmp_path)
    assert secure_prefix(Path(".snakemake/storage/s3")).is_dir()
    tmp_path.joinpath(".snakemake").chmod(0o777)
    with pytest.raises(RunDirError, match="Others could replace"):
        secure_prefix(Path(".snakemake/storage/s3"))


@needs_root
def test_a_working_directory_in_a_project_of_somebody_keeps_its_prefix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As on a scratch disk where every user can create a directory.
    tmp_path.chmod(0o1777)
    workdir = tmp_path / "project/workdir"
    workdir.mkdir(parents=True)
    os.chown(workdir.parent, SOMEBODY, SOMEBODY)
    monkeypatch.chdir(workdir)
    assert secure_prefix(Path(".snakemake/storage/s3")).is_dir()
    monkeypatch.chdir("/")
    with pytest.raises(RunDirError, match="Others could replace"):
        secure_prefix(workdir / ".snakemake/storage/s3")


def test_a_tree_is_removed_without_following_links(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "thesis").touch()
    root = secure_directory(tmp_path / "root")
    (root / "tree/inner").mkdir(parents=True)
    (root / "tree/inner/link").symlink_to(victim)
    remove_tree(root, "tree")
    assert list(root.iterdir()) == []
    # Neither is the name itself, nor the directory that it is in.
    (root / "tree").symlink_to(victim)
    remove_tree(root, "tree")
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(RunDirError):
        remove_tree(tmp_path / "link", "victim")
    for name in ("", ".", "..", "../victim", "a/b"):
        with pytest.raises(ValueError, match=name or "^$"):
            remove_tree(root, name)
    assert (victim / "thesis").exists()


def test_a_scope_has_no_character_with_a_meaning_to_s3fs_or_the_kernel(tmp_path: Path) -> None:
    names = [
        "a,allow_other",
        "a b",
        "a\\b",
        "a\nb",
        "a\tb",
        "gr\xf6\xdfe",
        os.fsdecode(b"\xe9"),
        "-rf",
    ]
    scopes = {scope(tmp_path / name) for name in names}
    assert len(scopes) == len(names)
    for each in scopes:
        assert set(each) <= set("abcdefghijklmnopqrstuvwxyz0123456789._-")


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
