"""Four gateways on one small cache, six readers, a disk that fills, and processes that die."""

from __future__ import annotations

import ast
import contextlib
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from conftest import Bucket
from s3fuse.embedded_server import Server
from s3fuse.gateway.catalogue import View
from s3fuse.mount.mounts import Mounts
from s3fuse.mount.options import MountOptions
from s3fuse.node.links import make_link

from .test_reading import content_of, gateway_of, look

pytestmark = [
    pytest.mark.fuse,
    pytest.mark.timeout(900),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system"),
]

READER = Path(__file__).with_name("reader.py")
WAYS = ["sequence", "sequence", "stride", "stride", "random", "random"]
OBJECTS, SIZE = 8, 80_000_000
#: A tenth of the data is for the cache of the node, and as much for what s3fs has of open files.
BOUND = 2 * OBJECTS * SIZE // 10
DISK = 220


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system, which only this test fills."""
    folder = tmp_path / "disk"
    folder.mkdir()
    options = f"size={DISK}m,mode=0700"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", folder], check=True)
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


class Readers:
    """The readers, which are started again when they were killed."""

    def __init__(self, folder: Path, pairs: list[list[str]]) -> None:
        self._folder, self._pairs = folder, pairs
        self._started = 0
        self.end = folder / "end"
        self.running = [self._start(number) for number in range(len(WAYS))]

    def _start(self, number: int) -> subprocess.Popen[bytes]:
        self._started += 1
        found = self._folder / f"found-{self._started}"
        words = [WAYS[number], str(self._started), self.end, found, *self._pairs[number]]
        return subprocess.Popen([sys.executable, str(READER), *words])

    def kill(self, number: int) -> None:
        self.running[number].kill()
        self.running[number].wait()
        self.running[number] = self._start(number)

    def close(self) -> Counter[str]:
        """End them all, and return what they have found."""
        self.end.touch()
        for each in self.running:
            assert each.wait(60) == 0
        found: Counter[str] = Counter()
        for path in self._folder.glob("found-*"):
            with contextlib.suppress(SyntaxError):
                found.update(ast.literal_eval(path.read_text()))
        return found


def fill(folder: Path, is_over: threading.Event) -> None:
    """Fill the disk and free it, as others do."""
    chance = random.Random(1)
    while not is_over.wait(chance.uniform(0.2, 3)):
        with contextlib.suppress(OSError), (folder / "others").open("wb") as file:
            for _ in range(chance.choice([5, 40, DISK])):
                file.write(bytes(2**20))
        is_over.wait(chance.uniform(0, 1))
        (folder / "others").unlink(missing_ok=True)


@pytest.mark.parametrize(
    "seconds",
    [pytest.param(40, marks=pytest.mark.slow), pytest.param(600, marks=pytest.mark.long)],
)
def test_every_byte_is_right(
    server: Server, bucket: Bucket, tmp_path: Path, disk: Path, seconds: int
) -> None:
    truths = []
    for number in range(OBJECTS):
        bucket.write(f"x{number}", content_of(number, SIZE))
        truths.append(str(bucket.folder / f"x{number}"))
    infos = [look(bucket.store, bucket.name, f"x{number}") for number in range(OBJECTS)]
    runs = []
    is_over = threading.Event()
    filler = threading.Thread(target=fill, args=(disk, is_over))
    chance = random.Random(0)
    killed: Counter[str] = Counter()
    try:
        for number in range(4):
            place = tmp_path / str(number)
            (place / "links").mkdir(parents=True)
            runs.append(Mounts(place / "links", place, tmp_path / "run", disk / "cache", 2))
            mount = runs[-1].mount(bucket.name, server.connection, MountOptions(False, BOUND))
            for key, info in enumerate(infos):
                view = View.of_object(info, sequential=key == 0)
                make_link(runs[-1].show(mount, view), runs[-1].links / f"x{key}")
        pairs = [
            [path for key in range(OBJECTS) for path in (str(run.links / f"x{key}"), truths[key])]
            for run in (runs[number % 4] for number in range(len(WAYS)))
        ]
        readers = Readers(tmp_path, pairs)
        filler.start()
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            time.sleep(chance.uniform(2, 6))
            if chance.random() < 0.5:
                readers.kill(chance.randrange(len(WAYS)))
                killed["reader"] += 1
                continue
            for mount in runs[chance.randrange(4)].all():
                # One that is just started again has nothing to lose.
                with contextlib.suppress(psutil.Error, ValueError):
                    gateway_of(mount).kill()
                    killed["gateway"] += 1
        found = readers.close()
    finally:
        is_over.set()
        if filler.is_alive():
            filler.join()
        for run in runs:
            run.unmount_own()
            run.unmount()
    print(found, killed)
    assert found["wrong"] == 0
    assert found["read"] > 5 * seconds
    assert min(killed["reader"], killed["gateway"]) >= seconds // 60
