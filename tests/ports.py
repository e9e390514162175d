"""Free ports for servers that cannot choose one by themselves."""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack

from s3fuse.errors import ServerError

#: Below the range from which the kernel takes the ports of outgoing connections.
PORTS = range(20000, 32000)


def free_ports(count: int) -> list[int]:
    """Find distinct ports on loopback on which nothing listens.

    Raises
    ------
    ServerError
        If there are not that many.
    """
    found: list[int] = []
    with ExitStack() as stack:
        for port in random.sample(PORTS, 200):
            if len(found) == count:
                return found
            listening = stack.enter_context(socket.socket())
            try:
                listening.bind(("127.0.0.1", port))
            except OSError:
                continue
            found.append(port)
    raise ServerError(f"Fewer than {count} ports from {PORTS[0]} to {PORTS[-1]} are free")
