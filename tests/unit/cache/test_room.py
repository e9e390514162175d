"""The room of a cache: never more than its bound, and what was used longest ago goes first."""

from __future__ import annotations

import fcntl
import os
import struct
from pathlib import Path

import pytest

from s3fuse.cache.entries import BLOCK, Entry, entries
from s3fuse.cache.room import NoRoom, Room


def fill(room: Room, name: str, blocks: int, moment: int = 0) -> None:
    entry = Entry(room.folder / name, blocks * BLOCK)
    room.take(entry, [range(blocks)])
    entry.write(bytes(blocks * BLOCK), 0)
    entry.mark(range(blocks))
    entry.close()
    os.utime(room.folder / name / "map", (moment, moment))


def names(room: Room) -> set[str]:
    return {each.path.name for each in entries(room.folder)}


def test_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    room = Room(tmp_path, 10 * BLOCK)
    for moment, name in enumerate("abc", 1):
        fill(room, name, 3, moment)
    fill(room, "d", 3, 4)
    assert names(room) == {"b", "c", "d"}
    # It is used.
    entry = Entry(tmp_path / "b", 3 * BLOCK)
    fill(room, "e", 3, 5)
    assert names(room) == {"b", "d", "e"}
    with pytest.raises(NoRoom):
        fill(room, "f", 9, 6)
    assert "b" in names(room)
    entry.close()


def test_the_bound_holds_for_all_together(tmp_path: Path) -> None:
    for number in range(20):
        fill(Room(tmp_path, 10 * BLOCK), str(number), 3, number)
        assert sum(each.held for each in entries(tmp_path)) <= 11 * BLOCK


def test_a_count_that_a_killed_process_has_left_too_high_is_mended(tmp_path: Path) -> None:
    room = Room(tmp_path, 10 * BLOCK)
    fill(room, "a", 3, 1)
    (tmp_path / "room").write_bytes(struct.pack("<Q", 10 * BLOCK))
    fill(room, "b", 3, 2)
    assert names(room) == {"a", "b"}
    assert struct.unpack("<Q", (tmp_path / "room").read_bytes()) == (6 * BLOCK,)


def test_a_count_that_is_gone_is_made_anew(tmp_path: Path) -> None:
    room = Room(tmp_path, 10 * BLOCK)
    for moment, name in enumerate("abc", 1):
        fill(room, name, 3, moment)
    (tmp_path / "room").unlink()
    fill(room, "d", 3, 4)
    assert names(room) == {"b", "c", "d"}


def test_a_process_that_is_stopped_with_the_lock_holds_up_nobody(tmp_path: Path) -> None:
    room = Room(tmp_path, 10 * BLOCK)
    fill(room, "a", 1)
    with (tmp_path / "room").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(NoRoom):
            fill(room, "b", 1)


def test_a_full_disk_is_no_room(tmp_path: Path) -> None:
    room = Room(tmp_path)
    status = os.statvfs(tmp_path)
    free = status.f_bavail * status.f_frsize
    entry = Entry(tmp_path / "x", 2 * free)
    with pytest.raises(NoRoom):
        room.take(entry, [range(free // BLOCK)])
    assert entry.missing(0, 1) == [range(0, 1)]
    entry.close()
