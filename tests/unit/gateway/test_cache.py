"""The cache of a gateway: only bytes that have come are read from it."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from s3fuse.cache.entries import BLOCK, entries
from s3fuse.cache.room import NoRoom, Room
from s3fuse.gateway.cache import PIECE, PROMISED, Cache
from s3fuse.s3.objects import ObjectInfo

BOUND = 4 * PIECE


class Source:
    """Objects of random bytes, which may fail to come."""

    def __init__(self) -> None:
        self.fails = False
        self.asked: list[tuple[int, int]] = []
        self.compared: list[str] = []

    @staticmethod
    def content(info: ObjectInfo) -> bytes:
        return random.Random(info.key).randbytes(info.size)

    async def fetch(
        self, info: ObjectInfo, start: int, end: int, write: Callable[[bytes, int], None]
    ) -> None:
        self.asked.append((start, end))
        content = self.content(info)
        for position in range(start, end, 50_000):
            await asyncio.sleep(0)
            if self.fails and position > start:
                raise ConnectionError
            write(content[position : min(position + 50_000, end)], position)

    def compare(self, info: ObjectInfo, file: IO[bytes]) -> asyncio.Future[bool]:
        with file:
            assert file.read() == self.content(info)
        self.compared.append(info.key)
        is_right = asyncio.get_running_loop().create_future()
        is_right.set_result(True)
        return is_right


def info(key: str, size: int) -> ObjectInfo:
    return ObjectInfo(key, size, 0.0, key)


def cache_of(
    place: Path,
    source: Source,
    bound: int | None = None,
    linked: Callable[[], set[Path]] = set,
    name: str = "one",
) -> Cache:
    """Make the cache of a gateway on a node."""
    for folder in (place / "node", place / name):
        folder.mkdir(exist_ok=True)
    room = Room(place / "node", bound)
    return Cache(room, place / name, None, "b", source.fetch, source.compare, linked)


def held(place: Path) -> int:
    return sum(each.held for each in entries(place / "node"))


async def read(cache: Cache, of: ObjectInfo, start: int, end: int) -> bytes:
    async with cache.having(of, start, end) as file:
        await asyncio.sleep(0)
        return os.pread(file.fileno(), end - start, start)


SPANS = st.tuples(
    st.sampled_from("abcd"),
    st.floats(0, 1),
    st.floats(0, 1),
    st.booleans(),
    st.sampled_from(["one", "two"]),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(spans=st.lists(SPANS, max_size=25), at_once=st.integers(1, 4))
def test_what_is_read_is_what_is_there(
    tmp_path: Path, spans: list[tuple[str, float, float, bool, str]], at_once: int
) -> None:
    sizes = {"a": 1, "b": 3 * PIECE + 11, "c": PIECE, "d": 2 * PIECE + BLOCK}

    async def run() -> None:
        source = Source()
        caches = {name: cache_of(tmp_path, source, BOUND, name=name) for name in ("one", "two")}

        async def one(key: str, one: float, other: float, fails: bool, gateway: str) -> None:
            of = info(key, sizes[key])
            start, end = sorted((int(one * of.size), int(other * of.size)))
            source.fails = fails
            try:
                found = await read(caches[gateway], of, start, end)
            except (NoRoom, ConnectionError):
                return
            assert found == Source.content(of)[start:end]

        for number in range(0, len(spans), at_once):
            await asyncio.gather(*(one(*span) for span in spans[number : number + at_once]))
            # The file system needs some blocks to say where the others are.
            assert held(tmp_path) <= BOUND + BLOCK

    asyncio.run(run())


def test_what_has_come_or_is_on_its_way_is_not_asked_for_again(tmp_path: Path) -> None:
    async def run() -> None:
        source = Source()
        cache = cache_of(tmp_path, source)
        of = info("x", 3 * PIECE)
        await asyncio.gather(*(read(cache, of, 0, of.size) for _ in range(3)))
        await read(cache, of, 5, of.size - 5)
        assert sorted(source.asked) == [(n * PIECE, (n + 1) * PIECE) for n in range(3)]

    asyncio.run(run())


def test_what_did_not_come_is_asked_for_again(tmp_path: Path) -> None:
    async def run() -> None:
        source = Source()
        cache = cache_of(tmp_path, source)
        of = info("x", PIECE)
        source.fails = True
        with pytest.raises(ConnectionError):
            await read(cache, of, 0, of.size)
        source.fails = False
        assert await read(cache, of, 0, of.size) == Source.content(of)

    asyncio.run(run())


def test_what_another_gateway_fetches_is_not_fetched_twice(tmp_path: Path) -> None:
    async def run() -> None:
        source = Source()
        caches = [cache_of(tmp_path, source, name=name) for name in "abcd"]
        of = info("x", 3 * PIECE)
        read_by_all = await asyncio.gather(*(read(cache, of, 0, of.size) for cache in caches))
        assert set(read_by_all) == {Source.content(of)}
        assert sorted(source.asked) == [(n * PIECE, (n + 1) * PIECE) for n in range(3)]
        assert sum(cache.moved(of) for cache in caches) == of.size

    asyncio.run(run())


def test_it_is_compared_each_time_that_it_has_come_whole(tmp_path: Path) -> None:
    async def run() -> None:
        source = Source()
        cache = cache_of(tmp_path, source, BOUND)
        of, other = info("x", 2 * PIECE), info("other", BOUND)
        for times in (1, 2):
            await read(cache, of, 0, PIECE)
            assert source.compared.count("x") == times - 1
            # Before the last of it is given to anybody.
            async with cache.having(of, PIECE, of.size):
                assert source.compared.count("x") == times
            # Once is enough, also for others.
            await read(cache_of(tmp_path, source, BOUND, name="two"), of, 0, PIECE)
            assert source.compared.count("x") == times
            # Nothing of it is left then.
            await read(cache, other, 0, other.size)
            with cache.using(of) as found:
                assert found.missing(0, of.size) == of.size

    asyncio.run(run())


def test_what_has_gone_meanwhile_is_not_lent(tmp_path: Path) -> None:
    async def run() -> None:
        source = Source()
        cache = cache_of(tmp_path, source, BOUND)
        of = info("x", 2 * PIECE)
        assert cache.lend(of) is None
        await read(cache, of, 0, of.size)
        for number in range(2):
            await read(cache, info(str(number), 2 * PIECE), 0, 2 * PIECE)
        assert cache.lend(of) is None
        # Nor is an object of which a part has come.
        await read(cache, of, 0, PIECE)
        assert cache.lend(of) is None
        await read(cache, of, 0, of.size)
        path = cache.lend(of)
        assert path is not None
        assert path.read_bytes() == Source.content(of)

    asyncio.run(run())


def test_a_file_whose_path_was_told_stays_until_there_is_a_link(tmp_path: Path) -> None:
    async def run() -> None:
        source = Source()
        cache = cache_of(tmp_path, source, BOUND)
        of = info("x", PIECE)
        await read(cache, of, 0, of.size)
        path = cache.lend(of)
        assert path is not None
        for number in range(4):
            await read(cache, info(str(number), 2 * PIECE), 0, 2 * PIECE)
        assert path.read_bytes() == Source.content(of)
        assert cache.edited() == []
        path.chmod(0o600)
        with path.open("r+b") as file:
            file.write(b"edited")
        assert cache.edited() == [of]
        # Nobody is given what was edited.
        assert await read(cache, of, 0, of.size) == Source.content(of)
        assert cache_of(tmp_path, source, name="two").edited() == []

    asyncio.run(run())


def test_files_of_which_jobs_have_a_link_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    linked: set[Path] = set()

    async def run() -> None:
        source = Source()
        cache = cache_of(tmp_path, source, BOUND, lambda: linked)
        small = info("small", PIECE)
        await read(cache, small, 0, small.size)
        path = cache.lend(small)
        assert path is not None
        linked.add(path)
        # Half of the bound is for what is lent.
        large = info("large", 2 * PIECE)
        await read(cache, large, 0, large.size)
        assert cache.lend(large) is None
        for number in range(4):
            other = info(str(number), 2 * PIECE)
            await read(cache, other, 0, other.size)
            assert path.read_bytes() == Source.content(small)
        linked.clear()
        # Whoever was told the path has made a link by then.
        later = time.monotonic() + PROMISED
        monkeypatch.setattr(time, "monotonic", lambda: later)
        whole = info("whole", BOUND)
        await read(cache, whole, 0, whole.size)
        assert not path.exists()
        # Nobody has written to it.
        assert cache.edited() == []

    asyncio.run(run())
