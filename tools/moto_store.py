"""moto's server: a store in memory, whose buckets can keep the versions of their objects."""

from __future__ import annotations

import re
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from s3fuse.embedded_server import Server, running

_COMMAND = Path(sysconfig.get_path("scripts")) / "moto_server"
_LISTENING = re.compile(r"Running on (http://127\.0\.0\.1:\d+)")


@contextmanager
def serving_versions() -> Iterator[Server]:
    """Run moto's server while the context lasts; it takes any keys."""
    command = [str(_COMMAND), "--host", "127.0.0.1", "--port", "0"]
    with running(command, _LISTENING) as (endpoint_url, pid):
        yield Server(endpoint_url, "any", "thing", pid)
