"""What gateways do to one cache, in any order, killed at any moment: a state machine.

A model knows the bytes of each object.  Whatever a cache says is there must be those.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import tempfile
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    rule,
)

from s3fuse.cache.entries import BLOCK, Entry, Gone, entries, remove
from s3fuse.cache.room import NoRoom, Room

BLOCKS = 4
BOUND = 6 * BLOCK
KEYS = "abc"
GATEWAYS = 3


def content(key: str) -> bytes:
    """Return the bytes of an object; the last block is not full."""
    return random.Random(key).randbytes(BLOCKS * BLOCK - 100)


class Gateway:
    """One process that uses the cache; each step is one that it can be killed after."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.room = folder, Room(folder, BOUND)
        self.open_entries: dict[str, Entry] = {}
        self.locked: dict[str, range] = {}

    def open(self, key: str) -> None:
        if key not in self.open_entries:
            for _ in range(3):
                try:
                    self.open_entries[key] = Entry(self.folder / key, len(content(key)))
                except Gone:
                    continue
                return

    def close(self, key: str) -> None:
        self.locked.pop(key, None)
        if entry := self.open_entries.pop(key, None):
            entry.close()

    def begin(self, key: str, first: int, last: int) -> None:
        """Lock blocks, and take room for them."""
        entry, span = self.open_entries.get(key), range(first, last)
        if entry and key not in self.locked and entry.lock(span):
            try:
                self.room.take(entry, entry.missing(first, last))
            except NoRoom:
                entry.unlock(span)
            else:
                self.locked[key] = span

    def write(self, key: str, share: float) -> None:
        """Write a part of what is locked, and mark nothing."""
        if key in self.locked:
            for span in self._missing(key):
                start, end = span.start * BLOCK, span.stop * BLOCK
                end = start + int(share * (end - start))
                self.open_entries[key].write(content(key)[start:end], start)

    def finish(self, key: str) -> None:
        """Write all of what is locked, mark it, and free it."""
        if key in self.locked:
            for span in self._missing(key):
                data = content(key)[span.start * BLOCK : span.stop * BLOCK]
                self.open_entries[key].write(data, span.start * BLOCK)
                self.open_entries[key].mark(span)
            self.open_entries[key].unlock(self.locked.pop(key))

    def lend(self, key: str, path: str) -> None:
        entry = self.open_entries.get(key)
        if entry and entry.is_whole:
            try:
                entry.link(Path(path))
            except (Gone, FileExistsError):
                return

    def forget(self, key: str) -> None:
        remove(self.folder / key)

    def wrong(self) -> list[str]:
        """Return what is said to be there and is not."""
        found = []
        for key, entry in self.open_entries.items():
            missing = {block for span in entry.missing(0, BLOCKS) for block in span}
            for block in set(range(BLOCKS)) - missing:
                right = content(key)[block * BLOCK : (block + 1) * BLOCK]
                if os.pread(entry.data.fileno(), len(right), block * BLOCK) != right:
                    found.append(f"{key} {block}")
        return found

    def _missing(self, key: str) -> list[range]:
        span = self.locked[key]
        return self.open_entries[key].missing(span.start, span.stop)


class Here:
    """A gateway in this process; what is killed is closed, which is what the kernel does."""

    def __init__(self, folder: Path) -> None:
        self._gateway = Gateway(folder)

    def do(self, method: str, *arguments: Any) -> Any:
        return getattr(self._gateway, method)(*arguments)

    def kill(self) -> None:
        for entry in self._gateway.open_entries.values():
            entry.close()


def _work(folder: Path, orders: Connection) -> None:
    gateway = Gateway(folder)
    while True:
        method, arguments = orders.recv()
        orders.send(getattr(gateway, method)(*arguments))


class Elsewhere:
    """A gateway in a process of its own, which is killed."""

    def __init__(self, folder: Path) -> None:
        context = multiprocessing.get_context("forkserver")
        self._orders, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(folder, theirs), daemon=True)
        self._process.start()
        theirs.close()

    def do(self, method: str, *arguments: Any) -> Any:
        self._orders.send((method, arguments))
        return self._orders.recv()

    def kill(self) -> None:
        self._process.kill()
        self._process.join()
        self._orders.close()


def machine(make: Callable[[Path], Here | Elsewhere]) -> type[RuleBasedStateMachine]:
    """Return the state machine with gateways of a kind."""
    numbers, keys = st.integers(0, GATEWAYS - 1), st.sampled_from(KEYS)

    class CacheMachine(RuleBasedStateMachine):
        links = Bundle("links")

        @initialize()
        def begin(self) -> None:
            self.top = Path(tempfile.mkdtemp(prefix="cache-machine-"))
            self.folder = self.top / "node"
            self.folder.mkdir()
            self.gateways = [make(self.folder) for _ in range(GATEWAYS)]
            self.lent: dict[str, str] = {}

        def teardown(self) -> None:
            for each in getattr(self, "gateways", ()):
                each.kill()
            if hasattr(self, "top"):
                shutil.rmtree(self.top)

        @rule(number=numbers, key=keys)
        def open(self, number: int, key: str) -> None:
            self.gateways[number].do("open", key)

        @rule(number=numbers, key=keys)
        def close(self, number: int, key: str) -> None:
            self.gateways[number].do("close", key)

        @rule(number=numbers, key=keys, first=st.integers(0, BLOCKS - 1), count=st.integers(1, 4))
        def lock(self, number: int, key: str, first: int, count: int) -> None:
            self.gateways[number].do("open", key)
            self.gateways[number].do("begin", key, first, min(first + count, BLOCKS))

        @rule(number=numbers, key=keys, share=st.floats(0, 1))
        def write_a_part(self, number: int, key: str, share: float) -> None:
            self.gateways[number].do("write", key, share)

        @rule(number=numbers, key=keys)
        def finish(self, number: int, key: str) -> None:
            self.gateways[number].do("finish", key)

        @rule(number=numbers, key=keys)
        def fetch_all(self, number: int, key: str) -> None:
            self.gateways[number].do("open", key)
            self.gateways[number].do("begin", key, 0, BLOCKS)
            self.gateways[number].do("finish", key)

        @rule(target=links, number=numbers, key=keys)
        def lend(self, number: int, key: str) -> str:
            path = str(self.top / f"link-{len(self.lent)}")
            self.lent[path] = key
            self.gateways[number].do("lend", key, path)
            return path

        @rule(path=consumes(links))
        def take_back(self, path: str) -> None:
            Path(path).unlink(missing_ok=True)
            del self.lent[path]
            self.lent[f"{path} is gone"] = ""

        @rule(number=numbers, key=keys)
        def forget(self, number: int, key: str) -> None:
            self.gateways[number].do("forget", key)

        @rule(number=numbers)
        def kill(self, number: int) -> None:
            self.gateways[number].kill()
            self.gateways[number] = make(self.folder)

        @invariant()
        def what_is_there_is_right(self) -> None:
            for each in getattr(self, "gateways", ()):
                assert each.do("wrong") == []
            for path, key in getattr(self, "lent", {}).items():
                if Path(path).exists():
                    assert Path(path).read_bytes() == content(key)

        @invariant()
        def the_bound_holds(self) -> None:
            if hasattr(self, "folder"):
                # The file system needs some blocks to say where the others are.
                assert sum(each.held for each in entries(self.folder)) <= BOUND + BLOCK

    return CacheMachine
