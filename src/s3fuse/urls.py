"""S3 URLs, and the places on disk that stand for them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from s3fuse.errors import QueryError

SCHEME = "s3://"

#: The last path component of a folder or bucket on disk.  Folders get a name
#: of their own *beside* the objects below them: were ``bucket/tas`` itself a
#: link into a mount, then ``bucket/tas/x.nc`` would be a path through it.
FOLDER_LEAF = "@folder"

# https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html,
# widened by the underscores and capitals that Ceph and MinIO allow.
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NO_PATH = re.compile(r"(?:^|/)\.{0,2}(?:/|$)")
_USER = re.compile(r"//[^/@]*:[^/@]*@")
_MAX_KEY_BYTES = 1024


@dataclass(frozen=True)
class S3Url:
    """An object, a folder (its key ends with a slash) or a whole bucket.

    Attributes
    ----------
    bucket : str
        Name of the bucket.
    key : str
        Key of the object; prefix of a folder, with its slash; empty for a bucket.
    """

    bucket: str
    key: str = ""

    @classmethod
    def parse(cls, text: str) -> S3Url:
        """Read ``s3://bucket``, ``s3://bucket/prefix/`` or ``s3://bucket/key``.

        Raises
        ------
        QueryError
            If it is none of these, or its key cannot be a path on disk.
        """
        if not text.startswith(SCHEME):
            raise QueryError(
                f"{redacted(text)!r} is no S3 URL; write s3://bucket/key, "
                "s3://bucket/folder/ or s3://bucket."
            )
        bucket, _, key = text[len(SCHEME) :].partition("/")
        if not _BUCKET.fullmatch(bucket):
            raise QueryError(
                f"{redacted(text)!r} does not name a bucket; bucket names have at least 3 "
                "letters, digits, dots, hyphens or underscores, as in s3://my-bucket/key."
            )
        if _CONTROL.search(key):
            raise QueryError(f"{redacted(text)!r} contains a control character; rename the object.")
        if len(key.encode()) > _MAX_KEY_BYTES:
            raise QueryError(f"{redacted(text)!r} has a key of more than {_MAX_KEY_BYTES} bytes.")
        if key and _NO_PATH.search(key.removesuffix("/")):
            raise QueryError(
                f"{redacted(text)!r} has an empty, '.' or '..' part, which cannot be a path "
                "on disk; write the key in full."
            )
        if FOLDER_LEAF in key and FOLDER_LEAF in key.split("/"):
            raise QueryError(
                f"{redacted(text)!r} has a part {FOLDER_LEAF!r}, which is reserved here."
            )
        return cls(bucket, key)

    @classmethod
    def parse_folder(cls, text: str) -> S3Url:
        """Read ``s3://bucket`` or ``s3://bucket/prefix/``.

        Raises
        ------
        QueryError
            If it is neither.
        """
        url = cls.parse(text)
        if not url.is_folder:
            raise QueryError(
                f"{redacted(text)!r} is an object; name its folder or bucket, as in {url.parent}."
            )
        return url

    @classmethod
    def split(cls, pattern: str) -> S3Url:
        """Take a valid URL, or a pattern of URLs, apart without judging its parts."""
        bucket, _, key = pattern[len(SCHEME) :].partition("/")
        return cls(bucket, key)

    @property
    def is_folder(self) -> bool:
        """Whether this is a folder or a whole bucket."""
        return not self.key or self.key.endswith("/")

    @property
    def parent(self) -> S3Url:
        """The folder this lies in; the bucket for whatever lies at its top."""
        head, slash, _ = self.key.removesuffix("/").rpartition("/")
        return S3Url(self.bucket, head + slash)

    def child(self, relative: str) -> S3Url:
        """Whatever lies at `relative` below this folder."""
        separator = "" if self.is_folder else "/"
        return S3Url(self.bucket, self.key + separator + relative)

    def local_suffix(self) -> str:
        """The relative path on disk that stands for this, unique to it."""
        suffix = f"{self.bucket}/{self.key}"
        if self.is_folder:
            return f"{suffix.removesuffix('/')}/{FOLDER_LEAF}"
        return suffix

    def __str__(self) -> str:
        return f"{SCHEME}{self.bucket}/{self.key}" if self.key else f"{SCHEME}{self.bucket}"


def redacted(text: str) -> str:
    """Hide what may be a user name and password in front of a host."""
    return _USER.sub("//***@", text)
