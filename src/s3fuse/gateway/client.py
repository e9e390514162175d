"""What a run tells the gateway of a mount, and asks it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import tenacity

from s3fuse.errors import MountError
from s3fuse.gateway.catalogue import View
from s3fuse.gateway.failures import Failure
from s3fuse.gateway.options import CONTROL

#: Seconds within which a gateway answers, one that is just started again included.
PATIENCE = 15.0
#: Seconds between two questions to one that is being started.
PAUSE = 0.1


class Gateway:
    """The gateway of a mount, seen from a run.

    Parameters
    ----------
    directory : Path
        The directory of the mount.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def show(self, view: View) -> Path:
        """Let the mount show a view, and return the path of it.

        Raises
        ------
        MountError
            If the gateway does not answer.
        """
        return Path(self._ask("POST", "/views", json.dumps(view.as_json()))["path"])

    def requests(self) -> Counter[str]:
        """Count the requests to the store by their names, and the ``bytes`` that came.

        Raises
        ------
        MountError
            If the gateway does not answer.
        """
        return Counter(self._ask("GET", "/requests"))

    def moved(self, path: str) -> int:
        """Return the bytes that have come of an object or folder, by its path in the mount.

        Raises
        ------
        MountError
            If the gateway does not answer.
        """
        return int(self._ask("GET", f"/moved?path={quote(path)}")["bytes"])

    def failures(self, keys: Sequence[str]) -> list[Failure]:
        """Return what could not be had, when what has come whole is compared with its ETag.

        Parameters
        ----------
        keys : sequence of str
            How the keys begin for which that is waited for.

        Raises
        ------
        MountError
            If the gateway does not answer.
        """
        answer = self._ask("POST", "/failures", json.dumps({"keys": list(keys)}))
        return [Failure.from_json(each) for each in answer["failures"]]

    def _ask(self, method: str, path: str, body: str | None = None) -> dict[str, Any]:
        try:
            for attempt in tenacity.Retrying(
                # A gateway that has ended is started again.
                retry=tenacity.retry_if_exception(lambda _: self._directory.exists()),
                wait=tenacity.wait_fixed(PAUSE),
                stop=tenacity.stop_after_attempt(round(PATIENCE / PAUSE)),
                reraise=True,
            ):
                with attempt:
                    return self._ask_once(method, path, body)
        except (OSError, http.client.HTTPException) as error:
            reason = str(error) or type(error).__name__
        raise MountError(
            f"The gateway of {self._directory} does not answer ({reason}); "
            "see gateway.log there, and start again."
        )

    def _ask_once(self, method: str, path: str, body: str | None) -> dict[str, Any]:
        with contextlib.closing(_Connection(self._directory)) as connection:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            content = answer.read()
            if answer.status != 200:
                raise http.client.HTTPException(f"status {answer.status}")
            return dict(json.loads(content))


class _Connection(http.client.HTTPConnection):
    """HTTP by the socket in the directory of a mount."""

    def __init__(self, directory: Path) -> None:
        super().__init__("gateway", timeout=PATIENCE)
        self._directory = directory

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        # Paths of sockets may be short only; this one is short.
        folder = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            self.sock.connect(f"/proc/self/fd/{folder}/{CONTROL}")
        finally:
            os.close(folder)
