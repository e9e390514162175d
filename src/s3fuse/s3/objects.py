"""What S3 says of objects and folders."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

#: How the last part of a key begins that this project keeps for itself.
INTERNAL = ".s3fuse-"


def is_internal(key: str) -> bool:
    """Tell whether an object is one of this project's own: a manifest, or a commit record."""
    return key.rpartition("/")[2].startswith(INTERNAL)


@dataclass(frozen=True)
class ObjectInfo:
    """What S3 says of one object.

    Attributes
    ----------
    key : str
        Its key.
    size : int
        Bytes.
    mtime : float
        Seconds since the epoch, whole: HEAD and LIST of S3 agree on no more, and
        those of some stores only to the time that the upload took.
    etag : str
        Without quotes.
    opaque : bool
        Whether a HEAD request told that the ETag says nothing about the
        content, as under SSE-KMS and SSE-C
        (https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html).
    """

    key: str
    size: int
    mtime: float
    etag: str
    opaque: bool = False

    @property
    def tells_content(self) -> bool:
        """Whether the ETag is an MD5 of the content, or an MD5 of those of its parts."""
        return len(self.etag.partition("-")[0]) == 32 and not self.opaque

    @property
    def md5(self) -> str | None:
        """The MD5 of the content where the ETag is one: after an upload in one piece."""
        return self.etag if len(self.etag) == 32 and not self.opaque else None

    @classmethod
    def from_answer(cls, key: str, answer: dict[str, Any], size: str) -> ObjectInfo:
        """Read an entry of a listing, or the answer to a HEAD request."""
        return cls(
            key=key,
            size=int(answer[size]),
            mtime=float(int(answer["LastModified"].timestamp())),
            etag=answer.get("ETag", "").strip('"'),
            opaque=str(answer.get("ServerSideEncryption", "")).startswith("aws:kms")
            or "SSECustomerAlgorithm" in answer,
        )


def version_name(info: ObjectInfo) -> str:
    """Return what tells a version of an object from all others in its bucket."""
    return f"{info.etag} {info.size} {info.mtime:.0f} {info.key}"


@dataclass(frozen=True)
class Listing:
    """Objects and folders directly below a folder, or all objects at any depth.

    Attributes
    ----------
    objects : dict of str to ObjectInfo
        By key.  Placeholders of folders (keys that end with a slash) and this
        project's own objects are left out.
    folders : frozenset of str
        Prefixes, each with its slash; empty in a listing at any depth.
    internal : dict of str to ObjectInfo
        This project's own objects, by key: manifests and commit records.
    """

    objects: dict[str, ObjectInfo]
    folders: frozenset[str]
    internal: dict[str, ObjectInfo] = field(default_factory=dict)
