"""The process that keeps a mount: it starts s3fs and a gateway, and ends with the mount.

It is small and imports little, as there is one for each mount.  It starts a gateway at
once, whose Python takes half a second, and takes one line of JSON from its standard input
(`Orders`), which may come later.  While it lives, a gateway that has died is started
again; requests wait meanwhile at the port, which stays open.  When s3fs has ended, so does
everything else.

s3fs inherits the open port.  So nobody else can take it and serve other data under our
name, not even when the gateway and this process have been killed; s3fs is killed then, as
nobody would answer it any more.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

#: How the two processes of a mount beside s3fs are called in lists of processes.
KEEPER, GATEWAY = "s3fuse-keeper", "s3fuse-gateway"
#: A gateway that dies so many times within so many seconds cannot be helped.
MOST_DEATHS, WITHIN = 5, 60.0
#: Seconds that a gateway gets to end.
PATIENCE = 5.0

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Orders:
    """What a keeper is told.

    Attributes
    ----------
    gateway : dict
        See `s3fuse.gateway.options.GatewayOptions.as_json`.
    command, environment : list of str, dict of str to str
        How s3fs is started.
    unmount : list of str
        The command that detaches the mount.
    s3fs_log : str
        Where the output of s3fs goes.
    owned : bool
        Whether the mount goes when the standard input of the keeper ends.
    """

    gateway: dict[str, Any]
    command: list[str]
    environment: dict[str, str]
    unmount: list[str]
    s3fs_log: str
    owned: bool

    def as_line(self) -> bytes:
        """Return what `from_line` reads; it holds secrets."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Orders:
        """Read what `as_line` has written."""
        return cls(**json.loads(line))


class Keeper:
    """One mount: its s3fs and its gateway.

    Parameters
    ----------
    orders : Orders
        What to start.
    listener : int
        The descriptor of the open port.
    gateway : Popen
        The first gateway, which waits for its options.
    """

    def __init__(self, orders: Orders, listener: int, gateway: subprocess.Popen[bytes]) -> None:
        self._orders, self._listener = orders, listener
        self._is_ending = threading.Event()
        self._gateway = gateway
        self._tell_gateway()
        self._s3fs = self._start_s3fs()

    def run(self) -> None:
        """Keep the mount until s3fs has ended."""
        print(json.dumps({"s3fs": self._s3fs.pid, "gateway": self._gateway.pid}), flush=True)
        threading.Thread(target=self._keep_gateway, daemon=True).start()
        if self._orders.owned:
            threading.Thread(target=self._follow_owner, daemon=True).start()
        self._s3fs.wait()
        self._is_ending.set()
        _end(self._gateway)

    def _keep_gateway(self) -> None:
        deaths: list[float] = []
        while True:
            status = self._gateway.wait()
            if self._is_ending.is_set():
                return
            now = time.monotonic()
            deaths = [each for each in deaths if now - each < WITHIN] + [now]
            if len(deaths) > MOST_DEATHS:
                # Whoever reads gets an error now, and not after minutes.
                self._s3fs.terminate()
                return
            self._gateway = start_gateway(self._listener)
            self._tell_gateway()
            with contextlib.suppress(OSError):
                print(json.dumps({"restarted": status, "gateway": self._gateway.pid}), flush=True)

    def _follow_owner(self) -> None:
        with contextlib.suppress(OSError):
            while os.read(0, 1):
                pass
        # Who has a file open reads on; then s3fs ends by itself.
        subprocess.run(self._orders.unmount, capture_output=True, check=False)

    def _tell_gateway(self) -> None:
        assert self._gateway.stdin
        # Open until the end: it tells the gateway that this process is gone.
        with contextlib.suppress(BrokenPipeError):
            self._gateway.stdin.write(json.dumps(self._orders.gateway).encode() + b"\n")
            self._gateway.stdin.flush()

    def _start_s3fs(self) -> subprocess.Popen[bytes]:
        with open(self._orders.s3fs_log, "ab") as log:
            return subprocess.Popen(
                self._orders.command,
                env=self._orders.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=[self._listener],
                preexec_fn=_end_with_parent,
                cwd="/",
            )


def start_gateway(listener: int) -> subprocess.Popen[bytes]:
    """Start a gateway, which waits for its options."""
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "s3fuse.gateway", str(listener)],
        stdin=subprocess.PIPE,
        pass_fds=[listener],
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(OSError):
        assert process.stdin
        process.stdin.close()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _end_with_parent() -> None:
    # At SIGTERM it would wait for answers that do not come.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def begin(name: str) -> None:
    """Name this process, and let it end with what it serves only, whatever all jobs are sent."""
    Path("/proc/self/comm").write_text(name)
    for number in (signal.SIGINT, signal.SIGTERM):
        # Not SIG_IGN, which s3fs would inherit.
        signal.signal(number, lambda *_: None)


def main() -> None:
    """Keep one mount; end with nothing done if no orders come."""
    begin(KEEPER)
    listener = int(sys.argv[1])
    gateway = start_gateway(listener)
    if line := sys.stdin.buffer.readline():
        Keeper(Orders.from_line(line), listener, gateway).run()
    else:
        _end(gateway)


if __name__ == "__main__":
    main()
