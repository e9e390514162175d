"""Where the metadata of an HDF5 file (netCDF-4 is one) lies, as far as pointers in it tell.

A file of many chunks has an index for each variable, whose nodes lie scattered
between the data.  Whoever reads the file follows it, one node after the other.
The pointers are found here without reading all of the format: a hint what to
fetch, of which nothing depends on being complete.

Formats are those of the *HDF5 File Format Specification Version 3.0*,
https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator

SIGNATURE = b"\x89HDF\r\n\x1a\n"

#: Variables of HDF5 have at most so many dimensions; few have more than this.
MAX_RANK = 8

# III.A.1: signature, node type 1 (raw data chunks), level, entries used, two siblings.
_CHUNK_INDEX = re.compile(rb"TREE\x01")
_CHUNK_INDEX_HEAD = struct.Struct("<4sBBHQQ")
# III.A.2: signature, version, type, node size, record size, depth, two percentages, root.
_BTREE_2 = re.compile(rb"BTHD\x00")
_BTREE_2_HEAD = struct.Struct("<4sBBIHHBBQ")


def pointers(piece: bytes, file_size: int) -> Iterator[int]:
    """Find where more metadata lies.

    Parameters
    ----------
    piece : bytes
        Some of the file, with metadata in it.
    file_size : int
        Bytes of the file.

    Yields
    ------
    int
        Positions in the file.
    """
    for match in _CHUNK_INDEX.finditer(piece):
        for _, position in _below(piece, match.start(), file_size, leaf=False):
            yield position
    for match in _BTREE_2.finditer(piece):
        if match.start() + _BTREE_2_HEAD.size <= len(piece):
            *_, root = _BTREE_2_HEAD.unpack_from(piece, match.start())
            if 0 < root < file_size:
                yield root


def chunks(pieces: Iterable[bytes], file_size: int) -> list[tuple[int, int]]:
    """Find where the data lie.

    Parameters
    ----------
    pieces : iterable of bytes
        The pieces of the file that have its metadata.
    file_size : int
        Bytes of the file.

    Returns
    -------
    list of tuple of int
        The position of each chunk and the one behind it, in order.
    """
    return sorted(
        (position, position + size)
        for piece in pieces
        for match in _CHUNK_INDEX.finditer(piece)
        for size, position in _below(piece, match.start(), file_size, leaf=True)
    )


def _below(piece: bytes, start: int, file_size: int, *, leaf: bool) -> list[tuple[int, int]]:
    """Sizes of chunks, and positions: of data below a leaf of a chunk index, else of nodes."""
    if start + _CHUNK_INDEX_HEAD.size > len(piece):
        return []
    _, _, level, entries, _, _ = _CHUNK_INDEX_HEAD.unpack_from(piece, start)
    if leaf != (level == 0):
        return []
    # A node does not tell how many dimensions its variable has. A key is the
    # chunk's size, a mask, and its offset in each dimension, the last of which
    # is within an element, and so zero.
    for rank in range(1, MAX_RANK + 1):
        entry = struct.Struct(f"<II{rank}QQQ")
        end = start + _CHUNK_INDEX_HEAD.size + entries * entry.size
        if end > len(piece):
            return []
        found = list(entry.iter_unpack(piece[start + _CHUNK_INDEX_HEAD.size : end]))
        if all(each[-2] == 0 and 0 < each[-1] < file_size for each in found):
            return [(each[0], each[-1]) for each in found]
    return []
