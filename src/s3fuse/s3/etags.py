"""ETags: what they say about the content of an object."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from s3fuse.errors import ObjectDamaged
from s3fuse.s3.objects import ObjectInfo
from s3fuse.s3.parts import MAX_PARTS, PART_SIZE
from s3fuse.urls import S3Url

#: Bytes of a file that are read at a time.
CHUNK = 2**20


def holds(info: ObjectInfo, path: Path) -> bool:
    """Tell whether an object is known to have the content of a file."""
    if not info.tells_content or info.size != path.stat().st_size:
        return False
    if "-" in info.etag:
        return info.etag == etag_of_digests(digests_of_parts(path))
    return info.etag == md5_of(path)


def may_hold(info: ObjectInfo, file: IO[bytes], part_size: Callable[[int], int | None]) -> bool:
    """Tell whether a file may be a copy of an object, whoever has uploaded that.

    Parameters
    ----------
    info : ObjectInfo
        The object.
    file : file
        A file of its size.
    part_size : callable
        Is given the number of a part, from 1 on, and returns its bytes as the store says:
        https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html

    Returns
    -------
    bool
        False if the ETag is another one.  True, too, where nothing is known of the content.
    """
    if not info.tells_content:
        return True
    if info.md5:
        return _digests(file, [info.size])[0].hex() == info.md5
    count, first = info.etag.partition("-")[2], part_size(1)
    if not first or count != str(-(-info.size // first)) or int(count) > MAX_PARTS:
        return True
    # Most tools send parts of one size, so not each of them is asked for at first.
    rest = [first] * (int(count) - 1)
    if etag_of_digests(_digests(file, [*rest, info.size - sum(rest)])) == info.etag:
        return True
    sizes: list[int] = []
    for number in range(1, int(count) + 1):
        size = part_size(number)
        if size is None:
            return True
        sizes.append(size)
    return sum(sizes) != info.size or etag_of_digests(_digests(file, sizes)) == info.etag


def damaged(url: S3Url) -> ObjectDamaged:
    """Return the error for an object of which something else has come."""
    return ObjectDamaged(
        f"{url} is not what its checksum says; it was damaged in the store or on its way here. "
        "Start the run again."
    )


def _digests(file: IO[bytes], sizes: Sequence[int]) -> list[bytes]:
    """Return the MD5 of each part of a file."""
    file.seek(0)
    digests: list[bytes] = []
    for size in sizes:
        digest = hashlib.md5(usedforsecurity=False)
        left = size
        while left and (chunk := file.read(min(left, CHUNK))):
            digest.update(chunk)
            left -= len(chunk)
        digests.append(digest.digest())
    return digests


def digests_of_parts(path: Path) -> list[bytes]:
    """Return the MD5 of each part of a file, in parts of `part_size_of`."""
    size, total = part_size_of(path), path.stat().st_size
    with path.open("rb") as file:
        # An empty file is one empty part.
        starts = range(0, max(total, 1), size)
        return _digests(file, [min(size, total - start) for start in starts])


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
