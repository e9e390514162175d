"""What a mount shows: views of planned versions, and the rest of its bucket.

A view is a directory of the mount that shows objects as they were planned.  Its name is a
digest of the versions in it, so whatever s3fs and the kernel remember of it is right for
ever, and two versions of an object can be read at the same time.  Outside of views lie the
keys of the bucket as they are; each is pinned to the version that was seen first.

What was said once must hold after the gateway has died and was started again.  So it is
written to a journal first.
"""

from __future__ import annotations

import bisect
import contextlib
import hashlib
import itertools
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TextIO

from s3fuse.gateway.answers import Page
from s3fuse.s3.objects import INTERNAL, ObjectInfo, version_name

#: The file in the directory of a mount that holds what was said.
CATALOGUE = "catalogue.jsonl"
#: The folder of a mount in which its views are.
VIEWS = f"{INTERNAL}inputs/"
#: Greater than any character of a key.
_LAST = "\U0010ffff"
#: Bytes of a file name (``NAME_MAX``).
_MOST_NAME = 255


@dataclass(frozen=True)
class View:
    """A directory that shows planned versions.

    Attributes
    ----------
    name : str
        The name of what it is a view of: the last part of a key, or of a folder.
    objects : mapping of str to ObjectInfo
        Objects by their paths below `name`; the only one of a single object has an empty path.
    sequential : bool
        Whether they are read from end to end.
    """

    name: str
    objects: Mapping[str, ObjectInfo]
    sequential: bool = False

    @classmethod
    def of_object(cls, info: ObjectInfo, *, sequential: bool = False) -> View:
        """Make the view of one object."""
        return cls(_file_name(info.key.rpartition("/")[2]), {"": info}, sequential)

    @classmethod
    def of_folder(cls, prefix: str, infos: Iterable[ObjectInfo]) -> View:
        """Make the view of a folder, whose objects have keys below a prefix."""
        name = _file_name(prefix.rstrip("/").rpartition("/")[2])
        return cls(name, {info.key.removeprefix(prefix): info for info in infos})

    @property
    def single(self) -> ObjectInfo | None:
        """The version of a single object; None for a folder."""
        return self.objects.get("")

    @cached_property
    def folder(self) -> str:
        """The directory of the mount that holds it, with a slash."""
        digest = hashlib.sha256(self.name.encode(errors="surrogateescape"))
        for path, info in sorted(self.objects.items()):
            digest.update(f"{path}\0{version_name(info)}\0".encode(errors="surrogateescape"))
        return f"{VIEWS}{digest.hexdigest()[:24]}/"

    @property
    def path(self) -> str:
        """Its path in the mount, without a slash at the end."""
        return self.folder + self.name

    def entries(self) -> dict[str, ObjectInfo]:
        """Return its objects by their paths in the mount."""
        top = self.path
        return {f"{top}/{path}" if path else top: info for path, info in self.objects.items()}

    def as_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        objects = {path: asdict(info) for path, info in self.objects.items()}
        return {"name": self.name, "objects": objects, "sequential": self.sequential}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> View:
        """Read what `as_json` has written."""
        objects = {path: ObjectInfo(**info) for path, info in content["objects"].items()}
        return cls(content["name"], objects, content["sequential"])


@dataclass(frozen=True)
class Seen:
    """What is shown of a key that is looked at again each time.

    Attributes
    ----------
    info : ObjectInfo
        The version, as the store says.
    mtime : float
        The time that is shown.
    """

    info: ObjectInfo
    mtime: float


@dataclass
class Catalogue:
    """The paths of a mount, and the versions of objects behind them.

    Parameters
    ----------
    directory : Path
        The directory of the mount, where it is kept.
    revalidating : bool
        Whether keys outside of views show the newest version, and are not pinned.

    Attributes
    ----------
    seen : dict of str to Seen
        Keys that show the newest version, and what was shown of them last.
    """

    directory: Path
    revalidating: bool = False
    _entries: dict[str, ObjectInfo] = field(init=False, default_factory=dict)
    _names: list[str] = field(init=False, default_factory=list)
    _pins: dict[str, ObjectInfo] = field(init=False, default_factory=dict)
    seen: dict[str, Seen] = field(init=False, default_factory=dict)
    _uncompared: dict[str, ObjectInfo] = field(init=False, default_factory=dict)
    _file: TextIO = field(init=False)

    def __post_init__(self) -> None:
        path = self.directory / CATALOGUE
        with contextlib.suppress(FileNotFoundError):
            for line in path.read_text(encoding="ascii").splitlines():
                # The last may have been cut; nobody was told what it says.
                with contextlib.suppress(ValueError):
                    self._read(json.loads(line))
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._file = os.fdopen(handle, "a", encoding="ascii")
        # What was cut ends here.
        self._file.write("\n")

    def show(self, view: View) -> None:
        """Show a view from now on."""
        entries = view.entries()
        if not entries.keys() <= self._entries.keys():
            self._note(view=view.as_json())
            self._add(entries)

    def pin(self, key: str, info: ObjectInfo) -> ObjectInfo:
        """Pin what was seen of a key of the bucket; returns what was seen first."""
        if self.revalidating:
            return info
        if key not in self._pins:
            self._note(pin=key, info=asdict(info))
            self._pins[key] = info
        return self._pins[key]

    def pinned(self, key: str) -> ObjectInfo | None:
        """Return the version of a key that was seen; None if it was not there so far."""
        return self._pins.get(key)

    def see(self, key: str, shown: Seen | None) -> None:
        """Note what is shown of a key now; a program that opens it must get that."""
        self._note(seen=key, shown=asdict(shown) if shown else None)
        if shown:
            self.seen[key] = shown
        else:
            self.seen.pop(key, None)

    def compare(self, info: ObjectInfo) -> None:
        """Note that a version has come whole, and is to be compared."""
        self._note(compare=asdict(info))
        self._uncompared[version_name(info)] = info

    def compared(self, info: ObjectInfo) -> None:
        """Note that it was."""
        self._note(compared=version_name(info))
        self._uncompared.pop(version_name(info), None)

    def uncompared(self) -> list[ObjectInfo]:
        """Return what a gateway before this one could not compare any more."""
        return list(self._uncompared.values())

    def entry(self, path: str) -> ObjectInfo | None:
        """Return the version behind a path of a view; of a directory, None."""
        return self._entries.get(path)

    def below(self, path: str) -> list[ObjectInfo]:
        """Return the versions behind a path of a view, and below it."""
        place = bisect.bisect_left(self._names, path)
        found = itertools.takewhile(
            lambda name: name.startswith(path), itertools.islice(self._names, place, None)
        )
        return [self._entries[name] for name in found if name[len(path) :][:1] in ("", "/")]

    def is_folder(self, path: str) -> bool:
        """Tell whether a path, with its slash, is a directory of a view."""
        found = bisect.bisect_left(self._names, path)
        return found < len(self._names) and self._names[found].startswith(path)

    def page(self, prefix: str, delimiter: str, after: str, most: int) -> Page:
        """List a directory of views, as S3 would.

        Parameters
        ----------
        prefix, delimiter : str
            As in S3.
        after : str
            The name at which the page before has ended.
        most : int
            Objects and folders of a page.
        """
        objects: list[ObjectInfo] = []
        folders: list[str] = []
        last = ""
        place = max(
            bisect.bisect_left(self._names, prefix), bisect.bisect_right(self._names, after)
        )
        if delimiter and after.endswith(delimiter) and after != prefix:
            place = max(place, bisect.bisect_left(self._names, after + _LAST))
        while place < len(self._names) and self._names[place].startswith(prefix):
            if len(objects) + len(folders) == most:
                return Page(objects, folders, last)
            name = self._names[place]
            end = name.find(delimiter, len(prefix)) if delimiter else -1
            if end < 0:
                info = self._entries[name]
                objects.append(ObjectInfo(name, info.size, info.mtime, info.etag))
                last = name
                place += 1
            else:
                last = name[: end + len(delimiter)]
                folders.append(last)
                place = bisect.bisect_left(self._names, last + _LAST)
        return Page(objects, folders)

    def close(self) -> None:
        """Close the journal."""
        self._file.close()

    def _read(self, line: dict[str, Any]) -> None:
        if "view" in line:
            self._add(View.from_json(line["view"]).entries())
        elif "pin" in line:
            self._pins[line["pin"]] = ObjectInfo(**line["info"])
        elif "compare" in line:
            info = ObjectInfo(**line["compare"])
            self._uncompared[version_name(info)] = info
        elif "compared" in line:
            self._uncompared.pop(line["compared"], None)
        elif line["shown"]:
            shown = line["shown"]
            self.seen[line["seen"]] = Seen(ObjectInfo(**shown["info"]), shown["mtime"])
        else:
            self.seen.pop(line["seen"], None)

    def _add(self, entries: Mapping[str, ObjectInfo]) -> None:
        self._names += entries.keys() - self._entries.keys()
        # Most of it is in order.
        self._names.sort()
        self._entries |= entries

    def _note(self, **line: Any) -> None:
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()


def name_in(path: str) -> str:
    """Return a path in a mount as people know it: without the directory of its view."""
    return path.removeprefix(VIEWS).partition("/")[2] if path.startswith(VIEWS) else path


def _file_name(name: str) -> str:
    """Shorten a name to what a directory can hold, and keep its ending."""
    if len(os.fsencode(name)) <= _MOST_NAME:
        return name
    ending = Path(name).suffix if len(Path(name).suffix.encode()) < 16 else ""
    stem = os.fsencode(name)[: _MOST_NAME - 16].decode(errors="ignore")
    return f"{stem}{ending}"
