"""What a run has planned with, for its jobs on other nodes.

Such a job starts a Snakemake of its own, which would plan with what is in the bucket at that
moment; two jobs of a run could read two versions of an input.  So the process that plans
writes down the versions of all inputs, in a file that a variable of the environment
names, and a job reads them.  Where the file or the variable does not get to the node,
a job plans for itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
import uuid
from dataclasses import asdict
from pathlib import Path

from s3fuse.errors import RunDirError
from s3fuse.s3.connection import Connection
from s3fuse.s3.listings import Listings
from s3fuse.s3.objects import ObjectInfo
from s3fuse.urls import S3Url

#: How the variables begin that name the files for a store.
VARIABLE = "S3FUSE_PLAN"


class Plan:
    """The inputs that a run planned with, in a file.

    Parameters
    ----------
    connection : Connection
        The store that they are in.
    folder : Path
        Where the process that plans may write.

    Attributes
    ----------
    variable : str
        The variable of the environment that names the file.
    """

    def __init__(self, connection: Connection, folder: Path) -> None:
        place = hashlib.sha256(connection.place.encode()).hexdigest()[:16]
        self.variable = f"{VARIABLE}_{place.upper()}"
        self._path = folder.absolute() / f"plan-{uuid.uuid4().hex}.jsonl"
        self._lock = threading.Lock()
        self._is_named = False
        self._written: set[S3Url] = set()

    def name(self) -> None:
        """Name the file to jobs, in place of that of a run around this one.

        Another `storage` block of this process may have named one for the same store.
        """
        with self._lock:
            if not self._is_named:
                self._is_named = True
                me, _, paths = os.environ.get(self.variable, "").partition(":")
                others = paths.split(os.pathsep) if me == str(os.getpid()) else []
                named = os.pathsep.join([*others, str(self._path)])
                os.environ[self.variable] = f"{os.getpid()}:{named}"

    def write(self, url: S3Url, infos: list[ObjectInfo]) -> None:
        """Note the version of an object, or those of all objects of a folder, once.

        Raises
        ------
        RunDirError
            If it cannot be written.
        """
        self.name()
        with self._lock:
            if url in self._written:
                return
            self._written.add(url)
            line = {"url": str(url), "infos": [asdict(info) for info in infos]}
            try:
                with self._path.open("a", encoding="ascii") as file:
                    file.write(json.dumps(line) + "\n")
            except OSError as error:
                raise RunDirError(
                    f"What this run has planned with cannot be written to {self._path.parent}: "
                    f"{error.strerror}; set --local-storage-prefix to another place."
                ) from error

    def give_to(self, listings: Listings) -> None:
        """Let a job go on with what its run has planned with."""
        paths = os.environ.get(self.variable, "").partition(":")[2]
        for path in filter(None, paths.split(os.pathsep)):
            with contextlib.suppress(OSError, ValueError):
                for line in Path(path).read_text(encoding="ascii").splitlines():
                    content = json.loads(line)
                    infos = [ObjectInfo(**each) for each in content["infos"]]
                    listings.give(S3Url.split(content["url"]), infos)
