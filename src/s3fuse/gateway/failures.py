"""What programs could not have of a bucket, or got damaged, in a file beside the mount.

A program may ignore that a read has failed, and Python's ``glob`` and ``os.walk`` always
ignore it.  So before a run publishes what a job made of its inputs, it asks the gateway, and
looks here where that has died.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from s3fuse.s3.objects import ObjectInfo, version_name

#: The file in the directory of a mount.
FAILURES = "failures.jsonl"
#: Seconds between two lines of the file about the same.
AGAIN = 1.0


@dataclass(frozen=True)
class Failure:
    """Something that could not be had.

    Attributes
    ----------
    key : str
        The key of an object, or the prefix of a listing.
    sentence : str
        Why, for people.
    at : float
        When, in seconds since the epoch; the last time, if it was more than once.
    info : ObjectInfo, optional
        The version of the object; None if it is not about one.
    is_final : bool
        Whether that version can never be had.
    is_end : bool
        Whether all of the mount was gone, as s3fs had ended.
    """

    key: str
    sentence: str
    at: float
    info: ObjectInfo | None = None
    is_final: bool = False
    is_end: bool = False

    @classmethod
    def of_version(cls, info: ObjectInfo, sentence: str) -> Failure:
        """Make the failure of a version that can never be had."""
        return cls(info.key, sentence, time.time(), info, is_final=True)

    def as_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Failure:
        """Read what `as_json` has written."""
        info = content["info"] and ObjectInfo(**content["info"])
        return cls(**{**content, "info": info})


class Failures:
    """What a gateway could not give.

    Parameters
    ----------
    directory : Path
        The directory of the mount.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / FAILURES
        self._known: dict[tuple[str, str, str], Failure] = {}
        self._final: dict[str, str] = {}
        for each in read_failures(directory):
            self._remember(each)

    def add(self, failure: Failure) -> bool:
        """Note why something cannot be had; returns whether that is news.

        Raises
        ------
        OSError
            If it cannot be written; it is known then all the same.
        """
        known = self._remember(failure)
        if known and (known.is_final or failure.at - known.at < AGAIN):
            return False
        line = json.dumps(failure.as_json()) + "\n"
        handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(handle, "a", encoding="ascii") as file:
            file.write(line)
        return not known

    def all(self) -> list[Failure]:
        """Return all that is known."""
        return list(self._known.values())

    def reason(self, info: ObjectInfo) -> str | None:
        """Return why a version can never be had; None if nothing is known against it."""
        return self._final.get(version_name(info))

    def _remember(self, failure: Failure) -> Failure | None:
        """Remember a failure; returns the one that was known of the same."""
        version = version_name(failure.info) if failure.info else ""
        name = (failure.key, version, failure.sentence)
        known = self._known.get(name)
        self._known[name] = failure
        if failure.is_final:
            self._final.setdefault(version, failure.sentence)
        return known


def read_failures(directory: Path) -> list[Failure]:
    """Read what could not be had through a mount, and why."""
    found: list[Failure] = []
    with contextlib.suppress(FileNotFoundError):
        for line in (directory / FAILURES).read_text(encoding="ascii").splitlines():
            # The last one may have been cut by the end of the gateway.
            with contextlib.suppress(ValueError):
                found.append(Failure.from_json(json.loads(line)))
    return found
