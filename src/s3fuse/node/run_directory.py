"""The directory of one run for its links, copies and outputs, which ends with the run.

Runs that share a working directory or a local prefix leave each other's files
alone, and no run reads what another one has left: a copy of an older version, or
an output whose job was killed while it wrote.  Processes that a run starts share
its directory, which goes with the process that made it.  So do the two processes
of a Slurm job, of which the outer one looks for the outputs when the inner one has
ended.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from s3fuse.node.directories import is_ours, open_directory
from s3fuse.node.processes import Node, Process, is_left, write_note

log = logging.getLogger("s3fuse")

#: Names the directories of a run, for the processes that it starts.
VARIABLE = "S3FUSE_RUN_DIRECTORIES"
#: The file in a directory that says which process made it.
NOTE = ".s3fuse-run.json"
#: How the names of directories begin: of runs, and of those that are being made.
RUN, NEW = "run-", ".new-"


class RunDirectory:
    """A directory below the local prefix; those of runs that are gone are removed before.

    Parameters
    ----------
    prefix : Path
        Where links, copies and outputs lie by the user's wish.

    Attributes
    ----------
    path : Path
        Where those of this run lie.
    """

    def __init__(self, prefix: Path) -> None:
        self._prefix = prefix
        prefix.mkdir(parents=True, exist_ok=True)
        with _locked(prefix):
            remove_left(prefix)
            inherited = _inherited(prefix)
            self.is_maker = inherited is None
            self.path = inherited or self._make()
        if self.is_maker:
            _announce(self.path)

    def _make(self) -> Path:
        """Make the directory with its note, in one step; few names serve all runs."""
        # Only its owner may enter it.
        new = Path(tempfile.mkdtemp(prefix=NEW, dir=self._prefix))
        write_note(new / NOTE)
        for number in itertools.count():
            path = self._prefix / f"{RUN}{number}"
            with contextlib.suppress(OSError):
                if not os.path.lexists(path):
                    return new.rename(path)
        raise AssertionError

    def remove(self, kept: Iterable[Path] = ()) -> None:
        """Remove the directory at the end of the process that made it.

        Parameters
        ----------
        kept : iterable of Path
            Files and directories in it that stay, below the prefix itself.
        """
        if not self.is_maker:
            return
        for path in kept:
            try:
                self._keep(path)
            except FileNotFoundError:
                continue
            except OSError as error:
                log.warning(f"{path} cannot be kept below {self._prefix}: {error.strerror}.")
        _remove(self.path)

    def _keep(self, path: Path) -> None:
        place = self._prefix / path.relative_to(self.path)
        place.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir() and place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
        os.replace(path, place)


def remove_left(prefix: Path) -> None:
    """Remove the directories of runs of this node that are gone; the prefix must be locked."""
    for pattern in (f"{RUN}*", f"{NEW}*"):
        for path in prefix.glob(pattern):
            note = _note(path)
            if note is not None and is_left(note):
                _remove(path)


@contextlib.contextmanager
def _locked(prefix: Path) -> Iterator[None]:
    """Hold the lock of a local prefix, in which directories are made and removed."""
    with open_directory(prefix) as descriptor:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


def _inherited(prefix: Path) -> Path | None:
    """Return the directory of the run that has started this process, if it has one here."""
    for name in filter(None, os.environ.get(VARIABLE, "").split(os.pathsep)):
        path = Path(name)
        note = _note(path)
        is_here = path.parent == prefix.absolute() and note is not None
        if is_here and note and Node(**note["node"]) == Node.here():
            return prefix / path.name
    return None


def _announce(path: Path) -> None:
    """Tell the processes that this one starts of its directory."""
    known = filter(None, os.environ.get(VARIABLE, "").split(os.pathsep))
    os.environ[VARIABLE] = os.pathsep.join([*known, str(path.absolute())])


def _note(path: Path) -> dict[str, Any] | None:
    """Read the note of a directory of this user; None if there is none that can be read."""
    if not is_ours(path):
        return None
    try:
        note = json.loads((path / NOTE).read_text())
        Node(**note["node"]), Process(**note["process"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return dict(note)


def _remove(path: Path) -> None:
    """Remove a directory of this user; links in it are removed and not followed."""
    if is_ours(path):
        with open_directory(path.parent) as prefix:
            shutil.rmtree(path.name, ignore_errors=True, dir_fd=prefix)
