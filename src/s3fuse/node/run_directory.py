"""The directory of one run for its links, copies and outputs, which ends with the run.

Runs that share a working directory or a local prefix leave each other's files
alone, and no run reads what another one has left: a copy of an older version, or
an output whose job was killed while it wrote.  A batch job has a directory of its
own.  Snakemake runs a job of Slurm in a process within a process, of which the
outer one looks for the outputs when the inner one has ended; so the directory goes
with the process that came first.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from s3fuse.errors import RunDirError
from s3fuse.node.directories import is_ours, open_directory
from s3fuse.node.processes import Process, current_owner, is_left, write_note
from s3fuse.node.schedulers import batch_job

#: The file in the directory that says which process made it.
NOTE = ".s3fuse-run.json"
#: How the names of directories begin: of runs, of batch jobs, and of those that are being made.
RUN, JOB, NEW = "run-", "job-", ".new-"


class RunDirectory:
    """A directory below the local prefix.

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
        self._is_maker = False
        owner, job = current_owner(), batch_job()
        numbered = (f"{RUN}{number}" for number in itertools.count())
        # Few names, as Snakemake keeps a record of each local output that it has seen.
        for name in [f"{JOB}{job}"] if job else numbered:
            self.path = prefix / name
            maker = _maker(self.path)
            if maker is None and self._make():
                self._is_maker = True
                return
            if maker == owner or (job and maker is not None):
                return
            if job:
                raise RunDirError(
                    f"{self.path} is not a directory of yours, so this job has no place for its "
                    "files; remove it."
                )

    def _make(self) -> bool:
        """Make the directory with its note, in one step; tell whether this process did it."""
        _remove(self.path)
        self._prefix.mkdir(parents=True, exist_ok=True)
        # Only its owner may enter it.
        new = Path(tempfile.mkdtemp(prefix=NEW, dir=self._prefix))
        write_note(new / NOTE)
        try:
            new.rename(self.path)
        except OSError:
            # Another process came first.
            _remove(new)
            return False
        return True

    def remove(self, kept: Iterable[Path] = ()) -> None:
        """Remove the directory at the end of the process that made it.

        Parameters
        ----------
        kept : iterable of Path
            Files and directories in it that stay, below the prefix itself.
        """
        if not self._is_maker:
            return
        for path in kept:
            with contextlib.suppress(FileNotFoundError):
                self._keep(path)
        _remove(self.path)

    def _keep(self, path: Path) -> None:
        place = self._prefix / path.relative_to(self.path)
        place.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir() and place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
        os.replace(path, place)


def remove_left(prefix: Path) -> None:
    """Remove the directories of runs and jobs of this node that are gone."""
    for pattern in (f"{RUN}*", f"{JOB}*", f"{NEW}*"):
        for path in prefix.glob(pattern):
            if (path / NOTE).exists() and _maker(path) is None:
                _remove(path)


def _remove(path: Path) -> None:
    """Remove a directory of this user; links in it are removed and not followed."""
    if is_ours(path):
        with open_directory(path.parent) as prefix:
            shutil.rmtree(path.name, ignore_errors=True, dir_fd=prefix)


def _maker(path: Path) -> Process | None:
    """Return the process that made a directory; None if it is known to have ended."""
    if not is_ours(path):
        return None
    try:
        note = json.loads((path / NOTE).read_text())
        return None if is_left(note) else Process(**note["process"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
