"""What ETags say of objects that others have uploaded."""

from __future__ import annotations

import hashlib
import io

from hypothesis import given
from hypothesis import strategies as st

from s3fuse.s3.etags import may_hold
from s3fuse.s3.objects import ObjectInfo

PARTS = st.lists(st.binary(min_size=1, max_size=9), min_size=1, max_size=6)


def uploaded(parts: list[bytes]) -> ObjectInfo:
    """An object, with the ETag of an upload in parts."""
    digests = b"".join(hashlib.md5(part).digest() for part in parts)
    etag = f"{hashlib.md5(digests).hexdigest()}-{len(parts)}"
    return ObjectInfo("key", sum(map(len, parts)), 0.0, etag)


@given(parts=PARTS)
def test_parts_may_have_any_sizes(parts: list[bytes]) -> None:
    info, file = uploaded(parts), io.BytesIO(b"".join(parts))
    assert may_hold(info, file, lambda number: len(parts[number - 1]))


@given(parts=PARTS, place=st.integers(0))
def test_another_byte_is_noticed_where_parts_have_one_size(parts: list[bytes], place: int) -> None:
    size = len(parts[0])
    content = bytearray(b"".join(parts))
    parts = [bytes(content[start : start + size]) for start in range(0, len(content), size)]
    info = uploaded(parts)
    content[place % len(content)] ^= 1
    assert not may_hold(info, io.BytesIO(content), lambda number: len(parts[number - 1]))


@given(content=st.binary(max_size=9), place=st.integers(0))
def test_another_byte_is_noticed_in_one_piece(content: bytes, place: int) -> None:
    info = ObjectInfo("key", len(content), 0.0, hashlib.md5(content).hexdigest())
    assert may_hold(info, io.BytesIO(content), lambda number: None)
    if content:
        other = bytearray(content)
        other[place % len(content)] ^= 1
        assert not may_hold(info, io.BytesIO(other), lambda number: None)


@given(head=st.sampled_from(["", "0" * 31, "0" * 32, "0" * 33]), tail=st.text(max_size=5))
def test_nothing_is_known_of_other_etags(head: str, tail: str) -> None:
    info = ObjectInfo("key", 3, 0.0, f"{head}-{tail}")
    # As of a store that does not tell the sizes of parts.
    assert may_hold(info, io.BytesIO(b"abc"), lambda number: None)
