"""The start of a mount: of s3fs, and of the gateway before it."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import tenacity

from s3fuse.cache.entries import entries
from s3fuse.cache.place import open_node_cache
from s3fuse.errors import MountError
from s3fuse.gateway.keeper import Orders
from s3fuse.gateway.options import GatewayOptions
from s3fuse.gateway.signature import Keys
from s3fuse.mount import daemon
from s3fuse.mount.options import MountOptions
from s3fuse.mount.record import Mount
from s3fuse.mount.unmount import discard, fusermount
from s3fuse.node.processes import Process
from s3fuse.s3.connection import Connection

log = logging.getLogger("s3fuse")

#: Seconds within which a new mount must answer.
READY_TIMEOUT = 30.0
#: A name that no object has: what looks it up learns whether the mount answers.
PROBE = ".s3fuse-is-ready"
#: Connections that may wait for a gateway that is started again.
BACKLOG = 512


class WaitingKeeper:
    """A keeper whose gateway is started, and which waits for a mount to keep.

    Parameters
    ----------
    log_file : Path, optional
        Where it says what keeps it from starting.

    Attributes
    ----------
    listener : socket
        Where its gateway will listen.
    process : Popen
        The keeper.
    """

    def __init__(self, log_file: Path | None = None) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
        port = self.listener.fileno()
        with (log_file or Path(os.devnull)).open("ab") as file:
            self.process = subprocess.Popen(
                # Not from the working directory, in which any name may be a module.
                [sys.executable, "-P", "-m", "s3fuse.gateway.keeper", str(port)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                pass_fds=[port],
                start_new_session=True,
                cwd="/",
            )

    def order(self, orders: Orders) -> None:
        """Tell it what to keep.

        Raises
        ------
        BrokenPipeError
            If it has ended.
        """
        assert self.process.stdin
        # It stays open until the end of this process, which the keeper learns by it.
        self.process.stdin.write(orders.as_line())
        self.process.stdin.flush()

    def close(self) -> None:
        """End it and its gateway."""
        self.listener.close()
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                pipe.close()


def start(
    mount: Mount,
    connection: Connection,
    options: MountOptions,
    waiting: WaitingKeeper | None = None,
) -> Mount:
    """Start what a mount needs, and wait until it answers; what does not start leaves nothing.

    Parameters
    ----------
    mount : Mount
        What was recorded of it; its directory and its cache are there.
    connection : Connection
        Where the bucket is and who asks.
    options : MountOptions
        How it is mounted.
    waiting : WaitingKeeper, optional
        Takes it, if it may not be written through.

    Returns
    -------
    Mount
        The same with its processes.

    Raises
    ------
    MountError
        If it did not come up in time; with what the daemon said.
    """
    if options.read_write:
        starting = _direct(mount, connection, options)
    else:
        starting = _by_gateway(mount, connection, options, waiting)
    try:
        with starting as (mount, process):
            mount.save()
            _wait_until_ready(mount, process)
    except BaseException as error:
        if mount.is_mounted:
            fusermount(mount, lazy=True)
        said = last_lines(mount.log_file)
        discard(mount)
        if isinstance(error, MountError | ProcessLookupError):
            raise MountError(
                f"s3://{mount.bucket} could not be mounted: {error}; s3fs said: {said}"
            ) from error
        raise
    log.info(f"Mounted s3://{mount.bucket} read-{'write' if options.read_write else 'only'}.")
    return mount


@contextmanager
def _direct(
    mount: Mount, connection: Connection, options: MountOptions
) -> Iterator[tuple[Mount, subprocess.Popen[bytes]]]:
    """Start an s3fs that asks the store itself; it ends where the context fails."""
    command = daemon.command(daemon.version(), mount, connection, options)
    process = daemon.start(command, daemon.environment_of(connection), mount.log_file)
    with _ending_on_error(process):
        yield replace(mount, daemon=Process.of(process.pid)), process


@contextmanager
def _by_gateway(
    mount: Mount,
    connection: Connection,
    options: MountOptions,
    waiting: WaitingKeeper | None,
) -> Iterator[tuple[Mount, subprocess.Popen[bytes]]]:
    """Let a keeper start an s3fs, which knows the keeper's gateway only."""
    if waiting is None or waiting.process.poll() is not None:
        waiting = WaitingKeeper(mount.gateway_log)
    with _ending_on_error(waiting.process), waiting.listener as listener:
        keys = Keys.random()
        node_cache = open_node_cache(mount.cache.parent.parent)
        held = sum(each.held for each in entries(node_cache))
        spare = daemon.spare(mount, options.cache_bytes, held)
        gateway = GatewayOptions(
            mount.bucket,
            connection,
            keys,
            mount.directory,
            node_cache,
            mount.cache,
            mount.point,
            mount.links,
            options.node_bytes,
            spare,
            revalidating=mount.owner is None,
        )
        place = Connection(
            f"http://127.0.0.1:{listener.getsockname()[1]}",
            "us-east-1",
            keys.access_key,
            keys.secret_key,
        )
        orders = Orders(
            gateway.as_json(),
            daemon.command_for_gateway(daemon.version(), mount, place, options, spare),
            daemon.environment(place.credentials().environment | {"no_proxy": "*"}),
            daemon.unmount_command(mount.point, lazy=True),
            str(mount.log_file),
            owned=mount.owner is not None,
        )
        try:
            waiting.order(orders)
        except BrokenPipeError:
            said = last_lines(mount.gateway_log)
            raise MountError(f"its gateway did not start: {said}") from None
    with _ending_on_error(waiting.process):
        yield _told(mount, waiting.process), waiting.process


def _told(mount: Mount, keeper: subprocess.Popen[bytes]) -> Mount:
    """Return a mount with the processes that its keeper tells of, and listen to it from then on."""
    assert keeper.stdout
    line = keeper.stdout.readline()
    if not line:
        raise MountError(f"its gateway did not start: {last_lines(mount.gateway_log)}")
    told = json.loads(line)
    threading.Thread(
        target=_listen, args=(keeper, mount), name="s3fuse-keeper", daemon=True
    ).start()
    return replace(mount, daemon=Process.of(told["s3fs"]), keeper=Process.of(keeper.pid))


def _listen(keeper: subprocess.Popen[bytes], mount: Mount) -> None:
    """Say what a gateway says, until its keeper has ended."""
    assert keeper.stdout
    for line in keeper.stdout:
        told: dict[str, Any] = json.loads(line)
        if "warning" in told:
            log.warning(told["warning"])
        elif "restarted" in told:
            log.warning(
                f"The gateway of s3://{mount.bucket} had ended with status {told['restarted']} "
                "and was started again; who reads goes on."
            )
    keeper.wait()


@contextmanager
def _ending_on_error(process: subprocess.Popen[bytes]) -> Iterator[None]:
    try:
        yield
    except BaseException:
        process.kill()
        process.wait()
        raise


def _wait_until_ready(mount: Mount, process: subprocess.Popen[bytes]) -> None:
    """Wait for the entry in the kernel's table, and for an answer from the bucket."""
    for attempt in tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(BlockingIOError),
        wait=tenacity.wait_fixed(0.02),
        stop=tenacity.stop_after_delay(READY_TIMEOUT),
        retry_error_callback=_not_ready,
    ):
        with attempt:
            if process.poll() is not None:
                raise MountError(f"s3fs ended with status {process.returncode}")
            if not mount.is_mounted:
                raise BlockingIOError
    answer: list[BaseException | None] = []

    def ask() -> None:
        # Not a listing of the bucket, which may have a million objects: any
        # name makes s3fs ask the store.
        try:
            os.stat(mount.point / PROBE)
        except FileNotFoundError:
            answer.append(None)
        except OSError as error:
            answer.append(error)
        else:
            answer.append(None)

    # The thread hangs if the daemon does; the daemon's end sets it free.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(READY_TIMEOUT)
    if not answer:
        raise MountError(f"it did not answer within {READY_TIMEOUT:.0f} s")
    if answer[0] is not None:
        raise MountError(f"it answered {answer[0]}")
    if not mount.is_mounted:
        # The answer was that of the empty folder beneath.
        raise MountError("it was gone again at once")


def _not_ready(_: tenacity.RetryCallState) -> NoReturn:
    raise MountError(f"it was not there after {READY_TIMEOUT:.0f} s")


def last_lines(path: Path, count: int = 5) -> str:
    """Return what the log of a daemon ends with, for a message."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return "nothing"
    # It repeats its own command line and its start; what counts comes last.
    said = [line.strip() for line in lines if "[INF]" not in line and line.strip()]
    return " / ".join(said[-count:]) or "nothing"
