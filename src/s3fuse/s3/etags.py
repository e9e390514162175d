"""ETags: what they say about the content of an object."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path

from s3fuse.s3.objects import ObjectInfo
from s3fuse.s3.parts import MAX_PARTS, PART_SIZE


def holds(info: ObjectInfo, path: Path) -> bool:
    """Tell whether an object is known to have the content of a file."""
    if not info.tells_content or info.size != path.stat().st_size:
        return False
    if "-" in info.etag:
        return info.etag == etag_of_digests(digests_of_parts(path))
    return info.etag == md5_of(path)


def digests_of_parts(path: Path) -> list[bytes]:
    """Return the MD5 of each part of a file, in parts of `part_size_of`."""
    size = part_size_of(path)
    digests: list[bytes] = []
    with path.open("rb") as file:
        while (part := file.read(size)) or not digests:
            digests.append(md5(part))
    return digests


def etag_of_digests(digests: Sequence[bytes]) -> str:
    """Return the ETag of an upload in parts, by the MD5 of each."""
    return f"{md5(b''.join(digests)).hex()}-{len(digests)}"


def md5_of(path: str | Path) -> str:
    """Return the MD5 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def md5(body: bytes) -> bytes:
    """Return the MD5 of a body."""
    return hashlib.md5(body, usedforsecurity=False).digest()


def content_md5(digest: bytes) -> str:
    """Return an MD5 in the form of the header Content-MD5."""
    return b64encode(digest).decode()


def part_size_of(path: Path) -> int:
    """Return the bytes of each part in which a file is uploaded."""
    return max(PART_SIZE, -(-path.stat().st_size // MAX_PARTS))
