"""The folder of a batch job for its copies and outputs, which ends with the job.

Jobs on one node leave each other's files alone, and whoever comes next removes
the folder of a job that was killed.  Snakemake runs a job of Slurm in a process
within a process, of which the outer one looks for the outputs when the inner one
has ended; so the folder goes with the process that came first.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from pathlib import Path

from s3fuse.node.directories import (
    SCRATCH,
    existing_directory,
    is_ours,
    is_replaceable,
    open_directory,
    secure_directory,
)
from s3fuse.node.processes import is_left, write_note
from s3fuse.node.schedulers import batch_job


class JobDirectory:
    """A folder below `parent`; `parent` itself outside of batch jobs.

    Parameters
    ----------
    parent : Path
        Where copies and outputs lie by the user's wish.
    root : Path
        The run-time directory, in which the folder is noted.

    Attributes
    ----------
    path : Path
        Where this process's copies and outputs lie.
    """

    def __init__(self, parent: Path, root: Path) -> None:
        job = batch_job()
        self.path = parent.absolute() / f"job-{job}" if job else parent
        self._note: Path | None = None
        if not job:
            return
        notes = secure_directory(secure_directory(root) / SCRATCH)
        note = notes / _note_name(self.path)
        if _is_in_use(note):
            return
        self._note = note
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_note(note, path=str(self.path))

    def remove(self) -> None:
        """Remove it at the end of the process that made it."""
        if self._note is not None:
            shutil.rmtree(self.path, ignore_errors=True)
            self._note.unlink(missing_ok=True)


def remove_abandoned(root: Path) -> None:
    """Remove the folders of jobs of this node that are gone."""
    if not (existing_directory(root) and existing_directory(root / SCRATCH)):
        return
    for note in root.glob(f"{SCRATCH}/*.json"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            if not _is_in_use(note):
                path = Path(json.loads(note.read_text())["path"])
                # A note leads to the folder that it is named after, and to no other.
                if note.name == _note_name(path) and path.name.startswith("job-") and is_ours(path):
                    if is_replaceable(path):
                        continue
                    # Links are removed, never followed.
                    with open_directory(path.parent) as parent:
                        shutil.rmtree(path.name, ignore_errors=True, dir_fd=parent)
                note.unlink(missing_ok=True)


def _note_name(path: Path) -> str:
    return f"{path.name}-{hashlib.sha256(bytes(path)).hexdigest()[:10]}.json"


def _is_in_use(note: Path) -> bool:
    """Whether the process that wrote a note may still run."""
    try:
        content = json.loads(note.read_text())
    except (FileNotFoundError, ValueError):
        return False
    return not is_left(content)
