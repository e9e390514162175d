"""The process of a gateway; see `s3fuse.gateway.keeper`, which starts it.

It takes its options as a line of JSON from its standard input, and ends when that ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import resource
import select
import socket
import sys
from collections.abc import Callable
from typing import Any

from aiohttp import web

from s3fuse.gateway.catalogue import Catalogue
from s3fuse.gateway.keeper import GATEWAY, begin
from s3fuse.gateway.options import CONTROL, LOG, GatewayOptions
from s3fuse.gateway.server import Server
from s3fuse.gateway.upstream import Upstream
from s3fuse.gateway.versions import Versions
from s3fuse.node.holders import holders
from s3fuse.s3.client import Client, log_quietly


def main() -> None:
    """Serve until the standard input ends."""
    begin(GATEWAY)
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.WARNING)
    # Whoever starts a run may have few descriptors, and thousands of inputs.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if not select.select([sys.stdin], [], [], 0)[0]:
        _import_client()
    line = sys.stdin.buffer.readline()
    if not line:
        return
    options = GatewayOptions.from_json(json.loads(line))
    with (options.directory / LOG).open("ab") as log:
        os.dup2(log.fileno(), sys.stderr.fileno())
    asyncio.run(_serve(options, int(sys.argv[1])))


def _import_client() -> None:
    """Import what takes half a second, and is imported when the first request is sent anyway."""
    import aiobotocore.session
    import s3fs

    del aiobotocore, s3fs


async def _serve(options: GatewayOptions, listener: int) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(log_quietly)
    upstream = Upstream(Client(options.connection, asynchronous=True), options.bucket)
    catalogue = Catalogue(options.directory, options.revalidating)
    versions = Versions(catalogue, upstream, lambda key: bool(holders(options.point / key)))
    server = Server(options, upstream, catalogue, versions, _teller())
    with contextlib.closing(catalogue):
        async with (
            _listening(server.for_runs(), _control_socket(options)),
            _listening(server.for_s3fs(), socket.socket(fileno=listener)),
        ):
            await loop.run_in_executor(None, sys.stdin.buffer.read)


@contextlib.asynccontextmanager
async def _listening(application: web.Application, listener: socket.socket) -> Any:
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        await web.SockSite(runner, listener).start()
        yield
    finally:
        await runner.cleanup()


def _control_socket(options: GatewayOptions) -> socket.socket:
    """Open the socket in the directory of the mount, which nobody else may enter."""
    listener = socket.socket(socket.AF_UNIX)
    (options.directory / CONTROL).unlink(missing_ok=True)
    # Paths of sockets may be short only.
    os.chdir(options.directory)
    listener.bind(CONTROL)
    listener.listen(128)
    return listener


def _teller() -> Callable[[dict[str, Any]], None]:
    """Return what writes to the owner of the mount, who need not listen."""
    output = sys.stdout.fileno()
    os.set_blocking(output, False)

    def tell(message: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            os.write(output, json.dumps(message).encode() + b"\n")

    return tell


if __name__ == "__main__":
    main()
