"""The kernel's table of mounts."""

from __future__ import annotations

import os
import re
from pathlib import Path

#: The kernel writes a space, a tab, a newline, a backslash and a hash in a path as a
#: backslash and three octal digits (``mangle_path`` in ``fs/seq_file.c``).
_ESCAPE = re.compile(rb"\\([0-3][0-7]{2})")


def mount_points(table: Path = Path("/proc/self/mounts")) -> frozenset[Path]:
    """Read where something is mounted, without a look at the mounts themselves."""
    # Not the lines of a text, which other characters than a newline would end.
    rows = [line.split(b" ", 2) for line in table.read_bytes().split(b"\n")]
    return frozenset(unescaped(row[1]) for row in rows if len(row) > 1)


def unescaped(field: bytes) -> Path:
    """Read a path as the kernel writes it into a table."""
    return Path(os.fsdecode(_ESCAPE.sub(lambda match: bytes([int(match[1], 8)]), field)))


def file_system(path: Path, table: Path = Path("/proc/self/mounts")) -> str:
    """Return the type of the file system that a directory is on, such as ``ext4``."""
    path = path.resolve()
    found, kind = Path("/"), ""
    for line in table.read_bytes().split(b"\n"):
        row = line.split(b" ", 3)
        if len(row) > 3:
            point = unescaped(row[1])
            # The last one mounted at a place hides those before it.
            if path.is_relative_to(point) and point.is_relative_to(found):
                found, kind = point, os.fsdecode(row[2])
    return kind
