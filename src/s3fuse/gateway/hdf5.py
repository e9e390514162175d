"""Where the metadata of an HDF5 file (netCDF-4 is one) lies, as far as pointers in it tell.

A file of many chunks has an index for each variable, whose nodes lie scattered
between the data.  Whoever reads the file follows it, one node after the other.
The pointers are found here without reading all of the format: a hint what to
fetch, of which nothing depends on being complete.

Formats are those of the *HDF5 File Format Specification Version 3.0*,
https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html
"""

from __future__ import annotations

import itertools
import re
import struct
from collections.abc import Iterator

SIGNATURE = b"\x89HDF\r\n\x1a\n"

#: Variables of HDF5 have at most so many dimensions; few have more than this.
MAX_RANK = 8
#: Nodes of a piece that are looked at, and entries of all of them: a file that is made to
#: look like many must not take long.
MOST_NODES = 1000
MOST_ENTRIES = 50_000

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
    left = MOST_ENTRIES
    for match in itertools.islice(_CHUNK_INDEX.finditer(piece), MOST_NODES):
        looked_at, positions = _nodes_below(piece, match.start(), file_size, left)
        yield from positions
        left -= looked_at
        if left <= 0:
            break
    for match in itertools.islice(_BTREE_2.finditer(piece), MOST_NODES):
        if match.start() + _BTREE_2_HEAD.size <= len(piece):
            *_, root = _BTREE_2_HEAD.unpack_from(piece, match.start())
            if 0 < root < file_size:
                yield root


def _nodes_below(piece: bytes, start: int, file_size: int, most: int) -> tuple[int, list[int]]:
    """Find the nodes to which a node of a chunk index points; also how many entries it took."""
    if start + _CHUNK_INDEX_HEAD.size > len(piece):
        return 0, []
    _, _, level, count, _, _ = _CHUNK_INDEX_HEAD.unpack_from(piece, start)
    looked_at = 0
    # Below level 0 are the data.
    if level == 0:
        return 0, []
    # A node does not tell how many dimensions its variable has. A key is the
    # chunk's size, a mask, and its offset in each dimension, the last of which
    # is within an element, and so zero.
    for rank in range(1, MAX_RANK + 1):
        entry = struct.Struct(f"<{8 * rank}xQQ")
        begin = start + _CHUNK_INDEX_HEAD.size
        if begin + count * entry.size > len(piece) or looked_at + count > most:
            return looked_at, []
        positions = []
        for offset in range(begin, begin + count * entry.size, entry.size):
            looked_at += 1
            last, position = entry.unpack_from(piece, offset)
            if last != 0 or not 0 < position < file_size:
                break
            positions.append(position)
        else:
            return looked_at, positions
    return looked_at, []
