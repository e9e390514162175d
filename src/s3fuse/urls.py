"""S3 URLs, and the places on disk that stand for them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

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

    def is_below(self, folder: S3Url) -> bool:
        """Tell whether this lies in a folder or bucket, at any depth."""
        prefix = folder.child("").key if folder.key else ""
        return self.bucket == folder.bucket and self.key.startswith(prefix) and self != folder

    def local_suffix(self) -> str:
        """Return the relative path on disk that stands for this, unique to it.

        Raises
        ------
        QueryError
            If the path would lie outside the directory of the bucket.
        """
        # Text alone: a workflow asks for the paths of all its files, and takes minutes with
        # `Path` where they are a million.
        suffix = f"{self.bucket}/{self.key.removesuffix('/')}" if self.key else self.bucket
        if self.key and not _can_be_path(self.key.removesuffix("/")):
            raise _no_path(S3Url(self.bucket), self.key.removesuffix("/"))
        return f"{suffix}/{FOLDER_LEAF}" if self.is_folder else suffix

    def __str__(self) -> str:
        return f"{SCHEME}{self.bucket}/{self.key}" if self.key else f"{SCHEME}{self.bucket}"


def path_below(root: Path, folder: S3Url, key: str) -> Path:
    """Turn a key into a local path that is proven to lie below a directory.

    S3 accepts any text as a key.  Some keys name a path outside the directory, such
    as ``tas/../../x`` and ``tas//etc/x``, and some name the path of another key, such
    as ``tas/./x``.

    Parameters
    ----------
    root : Path
        The directory that stands for `folder`.
    folder : S3Url
        A folder or a bucket.
    key : str
        The full key of an object in it.

    Returns
    -------
    Path
        A path below `root`, different for each key.

    Raises
    ------
    QueryError
        If the key cannot be a path below `root`.
    """
    prefix = folder.child("").key
    relative = key.removeprefix(prefix)
    if not key.startswith(prefix) or not _can_be_path(relative):
        raise _no_path(folder, key)
    return root / relative


def _can_be_path(relative: str) -> bool:
    return not (
        _NO_PATH.search(relative)
        or _CONTROL.search(relative)
        or not (relative.isascii() or _is_encodable(relative))
    )


def _no_path(folder: S3Url, key: str) -> QueryError:
    return QueryError(
        f"The key {key!r} in {folder} cannot be a local path: a part of it is empty, '.' or "
        "'..', or it has a control character; rename the object, or do not use the folder."
    )


def paths_below(root: Path, folder: S3Url, keys: Iterable[str]) -> dict[str, Path]:
    """Turn all keys of a folder into local paths that can exist at the same time.

    Parameters
    ----------
    root : Path
        The directory that stands for `folder`.
    folder : S3Url
        A folder or a bucket.
    keys : iterable of str
        The full keys of the objects in it.

    Returns
    -------
    dict of str to Path
        The path below `root` of each key.

    Raises
    ------
    QueryError
        If a key cannot be a path below `root`, or is also the folder of another key.
    """
    paths = {key: path_below(root, folder, key) for key in keys}
    for key in paths:
        parent, slash, _ = key.rpartition("/")
        while slash:
            if parent in paths:
                raise QueryError(
                    f"The key {parent!r} in {folder} is also the folder of {key!r}, and a local "
                    "path is a file or a directory; rename one of them."
                )
            parent, slash, _ = parent.rpartition("/")
    return paths


def _is_encodable(text: str) -> bool:
    """Whether the file system can represent a text."""
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return True


def redacted(text: str) -> str:
    """Hide what may be a user name and password in front of a host."""
    return _USER.sub("//***@", text)
