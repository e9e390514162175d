"""Objects in parts: how large they are, and how many are on their way at the same time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


#: Bytes of a part of a multipart upload; files below twice this go as one.
PART_SIZE = 16 * 2**20


#: Parts of one object that are on their way at the same time.
PARTS_AT_A_TIME = 4


#: S3 takes no more parts than this.
MAX_PARTS = 10_000


#: Files of a folder that are copied at the same time.
CONCURRENCY = 32


def part_by_part(move: Callable[[int], T], parts: Sequence[int]) -> list[T]:
    """Move the parts of one object, several at once; the first failure ends it."""
    if len(parts) == 1:
        return [move(parts[0])]
    with ThreadPoolExecutor(PARTS_AT_A_TIME) as pool:
        moved = [pool.submit(move, part) for part in parts]
        try:
            return [part.result() for part in moved]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def all_at_once(work: Callable[[T], object], items: Sequence[T]) -> None:
    """Do the same for many uploads or objects, several at a time; the first failure ends it."""
    if not items:
        return
    with ThreadPoolExecutor(min(len(items), CONCURRENCY)) as pool:
        done = [pool.submit(work, item) for item in items]
        try:
            for each in done:
                each.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
