"""What a job is sure to read of a file, put into the cache of a mount before it asks.

s3fs fetches at least 5 MB for each byte that is missing, one fetch after the
other.  The metadata of a file are a few kB at its head, its tail and, for
netCDF-4, in the nodes of its indexes.  They are fetched here, side by side,
while s3fs starts, and laid where s3fs looks first.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from s3fuse.mount.record import Mount
from s3fuse.mount.s3fs_cache import hdf5
from s3fuse.mount.s3fs_cache import page_list as pages
from s3fuse.s3.objects import ObjectInfo
from s3fuse.s3.store import Store
from s3fuse.urls import S3Url

#: Bytes that are fetched around each pointer.
BLOCK = 32 * 1024
#: Bytes of the head of a file; the kernel reads a little further than a program does.
HEAD = 512 * 1024
#: Bytes of its tail.
TAIL = 128 * 1024
#: Bytes behind a pointer that are read: a node, or an object header.
NODE = 8 * 1024
#: Files with more nodes than this are left to s3fs from there on.
MOST_BLOCKS = 64
#: A node that points to nodes that point to nodes: as deep as indexes get.
ROUNDS = 3


def metadata(store: Store, url: S3Url, info: ObjectInfo) -> dict[int, bytes]:
    """Fetch what a reader of the file needs first.

    Parameters
    ----------
    store : Store
        Where the object is.
    url : S3Url
        The object.
    info : ObjectInfo
        The version of it.

    Returns
    -------
    dict of int to bytes
        Pieces of the file by their position, in order, not overlapping.

    Raises
    ------
    Exception
        Whatever s3fs raises, and `ObjectChanged`.
    """
    tail = max(0, info.size - TAIL) // BLOCK
    blocks = {*range(min(HEAD, info.size) // BLOCK), *range(tail, -(-info.size // BLOCK))}
    pieces: dict[int, bytes] = {}
    have: set[int] = set()
    with ThreadPoolExecutor(MOST_BLOCKS, thread_name_prefix="s3fuse-prefill") as pool:
        for _ in range(ROUNDS):
            spans = _spans(blocks, info.size)
            new = dict(pool.map(lambda span: fetch(store, url, info, *span), spans))
            have |= blocks
            pieces.update(new)
            if not pieces.get(0, b"").startswith(hdf5.SIGNATURE):
                break
            wanted = {
                number
                for piece in new.values()
                for position in hdf5.pointers(piece, info.size)
                for number in (position // BLOCK, min(position + NODE, info.size - 1) // BLOCK)
            }
            blocks = wanted - have
            if not blocks or len(blocks) > MOST_BLOCKS:
                break
    return dict(sorted(pieces.items()))


def fill(mount: Mount, info: ObjectInfo, pieces: Mapping[int, bytes]) -> bool:
    """Lay pieces of an object into the cache of a mount, unless it has some already.

    Returns
    -------
    bool
        Whether they lie there now.
    """
    content, listing = pages.content_file(mount, info.key), pages.list_file(mount, info.key)
    for path in (content, listing):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=mount.cache)
    with open(handle, "wb"):
        os.truncate(handle, info.size)
        for start, piece in pieces.items():
            os.pwrite(handle, piece, start)
        inode = os.fstat(handle).st_ino
    # What is older than the object is stale to s3fs.
    now = max(time.time(), info.mtime + 1)
    os.utime(temporary, (now, now))
    listed = Path(f"{temporary}.pages")
    spans = [(start, start + len(piece)) for start, piece in pieces.items()]
    listed.write_text(pages.listed(inode, info.size, spans))
    try:
        # In this order: a file without a list is empty to s3fs, and a list of
        # another file is nothing.
        os.link(temporary, content)
        listed.replace(listing)
    except FileExistsError:
        # s3fs has opened it already.
        return False
    finally:
        os.unlink(temporary)
        listed.unlink(missing_ok=True)
    return True


def fetch(store: Store, url: S3Url, info: ObjectInfo, start: int, size: int) -> tuple[int, bytes]:
    """Fetch one piece of a file; raises what s3fs raises."""
    piece = bytearray(size)

    def write(chunk: bytes, position: int) -> None:
        piece[position - start : position - start + len(chunk)] = chunk

    store.read(url, info, start, size, write)
    return start, bytes(piece)


def _spans(blocks: Iterable[int], file_size: int) -> list[tuple[int, int]]:
    """Positions and sizes of blocks, neighbours joined."""
    spans: list[tuple[int, int]] = []
    for number in sorted(blocks):
        start, end = number * BLOCK, min((number + 1) * BLOCK, file_size)
        if spans and sum(spans[-1]) == start:
            start = spans.pop()[0]
        spans.append((start, end - start))
    return spans
