"""SIGTERM in a job that runs on another node than Snakemake."""

from __future__ import annotations

import signal
import threading
from types import FrameType

from s3fuse.session import Session

#: Seconds for the readers of a mount when a job is cancelled; Slurm gives it 30.
TIMEOUT = 2.0


class Termination:
    """Ends a session at SIGTERM.

    When a job is cancelled or reaches its time limit, SIGKILL follows within
    seconds.  Snakemake would wait for its job until then, and leave the mount.

    Parameters
    ----------
    session : Session
        What to end.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._thread: threading.Thread | None = None
        self._installed = False

    def install(self) -> None:
        """Handle SIGTERM from now on; only the main thread can."""
        if self._installed or threading.current_thread() is not threading.main_thread():
            return
        self._installed = True
        before = signal.getsignal(signal.SIGTERM)

        def handle(number: int, frame: FrameType | None) -> None:
            self._thread = threading.Thread(
                target=self._session.abort, args=(TIMEOUT,), name="s3fuse-end"
            )
            self._thread.start()
            if callable(before):
                before(number, frame)

        signal.signal(signal.SIGTERM, handle)

    def wait(self) -> None:
        """Wait until the session has been ended, if SIGTERM has come."""
        if self._thread:
            self._thread.join()
