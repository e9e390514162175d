"""A Ceph RADOS Gateway (RGW) for tests: a one-node Ceph cluster that lives in one directory.

The cluster has one monitor, one manager, one OSD that keeps its data in memory,
and the gateway. All of them listen on loopback only, and they die with the
process that started them. Authentication (cephx) is on, with keys that are
created for each cluster. Needs the packages that ``tools/system_packages.sh ceph``
installs; a start takes two to four seconds.

How the gateway of Ceph 16.2.15, as in Debian 12, treats conditional requests
(``tests/integration/test_ceph_gateway.py`` checks each line):

PutObject, bucket without versions or with versioning suspended
    ``If-None-Match: *`` is honoured: 412 if the object exists. Of eight concurrent
    requests exactly one succeeds.
    ``If-Match: *`` is honoured: 412 if the object is missing.
    ``If-Match`` with an ETag is honoured only if the ETag is sent *without* its
    double quotes. The quoted form, which HTTP and boto prescribe, never matches:
    the answer is 412 even if the ETag is the current one.
    ``If-None-Match`` with an ETag is likewise honoured only without quotes; the
    quoted form is ignored.
    Of concurrent requests with the same ``If-Match`` one succeeds; the others get
    412 or 500 (UnknownError, for ECANCELED).

PutObject, bucket with versioning enabled
    ``If-None-Match: *`` is ignored: each request creates a version.
    ``If-Match`` with any value, and ``If-None-Match`` with any ETag, always fail
    with 412.

CompleteMultipartUpload
    ``If-None-Match`` and ``If-Match`` are ignored.
    The answer has an empty ETag. A repeated request succeeds while the object is
    still the one from the upload, and its answer has the ETag, without quotes.
    After an abort, or once the object has been replaced, the answer is 500
    (InternalError, "already in progress") at every attempt, not 404 (NoSuchUpload).

DeleteObject
    ``If-Match`` is ignored.

GetObject and HeadObject
    ``If-Match`` and ``If-None-Match`` are honoured, with a quoted ETag: 412 and 304.

Checksums of PutObject
    ``Content-MD5`` is verified: 400 (BadDigest).
    ``x-amz-checksum-sha256`` is ignored.
"""

from __future__ import annotations

import base64
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ports import free_ports
from s3fuse.embedded_server import Server
from s3fuse.errors import ServerError
from s3fuse.s3.client import open_filesystem
from s3fuse.s3.connection import Connection

#: Seconds within which each command, and the gateway, must have answered.
TIMEOUT = 60.0
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)
#: The only key that the gateway has for SSE-KMS.
KMS_KEY = "key-1"
#: The user who owns nothing.
GUEST = "guest"

#: No admin sockets: their paths are limited to 107 bytes, and nothing needs them.
#: The monitor proposes changes at once instead of collecting them for a second, which
#: saves ten seconds of a start, and it does not stop when the disk of the host is full.
CEPH_CONF = """\
[global]
fsid = {fsid}
mon host = v2:127.0.0.1:{monitor_port}
public addr = 127.0.0.1
cluster addr = 127.0.0.1
keyring = {base}/keyring
log file = {base}/log/$name.log
mon cluster log file = {base}/log/$channel.log
run dir = {base}
crash dir = {base}
admin socket =
auth allow insecure global id reclaim = false
paxos propose interval = 0.05
mon data avail warn = 1
mon data avail crit = 0
mon allow pool size one = true
mon warn on pool no redundancy = false
mon max pg per osd = 1000
osd crush chooseleaf type = 0
osd crush initial weight = 1
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pgp num = 8
osd pool default pg autoscale mode = off
[mon.a]
mon data = {base}/mon
[mgr.x]
mgr data = {base}/mgr
mgr initial modules =
[osd.0]
osd data = {base}/osd
osd objectstore = memstore
memstore device bytes = {capacity}
[client.rgw]
rgw data = {base}/rgw
rgw crypt require ssl = false
rgw crypt s3 kms backend = testing
rgw crypt s3 kms encryption keys = {kms_key}={kms_secret}
rgw frontends = beast endpoint=127.0.0.1:{gateway_port}
"""


@dataclass(frozen=True)
class CephServer(Server):
    """The gateway of a cluster.

    Attributes
    ----------
    guest : Connection
        For a user who owns nothing.
    """

    guest: Connection


@dataclass
class _Cluster:
    """The processes of a cluster below one directory."""

    base: Path
    monitor_port: int
    gateway_port: int
    daemons: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def run(self, *command: str) -> str:
        """Run a command of Ceph to its end and return its standard output."""
        try:
            done = subprocess.run(
                self._arguments(*command),
                env=self._environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=TIMEOUT,
                preexec_fn=_die_with_parent,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            self.assert_running()
            raise ServerError(f"{command[0]} has not ended after {TIMEOUT:.0f} s") from error
        if done.returncode:
            raise ServerError(f"{command[0]} failed: {done.stderr.strip()[-2000:]}")
        return done.stdout

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        """Start a daemon in the foreground, with its output in the log directory."""
        with (self.base / "log" / f"{command[0]}.out").open("ab") as log:
            daemon = subprocess.Popen(
                self._arguments(*command, "-f"),
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=_die_with_parent,
                start_new_session=True,
            )
        self.daemons.append(daemon)
        return daemon

    def stop(self) -> None:
        """Kill all daemons: the data is thrown away, and a clean end takes seconds."""
        for daemon in reversed(self.daemons):
            daemon.kill()
        for daemon in self.daemons:
            daemon.wait(TIMEOUT)

    def wait_for(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until something holds, at most `TIMEOUT` seconds and while all daemons run."""
        deadline = time.monotonic() + TIMEOUT
        while not condition():
            self.assert_running()
            if time.monotonic() > deadline:
                raise ServerError(f"{what} after {TIMEOUT:.0f} s")
            time.sleep(0.05)

    def assert_running(self) -> None:
        """Raise what a daemon has said if it has ended."""
        for daemon in self.daemons:
            if daemon.poll() is not None:
                raise ServerError(f"{_name(daemon)} has ended: {self._output(daemon)}")

    def _arguments(self, program: str, *arguments: str) -> list[str]:
        path = shutil.which(program)
        if path is None:
            raise ServerError(f"{program} is missing; run: tools/system_packages.sh ceph")
        own_files = [] if program in ("ceph-authtool", "monmaptool") else ["-c", self.conf]
        return [path, *own_files, *arguments]

    def _output(self, daemon: subprocess.Popen[bytes]) -> str:
        log = self.base / "log" / f"{_name(daemon)}.out"
        return log.read_text(errors="replace").strip()[-2000:]

    @property
    def conf(self) -> str:
        return str(self.base / "ceph.conf")

    @property
    def _environment(self) -> dict[str, str]:
        # Nothing of CEPH_CONF, CEPH_ARGS or PYTHONPATH: `ceph` is a Python program.
        return {"PATH": os.environ["PATH"], "HOME": str(self.base), "LC_ALL": "C.UTF-8"}


@contextmanager
def ceph_gateway(directory: Path, capacity: int = 4 * 2**30) -> Iterator[CephServer]:
    """Run a Ceph cluster with an S3 gateway while the context lasts.

    Parameters
    ----------
    directory : Path
        Receives the configuration, the keys, the logs and the data; must be empty.
    capacity : int
        Bytes that the OSD can store. They take memory only once they are written.

    Yields
    ------
    CephServer
        The gateway, with the keys of its first user.

    Raises
    ------
    ServerError
        If a program of Ceph is missing, fails, or takes too long.
    """
    monitor_port, gateway_port = free_ports(2)
    cluster = _Cluster(directory.resolve(), monitor_port, gateway_port)
    try:
        _configure(cluster, capacity)
        _start_storage(cluster)
        owner, guest = _create_user(cluster, "test"), _create_user(cluster, GUEST)
        yield _start_gateway(cluster, owner, guest)
    finally:
        cluster.stop()


def _configure(cluster: _Cluster, capacity: int) -> None:
    """Write the configuration, and the keys of all daemons into one keyring."""
    base = cluster.base
    for name in ("log", "mon", "mgr", "osd", "rgw"):
        (base / name).mkdir(parents=True)
    fsid = str(uuid.uuid4())
    text = CEPH_CONF.format(
        base=base,
        fsid=fsid,
        monitor_port=cluster.monitor_port,
        gateway_port=cluster.gateway_port,
        kms_key=KMS_KEY,
        kms_secret=base64.b64encode(os.urandom(32)).decode(),
        capacity=capacity,
    )
    Path(cluster.conf).write_text(text)
    keyring = str(base / "keyring")
    create = ["--create-keyring"]
    allow = [word for service in ("mon", "osd", "mgr") for word in ("--cap", service, "allow *")]
    for name in ("mon.", "client.admin", "mgr.x", "osd.0", "client.rgw"):
        cluster.run("ceph-authtool", keyring, *create, "--gen-key", "-n", name, *allow)
        create = []
    address = f"v2:127.0.0.1:{cluster.monitor_port}"
    cluster.run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", address, str(base / "map"))


def _start_storage(cluster: _Cluster) -> None:
    base = cluster.base
    files = ("--monmap", str(base / "map"), "--keyring", str(base / "keyring"))
    cluster.run("ceph-mon", "--mkfs", "-i", "a", *files)
    cluster.start("ceph-mon", "-i", "a")
    # Waits for the monitor.
    osd = str(uuid.uuid4())
    cluster.run("ceph", "osd", "new", osd)
    cluster.start("ceph-mgr", "-i", "x")
    cluster.run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
    cluster.start("ceph-osd", "-i", "0")


def _create_user(cluster: _Cluster, name: str) -> tuple[str, str]:
    """Create a user of the gateway, and with the first the pools; returns its random keys."""
    command = ("user", "create", f"--uid={name}", f"--display-name={name}")
    user = json.loads(cluster.run("radosgw-admin", "-n", "client.rgw", *command))
    return user["keys"][0]["access_key"], user["keys"][0]["secret_key"]


def _start_gateway(cluster: _Cluster, owner: tuple[str, str], guest: tuple[str, str]) -> CephServer:
    gateway = cluster.start("radosgw", "-n", "client.rgw")
    address = ("127.0.0.1", cluster.gateway_port)
    cluster.wait_for(lambda: _is_open(address), "The gateway does not listen")
    url = f"http://127.0.0.1:{cluster.gateway_port}"
    server = CephServer(url, *owner, gateway.pid, Connection(url, "us-east-1", *guest))
    open_filesystem(server.connection).call_s3("list_buckets", timeout=TIMEOUT)
    return server


def _name(daemon: subprocess.Popen[bytes]) -> str:
    assert isinstance(daemon.args, list)
    return Path(str(daemon.args[0])).name


def _is_open(address: tuple[str, int]) -> bool:
    with socket.socket() as client:
        client.settimeout(5)
        return client.connect_ex(address) == 0


def _die_with_parent() -> None:
    # Not SIGTERM: on that the gateway waits for an OSD that is gone, too.
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
