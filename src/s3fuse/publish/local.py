"""The files of a directory that a job has written."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from s3fuse.errors import PublishError, QueryError
from s3fuse.s3.objects import INTERNAL
from s3fuse.urls import S3Url

#: Snakemake's own time stamp in a directory, which is no part of the result.
TIMESTAMP_FILE = ".snakemake_timestamp"


def files_below(path: Path, folder: S3Url) -> dict[S3Url, Path]:
    """Find the files of a directory, and the objects that they become.

    Links are followed.

    Parameters
    ----------
    path : Path
        The directory.
    folder : S3Url
        The folder to be.

    Raises
    ------
    PublishError
        If there is no file, or something that cannot become an object: a link that
        leads nowhere or around in a circle, a FIFO, a socket, a device, or a name
        that cannot be a key.
    """
    files = {}
    for file in _walk(path, folder, ()):
        relative = file.relative_to(path).as_posix()
        if file.name.startswith(INTERNAL):
            raise PublishError(
                f"{file} cannot be stored in {folder}: names that begin with {INTERNAL!r} are "
                "reserved; rename it."
            )
        try:
            url = S3Url.parse(f"{folder.child('')}{relative}")
        except (QueryError, UnicodeEncodeError):
            name = os.fsencode(relative).decode(errors="backslashreplace")
            raise PublishError(
                f"{name!r} in {folder} cannot be the key of an object; rename it."
            ) from None
        files[url] = file
    if not files:
        raise PublishError(
            f"{path} is empty, and an empty folder cannot be stored as {folder}; "
            "let the rule write at least one file."
        )
    return files


def _walk(directory: Path, folder: S3Url, above: tuple[tuple[int, int], ...]) -> Iterator[Path]:
    """Walk a directory in order, following links; `above` are the directories around it."""
    status = directory.stat()
    identity = (status.st_dev, status.st_ino)
    if identity in above:
        raise PublishError(
            f"{directory} is a link to a directory that it lies in, so {folder} would have no "
            "end; remove the link."
        )
    for path in sorted(directory.iterdir()):
        try:
            mode = path.stat().st_mode
        except OSError as error:
            raise PublishError(
                f"{path} cannot be stored in {folder}: {error.strerror}; remove it, or let the "
                "link lead to a file."
            ) from error
        if stat.S_ISDIR(mode):
            yield from _walk(path, folder, (*above, identity))
        elif not stat.S_ISREG(mode):
            raise PublishError(
                f"{path} cannot be stored in {folder}: it is neither a file nor a directory; "
                "remove it."
            )
        elif path.name != TIMESTAMP_FILE:
            yield path
