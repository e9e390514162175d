"""Reads objects by links, in one way or another, until it is told to end; compares all of it.

Arguments: the way (``sequence``, ``stride`` or ``random``), a seed, a file whose existence ends
it, a file for what it finds, and pairs of a link and of a file that holds the truth.
"""

from __future__ import annotations

import collections
import os
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path


def spans(way: str, size: int, chance: random.Random) -> Iterator[tuple[int, int]]:
    """Where to read, and how much."""
    if way == "sequence":
        yield from ((start, 2**20) for start in range(0, size, 2**20))
    elif way == "stride":
        first, step = chance.randrange(2**20), chance.choice([2**20, 3 * 2**20, 7 * 10**6])
        yield from ((start, 200_000) for start in range(first, size, step))
    else:
        yield from ((chance.randrange(size), chance.randrange(1, 10**6)) for _ in range(20))


def main() -> None:
    """Read and compare."""
    way, seed, end, found, *paths = sys.argv[1:]
    chance = random.Random(int(seed))
    pairs = list(zip(paths[::2], paths[1::2], strict=True))
    counts: collections.Counter[str] = collections.Counter()
    while not os.path.exists(end):
        link, truth = chance.choice(pairs)
        try:
            with open(truth, "rb") as right, open(link, "rb", buffering=0) as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                for start, length in spans(way, os.fstat(right.fileno()).st_size, chance):
                    data = os.pread(file.fileno(), length, start)
                    counts["read"] += 1
                    if data != os.pread(right.fileno(), len(data), start):
                        counts["wrong"] += 1
        except OSError as error:
            counts[f"error {error.errno}"] += 1
            time.sleep(0.05)
        Path(found).write_text(repr(dict(counts)))


if __name__ == "__main__":
    main()
