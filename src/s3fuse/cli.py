"""The command ``s3fuse``."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import click

from s3fuse import __version__
from s3fuse.connection import ENVIRONMENT_PREFIX, Connection
from s3fuse.daemon import MountOptions
from s3fuse.errors import QueryError, S3FuseError
from s3fuse.journal import Journal
from s3fuse.mounts import Mounts
from s3fuse.rundir import default_mount_root
from s3fuse.server import serving
from s3fuse.store import Store
from s3fuse.teardown import sweep
from s3fuse.urls import S3Url

#: Links are made by Snakemake; the command itself makes none.
NO_LINKS = Path("/nonexistent")


class Commands(click.Group):
    """Prints errors of ours as one sentence, and exits with their code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except S3FuseError as error:
            click.echo(f"s3fuse: {error}", err=True)
            ctx.exit(error.exit_code)


@click.group(cls=Commands)
@click.version_option(__version__)
def main() -> None:
    """Mount S3 buckets on this node, see what is mounted, and serve a folder as S3."""
    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stderr)
    for noisy in ("botocore", "aiobotocore", "fsspec", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


@main.command(context_settings={"ignore_unknown_options": True})
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".demo/data"),
    show_default=True,
    help="The folder to serve; its subfolders are the buckets.",
)
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def serve(data: Path, command: tuple[str, ...]) -> None:
    """Serve a folder as S3 while COMMAND runs, which finds it by its environment.

    Without COMMAND, a shell is started.
    """
    with serving(data) as server:
        click.echo(f"Serving {data} at {server.endpoint_url} until the command ends.", err=True)
        environment = {**os.environ, **server.environment}
        words = command or (os.environ.get("SHELL", "/bin/sh"),)
        try:
            child = subprocess.Popen(words, env=environment)
        except OSError as error:
            raise click.UsageError(f"{words[0]} cannot be run: {error.strerror}.") from error
        status = _wait(child)
    sys.exit(status)


def _wait(child: subprocess.Popen[bytes]) -> int:
    """Wait for a command that gets the signals we get."""
    previous = {
        number: signal.signal(number, lambda got, _: child.send_signal(got))
        for number in (signal.SIGTERM, signal.SIGHUP)
    }
    # Ctrl-C reaches the command by the terminal.
    previous[signal.SIGINT] = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        status = child.wait()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    return status if status >= 0 else 128 - status


def _connection() -> Connection:
    """The connection that the environment of the plugin describes."""

    def value(name: str) -> str | None:
        return os.environ.get(ENVIRONMENT_PREFIX + name) or None

    return Connection(
        endpoint_url=value("ENDPOINT_URL"),
        region=value("REGION"),
        access_key=value("ACCESS_KEY"),
        secret_key=value("SECRET_KEY"),
        token=value("TOKEN"),
        profile=os.environ.get("AWS_PROFILE"),
    )


def _bucket(url: str) -> str:
    parsed = S3Url.parse(url)
    if parsed.key:
        raise QueryError(f"{url!r} is not a whole bucket; write s3://{parsed.bucket}.")
    return parsed.bucket


@main.command()
@click.option("--read-write", is_flag=True, help="Let programs write through the mount.")
@click.argument("url", metavar="S3://BUCKET")
def mount(url: str, read_write: bool) -> None:
    """Mount a bucket for this directory, read-only, and print where."""
    bucket = _bucket(url)
    connection = _connection()
    Store(connection).check(bucket)
    made = Mounts(NO_LINKS).mount(bucket, connection, MountOptions(read_write), keep=True)
    click.echo(made.point)


@main.command()
@click.option("--timeout", default=60.0, show_default=True, help="Seconds to wait if in use.")
@click.argument("url", metavar="[S3://BUCKET]", required=False)
def unmount(url: str | None, timeout: float) -> None:
    """Unmount one bucket, or all that are mounted for this directory."""
    found = Mounts(NO_LINKS, unmount_timeout=timeout).unmount(_bucket(url) if url else None)
    if not found:
        click.echo("Nothing is mounted for this directory.", err=True)


@main.command()
def clean() -> None:
    """Take down what processes that are gone have left on this node, mounted or half uploaded."""
    root = default_mount_root()
    taken = sweep(root)
    journal = Journal(root)
    aborted = journal.abort_abandoned(Store(_connection())) if journal.has_notes else 0
    click.echo(f"Removed {taken} mounts and the parts of {aborted} uploads.", err=True)


@main.command()
def status() -> None:
    """List what is mounted for this directory."""
    for each in Mounts(NO_LINKS).all():
        mode = "read-write" if each.read_write else "read-only"
        state = "healthy" if each.is_healthy else "mounted" if each.is_mounted else "detached"
        click.echo(f"s3://{each.bucket}\t{mode}\t{state}\t{each.point}")
