"""Where the cache of a node lies."""

from __future__ import annotations

from pathlib import Path

import pytest

from s3fuse.cache import place
from s3fuse.cache.entries import Entry
from s3fuse.cache.place import kept, open_node_cache
from s3fuse.errors import RunDirError
from s3fuse.node.mount_table import file_system


def test_it_is_the_same_until_the_machine_starts_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = open_node_cache(tmp_path / "c")
    assert kept(tmp_path / "none") == []
    (first / "x").mkdir()
    assert open_node_cache(tmp_path / "c") == first
    assert first.stat().st_mode & 0o777 == 0o700
    # Another machine has the same disk, as a container may.
    monkeypatch.setattr(place, "_here", lambda: ("other", "boot"))
    other = open_node_cache(tmp_path / "c")
    assert kept(tmp_path / "c") == []
    Entry(other / "x", 5, "s3://b/x").close()
    assert [each.path for each in kept(tmp_path / "c")] == [other / "x"]
    monkeypatch.setattr(place, "_here", lambda: ("other", "later"))
    open_node_cache(tmp_path / "c")
    assert (first / "x").exists()
    assert not other.exists()


@pytest.mark.parametrize("kind", ["nfs4", "lustre", "fuse.sshfs"])
def test_a_file_system_of_several_machines_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(place, "file_system", lambda path: kind)
    with pytest.raises(RunDirError, match=rf"machines share \({kind}\); set cache_dir to a"):
        open_node_cache(tmp_path)


def test_the_type_of_a_file_system(tmp_path: Path) -> None:
    table = tmp_path / "mounts"
    table.write_text(
        "/dev/sda / ext4 rw 0 0\n"
        "tmpfs /tmp tmpfs rw 0 0\n"
        "server:/x /tmp/a\\040b nfs4 rw 0 0\n"
        "/dev/sdb /data xfs rw 0 0\n"
        "server:/y /data lustre rw 0 0\n"
    )
    assert file_system(Path("/usr"), table) == "ext4"
    assert file_system(Path("/tmp/a"), table) == "tmpfs"
    assert file_system(Path("/tmp/a b/c"), table) == "nfs4"
    assert file_system(Path("/data/c"), table) == "lustre"
    assert file_system(Path("/proc")) == "proc"
