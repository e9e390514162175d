"""Versions of objects that cannot be had, or are damaged, in a file beside the mount.

A program may ignore that a read has failed.  So before a run publishes what a job made of
its inputs, it looks here, also when the gateway has died meanwhile.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

from s3fuse.s3.objects import ObjectInfo

#: The file in the directory of a mount.
FAILURES = "failures.jsonl"


def version_name(info: ObjectInfo) -> str:
    """Return what tells a version of an object from all others in its bucket."""
    return f"{info.etag} {info.size} {info.mtime:.0f} {info.key}"


class Failures:
    """What a gateway could not give.

    Parameters
    ----------
    directory : Path
        The directory of the mount.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / FAILURES
        self._known = read_failures(directory)

    def add(self, info: ObjectInfo, sentence: str) -> bool:
        """Note why a version cannot be had; returns whether that is news."""
        if self.reason(info) is not None:
            return False
        self._known.append((info, sentence))
        line = json.dumps({"info": vars(info), "sentence": sentence}) + "\n"
        handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(handle, "a", encoding="ascii") as file:
            file.write(line)
        return True

    def reason(self, info: ObjectInfo) -> str | None:
        """Return why a version cannot be had; None if nothing is known against it."""
        wanted = version_name(info)
        return next((text for each, text in self._known if version_name(each) == wanted), None)


def read_failures(directory: Path) -> list[tuple[ObjectInfo, str]]:
    """Read the versions that could not be had through a mount, and why."""
    found: list[tuple[ObjectInfo, str]] = []
    with contextlib.suppress(FileNotFoundError):
        for line in (directory / FAILURES).read_text(encoding="ascii").splitlines():
            # The last one may have been cut by the end of the gateway.
            with contextlib.suppress(ValueError):
                content = json.loads(line)
                found.append((ObjectInfo(**content["info"]), content["sentence"]))
    return found
