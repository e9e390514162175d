"""Room for s3fs: what is given up for it, and when."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from s3fuse.cache.entries import BLOCK, Entry, entries
from s3fuse.cache.room import Room
from s3fuse.gateway.reserve import AHEAD, LEAST, MOST, NOTED, SPARED, Reserve

MEGABYTE = 2**20


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder where hardly anybody else writes."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        (Path(folder) / "node").mkdir()
        yield Path(folder)


def free(folder: Path) -> int:
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def reserve_of(folder: Path, left: int) -> Reserve:
    """The reserve of a gateway whose s3fs may use so many bytes."""
    return Reserve(folder, free(folder) - left, Room(folder / "node"))


def held(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("reserve"))


def test_it_makes_up_for_what_is_on_its_way(memory: Path) -> None:
    async def run() -> None:
        reserve = reserve_of(memory, 200 * MEGABYTE)
        async with reserve.sending(AHEAD), reserve.sending(AHEAD):
            assert held(memory) == MOST + SPARED - 2 * AHEAD
        # s3fs notes a little later that it has it.
        assert held(memory) == MOST + SPARED - 2 * AHEAD
        await asyncio.sleep(2 * NOTED)
        assert held(memory) == MOST + SPARED

    asyncio.run(run())


def test_where_there_is_plenty_nothing_is_held(memory: Path) -> None:
    async def run() -> None:
        reserve = reserve_of(memory, 2**31)
        async with reserve.sending(AHEAD):
            assert held(memory) == 0

    asyncio.run(run())


def test_where_hardly_anything_is_left_more_of_it_is_given_up(memory: Path) -> None:
    async def run() -> None:
        left = 60 * MEGABYTE
        reserve = reserve_of(memory, left)
        reserve.adjust()
        most = left // 3 - SPARED
        assert held(memory) == most + SPARED
        # s3fs has nearly all of it.
        (memory / "s3fs").write_bytes(bytes(left - most - LEAST // 2))
        reserve.adjust()
        assert held(memory) == most - LEAST // 2
        (memory / "s3fs").write_bytes(bytes(left - most - 3 * MEGABYTE))
        reserve.adjust()
        assert held(memory) == most
        (memory / "s3fs").unlink()
        reserve.adjust()
        assert held(memory) == most + SPARED

    asyncio.run(run())


def test_where_little_is_left_one_piece_is_sent_after_the_other(memory: Path) -> None:
    async def run(left: int) -> int:
        reserve = reserve_of(memory, left)
        at_once: set[int] = set()
        most = 0

        async def send(number: int) -> None:
            nonlocal most
            async with reserve.sending(AHEAD):
                at_once.add(number)
                most = max(most, len(at_once))
                await asyncio.sleep(0.01)
                at_once.remove(number)

        await asyncio.gather(*map(send, range(4)))
        await asyncio.sleep(2 * NOTED)
        return most

    assert asyncio.run(run(40 * MEGABYTE)) == 1
    assert asyncio.run(run(400 * MEGABYTE)) == 4


def test_one_of_a_gateway_before_is_not_counted_twice(memory: Path) -> None:
    (memory / "reserve").write_bytes(bytes(MEGABYTE))
    reserve_of(memory, 60 * MEGABYTE)
    assert held(memory) == 0


def test_in_the_end_what_the_cache_has_goes_as_far_as_nobody_uses_it(memory: Path) -> None:
    room = Room(memory / "node")
    used = Entry(memory / "node/used", 8 * BLOCK)
    for name in ("a", "b", "c"):
        entry = Entry(memory / "node" / name, 32 * BLOCK)
        room.take(entry, [range(32)])
        entry.close()
    room.take(used, [range(8)])
    reserve = reserve_of(memory, LEAST)
    reserve.adjust(3 * MEGABYTE)
    assert {each.path.name for each in entries(memory / "node")} == {"c", "used"}
    reserve.adjust(50 * MEGABYTE)
    assert {each.path.name for each in entries(memory / "node")} == {"used"}
    used.close()
