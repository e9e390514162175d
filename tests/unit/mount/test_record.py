import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from s3fuse.errors import RunDirError
from s3fuse.mount.record import RECORD, Mount, mounts_below, mounts_of_node
from s3fuse.mount.sweep import sweep
from s3fuse.mount.unmount import discard, unmount_all
from s3fuse.node.links import remove_links
from s3fuse.node.processes import Node

#: A user that is neither root nor the one of the tests.
SOMEBODY = 12345
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A directory that must stay as it is."""
    victim = tmp_path / "home/thesis"
    victim.mkdir(parents=True)
    (victim / "chapter1").touch()
    return victim


@pytest.fixture
def mount(tmp_path: Path) -> Mount:
    """A mount of a process that is gone, as it lies on disk."""
    directory, cache = tmp_path / "run/scope/data-x", tmp_path / "cache/scope/data-x"
    for path in (directory, cache):
        path.mkdir(parents=True)
        for each in (path, *path.parents[:2]):
            each.chmod(0o700)
    (tmp_path / "links").mkdir()
    made = Mount(
        *("data", directory, cache),
        identity="identity",
        read_write=False,
        links=tmp_path / "links",
        workdir=tmp_path,
        node=Node.here(),
        owner=None,
    )
    made.save()
    return made


def rewrite(mount: Mount, **values: Any) -> None:
    """Let the record say something else."""
    record = mount.directory / RECORD
    record.write_text(json.dumps(json.loads(record.read_text()) | values, default=str))


def left(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def test_a_record_is_what_was_saved(mount: Mount) -> None:
    assert Mount.load(mount.directory) == mount
    assert Mount.load(mount.cache) == mount
    root = mount.directory.parent.parent
    assert list(mounts_below(root / "scope")) == list(mounts_of_node(root)) == [mount]


@pytest.mark.parametrize("name", [b"latin-\xe9", b"a\nb", b"a\tb", b"a\\b", b"a,b"])
def test_a_record_holds_any_path(name: bytes, mount: Mount, tmp_path: Path) -> None:
    odd = replace(mount, workdir=tmp_path / os.fsdecode(name), links=tmp_path / os.fsdecode(name))
    odd.save()
    assert Mount.load(mount.directory) == odd


def test_a_record_may_name_its_places_in_another_way(mount: Mount, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "run")
    for root in (tmp_path / "run/../run", tmp_path / "link"):
        rewrite(mount, directory=root / "scope/data-x", links=tmp_path / "run/../links")
        assert len(list(mounts_of_node(tmp_path / "run"))) == 1


@pytest.mark.parametrize("parts", [(), ("scope",), ("scope", "data-x")])
@pytest.mark.parametrize("mode", [0o777, 0o770])
def test_a_record_that_others_could_have_written_is_not_read(
    mount: Mount, parts: tuple[str, ...], mode: int
) -> None:
    root = mount.directory.parent.parent
    root.joinpath(*parts).chmod(mode)
    assert Mount.load(mount.directory) is None
    if len(parts) < 2:
        with pytest.raises(RunDirError):
            list(mounts_of_node(root))
        with pytest.raises(RunDirError):
            list(mounts_below(root / "scope"))


@needs_root
@pytest.mark.parametrize("parts", [(), ("scope",), ("scope", "data-x")])
def test_a_record_of_somebody_else_is_not_read(
    mount: Mount, parts: tuple[str, ...], victim: Path
) -> None:
    root = mount.directory.parent.parent
    rewrite(mount, cache=victim)
    os.chown(root.joinpath(*parts), SOMEBODY, SOMEBODY)
    assert Mount.load(mount.directory) is None
    if not parts:
        for act in (mounts_of_node, sweep):
            with pytest.raises(RunDirError, match="is not a directory of yours"):
                list(act(root))  # type: ignore[operator]
    assert left(victim) == {"chapter1"}


def test_a_record_behind_a_link_is_not_read(mount: Mount, tmp_path: Path) -> None:
    record = mount.directory / RECORD
    record.rename(tmp_path / "record")
    record.symlink_to(tmp_path / "record")
    assert Mount.load(mount.directory) is None


@pytest.mark.parametrize(
    "values",
    [
        {"cache": "{victim}"},
        {"cache": "{victim}/../thesis"},
        {"cache": "/scope/data-x"},
        {"cache": "scope/data-x"},
        {"cache": "{victim}/scope/.."},
        {"directory": "{victim}"},
        {"directory": "{root}/scope/other"},
        {"directory": "{victim}", "cache": "{victim}"},
        {"links": "../.."},
        {"bucket": "../../../home/thesis"},
        {"bucket": "data/.."},
    ],
)
def test_a_record_that_names_other_places_is_not_believed(
    mount: Mount, victim: Path, values: dict[str, str]
) -> None:
    root = mount.directory.parent.parent
    rewrite(mount, **{name: text.format(victim=victim, root=root) for name, text in values.items()})
    assert Mount.load(mount.directory) is None
    assert list(mounts_of_node(root)) == []
    sweep(root, root.parent / "cache")
    assert left(victim) == {"chapter1"}


def test_an_abandoned_mount_is_removed_and_nothing_else(mount: Mount, victim: Path) -> None:
    (mount.cache / "data").mkdir()
    (mount.cache / "data/x").touch()
    (mount.cache / "data/link").symlink_to(victim)
    (mount.links / "theirs").symlink_to(victim)
    (mount.links / "into").symlink_to(mount.point / "x")
    assert sweep(mount.directory.parent.parent) == 1
    assert not mount.directory.parent.exists()
    assert not mount.cache.parent.exists()
    assert left(victim) == {"chapter1"}
    assert [path.name for path in mount.links.iterdir()] == ["theirs"]


def test_a_cache_without_a_mount_is_removed(mount: Mount) -> None:
    root = mount.directory.parent.parent
    (mount.directory / RECORD).unlink()
    mount.directory.rmdir()
    sweep(root, mount.cache.parent.parent)
    assert not mount.cache.exists()


def test_a_cache_that_is_a_link_by_now_is_not_followed(mount: Mount, victim: Path) -> None:
    (mount.cache / RECORD).unlink()
    mount.cache.rmdir()
    mount.cache.symlink_to(victim)
    with pytest.raises(RunDirError, match="is not a directory of yours"):
        discard(mount)
    mount.cache.parent.rename(mount.cache.parent.with_name("other"))
    mount.cache.parent.symlink_to(victim.parent)
    with pytest.raises(RunDirError, match="is not a directory of yours"):
        unmount_all([mount], 0)
    assert left(victim) == {"chapter1"}
    # It can be tried again.
    assert Mount.load(mount.directory) == mount


def test_links_below_a_link_are_left_alone(mount: Mount, victim: Path) -> None:
    (victim / "link").symlink_to(mount.point / "x")
    inner = mount.links / "a/b"
    inner.mkdir(parents=True)
    (inner / "link").symlink_to(mount.point / "x")
    (inner / "victim").symlink_to(victim)
    remove_links(mount.places, mount.links)
    assert [path.name for path in inner.iterdir()] == ["victim"]
    (victim.parent / "alias").symlink_to(victim)
    remove_links(mount.places, victim.parent / "alias")
    assert (victim / "link").is_symlink()
