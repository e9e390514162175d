"""ETags: what they say about the content of an object."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

from s3fuse.s3.objects import ObjectInfo
from s3fuse.s3.parts import MAX_PARTS, PART_SIZE


def holds(info: ObjectInfo, path: Path) -> bool:
    """Whether an object is known to have the content of a file."""
    can_tell = len(info.etag.partition("-")[0]) == 32 and not info.opaque
    return can_tell and info.size == path.stat().st_size and matches(path, info)


def md5_of(path: str | Path) -> str:
    """Return the MD5 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def content_md5(body: bytes) -> str:
    """Return the MD5 of a body in the form of the header Content-MD5."""
    return b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()


def part_size_of(path: Path) -> int:
    """Return the bytes of each part in which a file is uploaded."""
    return max(PART_SIZE, -(-path.stat().st_size // MAX_PARTS))


def _parts(path: Path) -> Iterator[bytes]:
    size = part_size_of(path)
    with path.open("rb") as file:
        while part := file.read(size):
            yield hashlib.md5(part, usedforsecurity=False).digest()


def matches(path: Path, info: ObjectInfo) -> bool:
    """Compare content by ETag: an MD5, or for parts an MD5 of MD5s and their number.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html
    An ETag of another form says nothing about the content (SSE-KMS, SSE-C).
    """
    digest, _, count = info.etag.partition("-")
    if len(digest) != 32 or info.opaque:
        return True
    if not count:
        return digest == md5_of(path)
    parts = list(_parts(path))
    whole = hashlib.md5(b"".join(parts), usedforsecurity=False).hexdigest()
    return int(count) == len(parts) and digest == whole
