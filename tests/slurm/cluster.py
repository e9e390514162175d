"""A real Slurm cluster on this machine: two nodes, each with mounts and a local disk of its own.

A node is a `slurmd` in namespaces of its own: what is mounted on the head is not
seen there, nor the other way round.  Needs root, and Debian's packages slurm-wlm
and munge.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

FREEZER = Path("/sys/fs/cgroup/freezer")

SLURM_CONF = """\
ClusterName=lab
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CryptoType=crypto/munge
AuthInfo=socket={base}/run/munge.sock
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
MpiDefault=none
SlurmctldPidFile={base}/run/slurmctld.pid
SlurmdPidFile={base}/run/slurmd-%n.pid
StateSaveLocation={base}/spool/ctld
SlurmdSpoolDir={base}/spool/%n
SlurmctldLogFile={base}/log/slurmctld.log
SlurmdLogFile={base}/log/slurmd-%n.log
SwitchType=switch/none
ProctrackType=proctrack/{tracking}
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SchedulerType=sched/backfill
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=1,sched_interval=2,bf_interval=5
ReturnToService=2
# The plugin for Snakemake asks for each job for that long.
MinJobAge=300
KillWait=15
OverTimeLimit=0
SlurmdTimeout=10
MailProg=/bin/true
SlurmdParameters=config_overrides
{nodes}
PartitionName=main Nodes={names} Default=YES LLN=YES MaxTime=INFINITE State=UP
"""

CGROUP_CONF = """\
CgroupPlugin=cgroup/v1
CgroupAutomount=no
CgroupMountpoint=/sys/fs/cgroup
ConstrainCores=no
ConstrainRAMSpace=no
ConstrainDevices=no
"""

# In the namespaces of a node: none of the mounts that the head has at this moment,
# its disk, its name, the number of this boot, and the configuration where the
# clients look for it.
NODE = """\
set -e
umount --all --types fuse.s3fs --lazy
mount --bind {disk} {local}
mount --bind {boot} /proc/sys/kernel/random/boot_id
mkdir -p /etc/slurm
mount --bind {base}/etc /etc/slurm
mount --bind {base}/etc/hosts /etc/hosts
hostname {name}
exec {env} {slurmd} -D -N {name}
"""


@dataclass
class SlurmNode:
    """One node, which can die and come back."""

    name: str
    base: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def disk(self) -> Path:
        """What only this node sees, at `Cluster.local`."""
        return self.base / "disk" / self.name

    def boot(self) -> None:
        """Start it, as after a reboot: nothing mounted, and the disk as it was."""
        self.disk.mkdir(parents=True, exist_ok=True)
        boot = self.base / "run" / f"boot-{self.name}"
        boot.write_text(f"{uuid.uuid4()}\n")
        values = {"disk": self.disk, "local": self.base / "local", "boot": boot}
        script = NODE.format(
            base=self.base,
            name=self.name,
            env=f"env SLURM_CONF={self.base}/etc/slurm.conf",
            slurmd=program("slurmd"),
            **values,
        )
        command = ["unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child"]
        command += ["--mount-proc", "--propagation", "private", "bash", "-c", script]
        log = (self.base / "log" / f"{self.name}.out").open("ab")
        with log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def die(self) -> None:
        """Lose power: all its processes and mounts are gone at once."""
        if self.process:
            running = self.processes()
            self.process.kill()
            self.process.wait()
            psutil.wait_procs(running, timeout=20)
            self.process = None

    def processes(self) -> list[psutil.Process]:
        """All processes that run on it."""
        if self.process is None:
            return []
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(self.process.pid).children(recursive=True)
        return []

    def mounted(self) -> list[str]:
        """The s3fs mounts that are seen on it."""
        for process in self.processes():
            with contextlib.suppress(OSError):
                table = Path(f"/proc/{process.pid}/mounts").read_text().splitlines()
                return [line for line in table if "fuse.s3fs" in line]
        return []

    def daemons(self) -> list[psutil.Process]:
        """The s3fs processes on it, however they have come there."""
        return [process for process in _running("s3fs") if self._hosts(process)]

    def _hosts(self, process: psutil.Process) -> bool:
        with contextlib.suppress(OSError, psutil.Error):
            mine = self.processes()
            space = os.readlink(f"/proc/{process.pid}/ns/mnt")
            return bool(mine) and os.readlink(f"/proc/{mine[0].pid}/ns/mnt") == space
        return False


@dataclass
class Cluster:
    """The cluster while it runs."""

    base: Path
    nodes: list[SlurmNode]
    tracks_by_cgroup: bool
    services: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def local(self) -> Path:
        """A folder that is another one on each node, and empty on the head."""
        return self.base / "local"

    @property
    def environment(self) -> dict[str, str]:
        """What clients of the cluster need; it makes the local folder the temp directory."""
        return {"SLURM_CONF": str(self.base / "etc/slurm.conf"), "TMPDIR": str(self.local)}

    def ask(self, *command: str) -> str:
        """Run a client of Slurm."""
        environment = {**os.environ, **self.environment}
        result = subprocess.run(
            [program(command[0]), *command[1:]],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        return result.stdout.strip()

    def jobs(self, state: str = "RUNNING") -> list[str]:
        """The numbers of the jobs in a state."""
        return self.ask("squeue", "-h", "-t", state, "-o", "%i").split()

    def states(self) -> list[str]:
        """What each node does: idle, mix, alloc, down."""
        return self.ask("sinfo", "-hN", "-o", "%t").split()

    def wait_until_idle(self, timeout: float = 90) -> None:
        """Wait until no job is on any node, and all nodes are up."""
        wait_for(lambda: not self._queue(), timeout, "jobs are still there")
        wait_for(lambda: self.states() == ["idle"] * len(self.nodes), timeout, "a node is not idle")

    def assert_unmounted(self) -> None:
        """Make sure that no node has a mount or a daemon."""
        for node in self.nodes:
            assert node.mounted() == [], f"{node.name} has something mounted"
            assert node.daemons() == [], f"s3fs runs on {node.name}"

    def cancel_all(self) -> None:
        """Cancel what is in the queue."""
        for job in self._queue():
            self.ask("scancel", job)

    def _queue(self) -> list[str]:
        return self.ask("squeue", "-h", "-t", "PENDING,RUNNING,COMPLETING", "-o", "%i").split()


@contextmanager
def cluster(base: Path) -> Iterator[Cluster]:
    """Start a cluster below an empty folder, and stop it."""
    for name in ("etc", "run", "log", "spool/ctld", "local"):
        (base / name).mkdir(parents=True)
    nodes = [SlurmNode(name, base) for name in ("n1", "n2")]
    by_cgroup = FREEZER.is_dir() and os.access(FREEZER, os.W_OK)
    host = socket.gethostname()
    lines = [
        f"NodeName={node.name} NodeHostname={host} NodeAddr=127.0.0.1 Port={_free_port()} "
        "CPUs=16 RealMemory=64000 State=UNKNOWN"
        for node in nodes
    ]
    conf = SLURM_CONF.format(
        base=base,
        host=host,
        port=_free_port(),
        tracking="cgroup" if by_cgroup else "linuxproc",
        nodes="\n".join(lines),
        names=",".join(node.name for node in nodes),
    )
    (base / "etc/slurm.conf").write_text(conf)
    (base / "etc/cgroup.conf").write_text(CGROUP_CONF)
    names = " ".join(node.name for node in nodes)
    (base / "etc/hosts").write_text(f"127.0.0.1 localhost {host} {names}\n")
    made = Cluster(base, nodes, by_cgroup)
    try:
        _start_services(made)
        for node in nodes:
            node.boot()
        made.wait_until_idle()
        yield made
    finally:
        for node in nodes:
            node.die()
        for service in reversed(made.services):
            service.send_signal(signal.SIGTERM)
            try:
                service.wait(20)
            except subprocess.TimeoutExpired:
                service.kill()
                service.wait()
        for folder in FREEZER.glob("slurm_n[12]*"):
            # Deepest first; only empty ones can be removed.
            for path in sorted(folder.rglob("*/"), reverse=True):
                with contextlib.suppress(OSError):
                    path.rmdir()
            with contextlib.suppress(OSError):
                folder.rmdir()


def _start_services(made: Cluster) -> None:
    base = made.base
    key = base / "run/munge.key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(1024))
    run = f"{base}/run/munge"
    munged = [program("munged"), "--foreground", "--force", f"--key-file={key}"]
    munged += [f"--socket={run}.sock", f"--pid-file={run}.pid", f"--log-file={run}.log"]
    munged += [f"--seed-file={run}.seed"]
    _start(made, munged)
    wait_for(Path(f"{run}.sock").exists, 20, "munged does not answer")
    _start(made, [program("slurmctld"), "-D", "-c", "-f", f"{base}/etc/slurm.conf"])


def _start(made: Cluster, command: list[str]) -> None:
    name = Path(command[0]).name
    with (made.base / "log" / f"{name}.out").open("ab") as log:
        made.services.append(subprocess.Popen(command, stdout=log, stderr=log))


def program(name: str) -> str:
    """The path of a program of Slurm; the daemons are not in everybody's PATH."""
    for folder in (*os.environ["PATH"].split(":"), "/usr/sbin", "/sbin"):
        if (Path(folder) / name).exists():
            return str(Path(folder) / name)
    raise FileNotFoundError(f"{name} is missing; `make test-slurm` installs it")


def wait_for(condition: Callable[[], object], timeout: float, otherwise: str) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.1)


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


def _running(name: str) -> list[psutil.Process]:
    return [process for process in psutil.process_iter(["name"]) if process.info["name"] == name]
