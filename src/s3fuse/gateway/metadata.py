"""What every reader of a file wants first, fetched while the reader's program starts.

netCDF-C looks at the head of a file and at its tail, and for netCDF-4 at the nodes of the
indexes, which lie between the data.  All of it is a hint: what is not found is fetched
when it is asked for.
"""

from __future__ import annotations

import asyncio
import os

from s3fuse.cache.entries import BLOCK
from s3fuse.gateway import hdf5
from s3fuse.gateway.cache import Cache
from s3fuse.s3.objects import ObjectInfo

#: Bytes of the head of a file; the kernel reads a little further than a program does.
HEAD = 512 * 1024
#: Bytes of its tail.
TAIL = 128 * 1024
#: Bytes behind a pointer that are read: a node, or an object header.
NODE = 8 * 1024
#: Files with more nodes than this are left to their readers from there on.
MOST_BLOCKS = 64
#: A node that points to nodes that point to nodes: as deep as indexes get.
ROUNDS = 3


async def fetch_metadata(cache: Cache, info: ObjectInfo) -> None:
    """Have the metadata of a file come into the cache.

    Parameters
    ----------
    cache : Cache
        Where they go.
    info : ObjectInfo
        The version of the file.

    Raises
    ------
    S3FuseError, OSError, NoRoom
        What kept them from coming.
    """
    tail = max(0, info.size - TAIL) // BLOCK
    last = -(-info.size // BLOCK)
    blocks = {*range(min(-(-HEAD // BLOCK), last)), *range(tail, last)}
    seen: set[int] = set()
    for _ in range(ROUNDS):
        pieces = await asyncio.gather(*(_piece(cache, info, each) for each in _spans(blocks)))
        if not seen and not pieces[0].startswith(hdf5.SIGNATURE):
            return
        seen |= blocks
        blocks = {
            number
            for piece in pieces
            for position in hdf5.pointers(piece, info.size)
            for number in (position // BLOCK, min(position + NODE, info.size - 1) // BLOCK)
        } - seen
        if not blocks or len(blocks) > MOST_BLOCKS:
            return


async def fetch_whole(cache: Cache, info: ObjectInfo, piece: int, at_a_time: int) -> None:
    """Have all of an object come into the cache.

    Parameters
    ----------
    cache : Cache
        Where it goes.
    info : ObjectInfo
        The version of the object.
    piece : int
        Bytes of each request.
    at_a_time : int
        Requests that are under way at the same time.

    Raises
    ------
    S3FuseError, OSError, NoRoom
        What kept it from coming.
    """
    places = iter(range(0, info.size, piece))
    with cache.using(info) as found:

        async def work() -> None:
            for start in places:
                end = min(start + piece, info.size)
                await asyncio.gather(*found.order(start, end, piece))

        ends = await asyncio.gather(*(work() for _ in range(at_a_time)), return_exceptions=True)
        for error in filter(None, ends):
            raise error


async def _piece(cache: Cache, info: ObjectInfo, span: range) -> bytes:
    start, end = span.start * BLOCK, min(span.stop * BLOCK, info.size)
    async with cache.having(info, start, end) as file:
        return os.pread(file.fileno(), end - start, start)


def _spans(blocks: set[int]) -> list[range]:
    """Join neighbours."""
    spans: list[range] = []
    for number in sorted(blocks):
        if spans and spans[-1].stop == number:
            spans[-1] = range(spans[-1].start, number + 1)
        else:
            spans.append(range(number, number + 1))
    return spans
