"""Processes that cannot be mistaken for later ones, and the node that they run on."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

#: Names the process that all mounts of a run belong to, for its children.
OWNER_VARIABLE = "S3FUSE_OWNER"


@dataclass(frozen=True)
class Node:
    """Where the number of a process means that process, and a path that mount.

    Attributes
    ----------
    host : str
        Name of the machine, or of the container.
    boot : str
        The kernel's name for this boot.
    namespaces : str
        Of process numbers and of mounts.
    """

    host: str
    boot: str
    namespaces: str

    @classmethod
    def here(cls) -> Node:
        """Say where we are."""
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        spaces = [os.readlink(f"/proc/self/ns/{kind}") for kind in ("pid", "mnt")]
        return cls(socket.gethostname(), boot, " ".join(spaces))

    @property
    def is_elsewhere(self) -> bool:
        """Whether it may live on where we cannot see it: another machine, another container."""
        here = Node.here()
        if self.host != here.host:
            return True
        return self.boot == here.boot and self.namespaces != here.namespaces

    def has_lost(self, process: Process) -> bool:
        """Whether a process of this node is known to have ended."""
        if self.is_elsewhere:
            return False
        return self.boot != Node.here().boot or process.handle is None


@dataclass(frozen=True)
class Process:
    """A process that cannot be mistaken for a later one of the same number.

    Attributes
    ----------
    pid : int
        Its number.
    started : int
        When it started, in clock ticks since the boot: exact, where a time of
        day would move with the clock.
    """

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> Process:
        """Identify a process that is running.

        Raises
        ------
        ProcessLookupError
            If it is not.
        """
        try:
            # The name, in parentheses, may contain anything.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            raise ProcessLookupError(pid) from None
        return cls(pid, int(fields[19]))

    @property
    def handle(self) -> psutil.Process | None:
        """The running process; None if it has ended."""
        try:
            if Process.of(self.pid) != self:
                return None
            process = psutil.Process(self.pid)
            return process if process.status() != psutil.STATUS_ZOMBIE else None
        except (ProcessLookupError, psutil.NoSuchProcess):
            return None


def current_owner() -> Process:
    """Find the process that this run's mounts belong to.

    That is the nearest one above us that has claimed them, such as Snakemake
    for its jobs, or else this one.  A batch job on another node inherits the
    variable but not the process, and so owns what it mounts.
    """
    claimed = os.environ.get(OWNER_VARIABLE, "")
    for process in (psutil.Process(), *psutil.Process().parents()):
        if str(process.pid) == claimed.partition(":")[0]:
            owner = Process.of(process.pid)
            if f"{owner.pid}:{owner.started}" == claimed:
                return owner
    return claim_ownership()


def claim_ownership() -> Process:
    """Let what this process and its children mount be this process's."""
    me = Process.of(os.getpid())
    os.environ[OWNER_VARIABLE] = f"{me.pid}:{me.started}"
    return me


def terminate_children(*, spare: Collection[int]) -> None:
    """End all processes below this one, but those of some numbers and what is below them."""
    below = [psutil.Process()]
    # It grows while it is walked through.
    for process in below:
        with contextlib.suppress(psutil.Error):
            below += [each for each in process.children() if each.pid not in spare]
    for process in below[1:]:
        with contextlib.suppress(psutil.Error):
            process.terminate()


def this_process() -> dict[str, Any]:
    """Describe this process and its node, for a note that others read."""
    return {"node": asdict(Node.here()), "process": asdict(Process.of(os.getpid()))}


def write_note(path: Path, /, **content: Any) -> None:
    """Note, in one step, what this process is doing on this node."""
    content |= this_process()
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps(content))
    temporary.replace(path)


def is_left(content: Mapping[str, Any]) -> bool:
    """Whether the process that wrote a note is known to have ended."""
    return Node(**content["node"]).has_lost(Process(**content["process"]))
