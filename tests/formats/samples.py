"""Files of formats of which Iris sample data has none, made from what is known of each format."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

#: Words of the fixed header of a fields file, of the integer and real constants behind
#: it, and of a lookup entry, of which the last 19 are reals.
#: Unified Model Documentation Paper F03.
FIXED, INTEGERS, REALS, LOOKUP, LOOKUP_REALS = 256, 46, 38, 64, 19
MISSING = -32768


def pp_fields(path: Path) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Read the fields of a PP file without packing: 45 integers, 19 reals, and the data."""
    content, fields, at = path.read_bytes(), [], 0

    def record() -> bytes:
        nonlocal at
        (length,) = struct.unpack_from(">i", content, at)
        start, at = at + 4, at + 8 + length
        return content[start : start + length]

    while at < len(content):
        header = record()
        integers, reals = np.frombuffer(header[:180], ">i4"), np.frombuffer(header[180:], ">f4")
        fields.append((integers, reals, np.frombuffer(record(), ">f4")))
    return fields


def fields_file(path: Path, source: Path) -> Path:
    """Write the fields of a PP file as a fields file of the Unified Model.

    Of 64-bit words: the fixed header, the constants, a lookup table with an entry
    for each field, and the data, each field from the start of a block of 512 words.
    """
    fields = pp_fields(source)
    start_of_lookup = FIXED + INTEGERS + REALS
    block = 512
    start = -(-(start_of_lookup + LOOKUP * len(fields)) // block) * block
    fixed = np.full(FIXED, MISSING, ">i8")
    # Version, sub-model atmosphere, hybrid levels, global grid, fields file, grid of
    # New Dynamics; then places, counted from 1, and lengths.
    values = {1: 20, 2: 1, 3: 1, 4: 0, 5: 3, 9: 3, 12: 704, 100: FIXED + 1, 101: INTEGERS}
    values |= {105: FIXED + INTEGERS + 1, 106: REALS, 150: start_of_lookup + 1, 151: LOOKUP}
    values |= {152: len(fields), 160: start + 1}
    for place, value in values.items():
        fixed[place - 1] = value
    lookups, data = [], []
    for integers, reals, values_of_field in fields:
        entry = integers.astype(">i8")
        words = -(-len(values_of_field) // block) * block
        # LBLREC, LBEXT, LBPACK, LBEGIN, LBNREC, and reals as the type of data.
        places = {15: len(values_of_field), 20: 0, 21: 0, 29: start, 30: words, 39: 1}
        for place, value in places.items():
            entry[place - 1] = value
        lookups += [entry.tobytes(), reals.astype(">f8").tobytes()]
        data.append(np.pad(values_of_field.astype(">f8"), (0, words - len(values_of_field))))
        start += words
    constants = np.full(INTEGERS, MISSING, ">i8").tobytes() + np.zeros(REALS, ">f8").tobytes()
    head = fixed.tobytes() + constants + b"".join(lookups)
    head += bytes(-len(head) % (8 * block))
    path.write_bytes(head + b"".join(map(np.ndarray.tobytes, data)))
    return path


def nimrod(path: Path) -> Path:
    """Write a field of rain rates in the format of the Met Office's radar data.

    Records of Fortran: a header of 512 bytes, and the data.
    https://catalogue.ceda.ac.uk/uuid/82adec1f896af6169112d09cc1174499
    """
    rows, columns = 40, 30
    general = np.zeros(31, ">i2")
    # Validity time to the second, and data time to the minute.
    general[:11] = [2026, 1, 2, 3, 0, 0, 2026, 1, 2, 3, 0]
    # Reals of 4 bytes, the British grid, rows, columns, rate of rain, height above
    # ground, origin at the top left, missing data.
    values = {11: 0, 12: 4, 14: 0, 15: rows, 16: columns, 17: 2, 18: 213, 19: 0, 20: -32767}
    values |= {23: 0, 24: -32767, 28: -32767}
    for place, value in values.items():
        general[place] = value
    reals = np.full(28, -32767.0, ">f4")
    # Northing and step of rows, easting and step of columns.
    reals[2:6] = [1_000_000.0, 5_000.0, 100_000.0, 5_000.0]
    more = np.full(45, -32767.0, ">f4")
    texts = b"mm/h".ljust(8) + b"Radar".ljust(24) + b"Surface rain rate".ljust(24)
    last = np.full(51, -32767, ">i2")
    header = general.tobytes() + reals.tobytes() + more.tobytes() + texts + last.tobytes()
    data = np.arange(rows * columns, dtype=">f4").tobytes()
    path.write_bytes(b"".join(_record(part) for part in (header, data)))
    return path


def abf(folder: Path) -> Path:
    """Write a fortnight of the fraction of absorbed radiation, as Boston University did.

    A byte for each cell of a twelfth of a degree; the name says what and when.
    """
    path = folder / "AVHRRBUVI01.1985feba.abf"
    percent = np.random.default_rng(1).integers(0, 110, 4320 * 2160, "u1")
    path.write_bytes(percent.tobytes())
    return path


def _record(content: bytes) -> bytes:
    length = struct.pack(">L", len(content))
    return length + content + length
