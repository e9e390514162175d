"""Entries: only what has come is there, and who uses one keeps it."""

from __future__ import annotations

import fcntl
import os
import random
from pathlib import Path

import pytest

from s3fuse.cache.entries import BLOCK, Entry, Gone, entries, lock, remove, remove_unused

SIZE = 5 * BLOCK + 7
CONTENT = random.Random(0).randbytes(SIZE)


def bring(entry: Entry, first: int, last: int) -> None:
    span = range(first, last)
    assert entry.lock(span)
    entry.write(CONTENT[first * BLOCK : last * BLOCK], first * BLOCK)
    entry.mark(span)
    entry.unlock(span)


def test_what_has_come_is_there_for_whoever_opens_it_later(tmp_path: Path) -> None:
    first = Entry(tmp_path / "x", SIZE)
    bring(first, 1, 3)
    first.close()
    second = Entry(tmp_path / "x", SIZE)
    assert second.missing(0, 6) == [range(0, 1), range(3, 6)]
    assert os.pread(second.data.fileno(), 2 * BLOCK, BLOCK) == CONTENT[BLOCK : 3 * BLOCK]
    assert not second.is_whole
    for number in (0, 3, 4, 5):
        bring(second, number, number + 1)
    assert second.is_whole
    with second.reopened() as file:
        second.close()
        assert file.read() == CONTENT


def test_a_block_is_fetched_by_one_at_a_time(tmp_path: Path) -> None:
    one, other = (Entry(tmp_path / "x", SIZE) for _ in range(2))
    assert one.lock(range(1, 3))
    assert not other.lock(range(2, 4))
    assert other.lock(range(3, 6))
    one.unlock(range(1, 3))
    assert other.lock(range(1, 3))
    other.close()
    # As when it is killed.
    assert one.lock(range(0, 6))
    one.close()


def test_who_uses_it_keeps_it(tmp_path: Path) -> None:
    entry = Entry(tmp_path / "x", SIZE)
    assert not remove_unused(entry.path)
    entry.close()
    assert remove_unused(entry.path)
    assert not list(tmp_path.iterdir())


def test_what_is_linked_is_kept(tmp_path: Path) -> None:
    folder = tmp_path / "node"
    folder.mkdir()
    entry = Entry(folder / "x", SIZE)
    bring(entry, 0, 6)
    entry.link(tmp_path / "link")
    entry.close()
    assert not remove_unused(folder / "x")
    assert (tmp_path / "link").read_bytes() == CONTENT
    (tmp_path / "link").unlink()
    assert remove_unused(folder / "x")


def test_what_is_removed_under_a_reader_is_read_on(tmp_path: Path) -> None:
    entry = Entry(tmp_path / "x", SIZE)
    bring(entry, 0, 3)
    remove(entry.path)
    bring(entry, 3, 6)
    assert os.pread(entry.data.fileno(), SIZE, 0) == CONTENT
    new = Entry(tmp_path / "x", SIZE)
    assert new.missing(0, 6) == [range(0, 6)]
    with pytest.raises(Gone):
        entry.link(tmp_path / "link")
    assert not (tmp_path / "link").exists()


def test_it_is_not_opened_while_it_is_removed(tmp_path: Path) -> None:
    Entry(tmp_path / "x", SIZE).close()
    with (tmp_path / "x/map").open("r+b") as file:
        assert lock(file.fileno(), 2**62, 1, fcntl.F_WRLCK)
        with pytest.raises(Gone):
            Entry(tmp_path / "x", SIZE)
    Entry(tmp_path / "x", SIZE).close()


@pytest.mark.parametrize("lost", ["data", "map"])
def test_what_a_cleaner_of_temp_directories_leaves_is_not_believed(
    tmp_path: Path, lost: str
) -> None:
    entry = Entry(tmp_path / "x", SIZE)
    bring(entry, 0, 6)
    entry.close()
    (tmp_path / "x" / lost).unlink()
    with pytest.raises(Gone):
        Entry(tmp_path / "x", SIZE)
    assert Entry(tmp_path / "x", SIZE).missing(0, 6) == [range(0, 6)]


def test_a_map_that_was_cut_is_not_believed(tmp_path: Path) -> None:
    entry = Entry(tmp_path / "x", SIZE)
    bring(entry, 0, 6)
    entry.close()
    os.truncate(tmp_path / "x/map", 28)
    with pytest.raises(Gone):
        Entry(tmp_path / "x", SIZE)
    assert Entry(tmp_path / "x", SIZE).missing(0, 6) == [range(0, 6)]


def test_what_was_edited_is_not_believed(tmp_path: Path) -> None:
    entry = Entry(tmp_path / "x", SIZE)
    bring(entry, 0, 6)
    entry.compared()
    entry.close()
    status = (tmp_path / "x/data").stat()
    os.utime(tmp_path / "x/data", ns=(status.st_atime_ns, status.st_mtime_ns))
    Entry(tmp_path / "x", SIZE).close()
    with (tmp_path / "x/data").open("r+b") as file:
        file.write(b"edited")
    with pytest.raises(Gone):
        Entry(tmp_path / "x", SIZE)
    assert not Entry(tmp_path / "x", SIZE).is_compared


def test_one_that_is_made_while_it_is_opened_is_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def faster(self: Path, target: Path) -> None:
        monkeypatch.undo()
        Entry(tmp_path / "x", SIZE).close()
        self.rename(target)

    monkeypatch.setattr(Path, "rename", faster)
    with pytest.raises(Gone):
        Entry(tmp_path / "x", SIZE)
    Entry(tmp_path / "x", SIZE).close()
    assert [each.name for each in tmp_path.iterdir()] == ["x"]


def test_what_a_killed_process_was_making_counts_as_unused(tmp_path: Path) -> None:
    (tmp_path / "new-1").mkdir()
    (tmp_path / "new-1/data").write_bytes(b"")
    assert [(each.held, each.used) for each in entries(tmp_path)] == [(0, 0)]
    assert remove_unused(tmp_path / "new-1")
    assert not list(tmp_path.iterdir())


def test_an_empty_object_is_whole(tmp_path: Path) -> None:
    entry = Entry(tmp_path / "x", 0)
    assert entry.is_whole
    entry.link(tmp_path / "link")
    assert (tmp_path / "link").read_bytes() == b""
    entry.close()
