"""What a run has planned with, for its jobs on other nodes.

Such a job starts a Snakemake of its own, which would plan with what is in the bucket at that
moment; two jobs of a run could read two versions of an input.  So the process that plans
writes down the versions of all inputs, in a directory that a variable of the environment
names, and a job reads them.  Where neither the directory nor the variable gets to the node,
a job plans for itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
from dataclasses import asdict
from pathlib import Path

from s3fuse.errors import RunDirError
from s3fuse.s3.connection import Connection
from s3fuse.s3.listings import Listings
from s3fuse.s3.objects import ObjectInfo
from s3fuse.urls import S3Url

#: The variable with the directory.
VARIABLE = "S3FUSE_PLAN"


class Plan:
    """The inputs that a run planned with, in a file.

    Parameters
    ----------
    connection : Connection
        The store that they are in.
    folder : Path
        Where the process that plans may write.
    """

    def __init__(self, connection: Connection, folder: Path) -> None:
        place = hashlib.sha256(connection.place.encode()).hexdigest()[:16]
        self._name, self._folder = f"plan-{place}.jsonl", folder
        self._lock = threading.Lock()
        self._written: set[S3Url] = set()

    def write(self, url: S3Url, infos: list[ObjectInfo]) -> None:
        """Note the version of an object, or those of all objects of a folder, once.

        Raises
        ------
        RunDirError
            If it cannot be written.
        """
        with self._lock:
            if url in self._written:
                return
            self._written.add(url)
            os.environ[VARIABLE] = str(self._folder.absolute())
            line = {"url": str(url), "infos": [asdict(info) for info in infos]}
            try:
                with (self._folder / self._name).open("a", encoding="ascii") as file:
                    file.write(json.dumps(line) + "\n")
            except OSError as error:
                raise RunDirError(
                    f"What this run has planned with cannot be written to {self._folder}: "
                    f"{error.strerror}; set --local-storage-prefix to another place."
                ) from error

    def give_to(self, listings: Listings) -> None:
        """Let a job go on with what its run has planned with."""
        folder = os.environ.get(VARIABLE)
        if not folder:
            return
        with contextlib.suppress(OSError):
            for line in (Path(folder) / self._name).read_text(encoding="ascii").splitlines():
                content = json.loads(line)
                infos = [ObjectInfo(**each) for each in content["infos"]]
                listings.give(S3Url.split(content["url"]), infos)
