"""A thread that checks the mounts of a run for as long as it lasts."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from s3fuse.errors import S3FuseError

log = logging.getLogger("s3fuse")

#: Seconds between two looks: a job that finds its input gone may be tried again
#: at once.
INTERVAL = 1.0


class Watchdog:
    """Calls a function again and again, until it is stopped.

    Parameters
    ----------
    look : callable
        What to call.  An error of ours is said once, and does not end it.
    """

    def __init__(self, look: Callable[[], None]) -> None:
        self._look = look
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="s3fuse-watchdog", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Wait until the last look is over, and look no more."""
        self._ended.set()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _keep(self) -> None:
        said = ""
        while not self._ended.wait(INTERVAL):
            try:
                self._look()
            except S3FuseError as error:
                if str(error) != said:
                    said = str(error)
                    log.warning(said)
