"""ETags: what they say about the content of an object."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from pathlib import Path

from s3fuse.s3.objects import ObjectInfo
from s3fuse.s3.parts import MAX_PARTS, PART_SIZE


def holds(info: ObjectInfo, path: Path) -> bool:
    """Tell whether an object is known to have the content of a file."""
    return info.tells_content and info.size == path.stat().st_size and matches(path, info)


def etags_of(path: Path) -> tuple[str, str]:
    """Return the ETags that an object with the content of a file may have.

    An upload in one piece has the MD5 of the content, one in parts an MD5 of MD5s and
    their number; some stores give the MD5 of the content to both.
    https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html

    Returns
    -------
    tuple of str
        The MD5 of the content, and that of an upload in parts of `part_size_of`.
    """
    return md5_of(path), etag_of_parts(path)


def etag_of_parts(path: Path) -> str:
    """Return the ETag of an upload of a file in parts of `part_size_of`."""
    size = part_size_of(path)
    parts: list[bytes] = []
    with path.open("rb") as file:
        while (part := file.read(size)) or not parts:
            parts.append(hashlib.md5(part, usedforsecurity=False).digest())
    return f"{hashlib.md5(b''.join(parts), usedforsecurity=False).hexdigest()}-{len(parts)}"


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


def matches(path: Path, info: ObjectInfo) -> bool:
    """Compare content by ETag; an ETag of another form says nothing about the content."""
    if not info.tells_content:
        return True
    return info.etag == (etag_of_parts(path) if "-" in info.etag else md5_of(path))
