"""Room for s3fs: what is given up for it, and when."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from s3fuse.cache.entries import BLOCK, Entry, entries
from s3fuse.cache.room import Room
from s3fuse.gateway.reserve import BALLAST, LEAST, Reserve

MEGABYTE = 2**20


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder where hardly anybody else writes."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        (Path(folder) / "node").mkdir()
        yield Path(folder)


def reserve_of(folder: Path, left: int) -> Reserve:
    """The reserve of a gateway whose s3fs may use so many bytes."""
    status = os.statvfs(folder)
    free = status.f_bavail * status.f_frsize
    return Reserve(folder, free - left, Room(folder / "node"))


def held(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("reserve"))


def test_it_is_held_while_there_is_room_and_given_up_then(memory: Path) -> None:
    reserve = reserve_of(memory, 30 * MEGABYTE)
    reserve.keep(5 * MEGABYTE)
    assert held(memory) == BALLAST
    reserve.keep(20 * MEGABYTE)
    assert held(memory) == BALLAST
    # Others have taken the rest.
    reserve.keep(30 * MEGABYTE - BALLAST)
    assert held(memory) == 0
    # It is not taken back where s3fs may want it.
    reserve.keep(25 * MEGABYTE)
    assert held(memory) == 0
    reserve.keep(5 * MEGABYTE)
    assert held(memory) == BALLAST
    # The one of a gateway that was killed is found.
    status = os.statvfs(memory)
    after = Reserve(memory, status.f_bavail * status.f_frsize, Room(memory / "node"))
    after.keep(0)
    assert held(memory) == 0


def test_then_what_the_cache_has_goes_as_far_as_nobody_uses_it(memory: Path) -> None:
    room = Room(memory / "node")
    used = Entry(memory / "node/used", 8 * BLOCK)
    for name in ("a", "b", "c"):
        entry = Entry(memory / "node" / name, 32 * BLOCK)
        room.take(entry, [range(32)])
        entry.close()
    room.take(used, [range(8)])
    reserve = reserve_of(memory, LEAST)
    reserve.keep(3 * MEGABYTE)
    assert {each.path.name for each in entries(memory / "node")} == {"c", "used"}
    reserve.keep(50 * MEGABYTE)
    assert {each.path.name for each in entries(memory / "node")} == {"used"}
    used.close()
