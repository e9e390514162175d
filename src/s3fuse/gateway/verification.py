"""Whether an object that has come whole is the one that its ETag describes."""

from __future__ import annotations

from pathlib import Path

from s3fuse.s3.etags import etag_of_digests, md5, md5_of
from s3fuse.s3.objects import ObjectInfo


def is_damaged(path: Path, info: ObjectInfo, part_size: int | None) -> bool:
    """Tell whether a file is surely not the object that it should be.

    Parameters
    ----------
    path : Path
        A file of the size of the object.
    info : ObjectInfo
        The object.
    part_size : int, optional
        Bytes of the parts in which it was uploaded, if it was and the store tells.

    Returns
    -------
    bool
        False, too, where the ETag says nothing about the content.
    """
    if not info.tells_content:
        return False
    if "-" not in info.etag:
        return md5_of(path) != info.etag
    if not part_size or info.etag.rpartition("-")[2] != str(-(-info.size // part_size)):
        return False
    with path.open("rb") as file:
        digests = [md5(part) for part in iter(lambda: file.read(part_size), b"")]
    return etag_of_digests(digests) != info.etag
