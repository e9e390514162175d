"""The command ``s3fuse``."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import wraps
from pathlib import Path
from types import MappingProxyType
from typing import Any

import click
import humanfriendly
from click.shell_completion import CompletionItem, get_completion_class
from humanfriendly.text import pluralize
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from s3fuse import __version__
from s3fuse.cache.entries import remove_unused, url_of
from s3fuse.cache.place import kept
from s3fuse.doctor import Doctor, State
from s3fuse.embedded_server import serving
from s3fuse.errors import ObjectNotFound, QueryError, S3FuseError
from s3fuse.mount.mounts import NO_LINKS, Mounts
from s3fuse.mount.options import MountOptions
from s3fuse.mount.record import Mount, mounts_of_node
from s3fuse.mount.s3fs_cache.pending_uploads import unsent
from s3fuse.mount.sweep import sweep
from s3fuse.mount.unmount import unmount_all
from s3fuse.node.directories import default_cache_dir, default_mount_root, is_ours
from s3fuse.publish.journal import Journal
from s3fuse.publish.manifest import manifest_url
from s3fuse.publish.publisher import Publisher
from s3fuse.s3.connection import ENVIRONMENT_PREFIX, Connection
from s3fuse.s3.store import Store
from s3fuse.traffic import Traffic
from s3fuse.urls import SCHEME, S3Url

COLOURS = MappingProxyType(
    {State.OK: "green", State.NOTE: "yellow", State.FAILED: "red", State.SKIPPED: "blue"}
)
SHELLS = ("bash", "zsh", "fish")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Commands(click.Group):
    """Prints errors of ours as one sentence, and exits with their code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except S3FuseError as error:
            click.echo(_printable(f"s3fuse: {error}"), err=True)
            ctx.exit(error.exit_code)


class Echo(logging.Handler):
    """Prints what the library says, above the line that shows progress."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one message."""
        click.echo(_printable(self.format(record)), err=True)


def _printable(text: str) -> str:
    """Replace what a terminal cannot show: a path may hold bytes that are no UTF-8."""
    return text.encode(errors="backslashreplace").decode()


def _one_line(text: str) -> str:
    """Replace, too, what would look like the next column or row of a table."""
    return _printable(_CONTROL.sub(lambda match: repr(match[0])[1:-1], text))


@click.group(cls=Commands)
@click.version_option(__version__)
def main() -> None:
    """Mount S3 buckets on this node, see what is mounted, and serve a folder as S3."""
    logging.basicConfig(format="%(message)s", level=logging.INFO, handlers=[Echo()])
    for noisy in ("botocore", "aiobotocore", "fsspec", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


@contextmanager
def waiting(text: str) -> Iterator[None]:
    """Show on a terminal what is waited for, and for how long."""
    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    console = Console(stderr=True)
    is_seen = console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=not is_seen) as progress:
        progress.add_task(text, total=None)
        yield


def connecting(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say where the store is, as a `connection`."""

    @click.option(
        "--endpoint-url",
        envvar=f"{ENVIRONMENT_PREFIX}ENDPOINT_URL",
        show_envvar=True,
        help="URL of the store.  [default: what the AWS configuration says, or AWS]",
    )
    @click.option(
        "--region",
        envvar=f"{ENVIRONMENT_PREFIX}REGION",
        show_envvar=True,
        help="Region of the buckets.",
    )
    @click.option(
        "--profile",
        help="Named profile of the AWS configuration files.  [default: what AWS_PROFILE says]",
    )
    @click.option("--anonymous", is_flag=True, help="Ask without a signature, for public data.")
    @wraps(command)
    def wrapped(
        *args: Any,
        endpoint_url: str | None,
        region: str | None,
        profile: str | None,
        anonymous: bool,
        **kwargs: Any,
    ) -> None:
        connection = Connection.from_environment(
            endpoint_url=endpoint_url, region=region, profile=profile, anonymous=anonymous
        )
        command(*args, connection=connection, **kwargs)

    return wrapped


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@connecting
@click.argument("url", metavar="[S3://BUCKET[/FOLDER/]]", required=False)
def doctor(url: str | None, as_json: bool, connection: Connection) -> None:
    """See what this machine can do with S3, and what keeps it from more.

    With a bucket, try to list, read, write and mount it; no object is made.
    The exit status is 1 if a check failed.
    """
    found = []
    with waiting("Looking"):
        for finding in Doctor(connection, S3Url.parse_folder(url) if url else None).findings():
            found.append(finding)
            if not as_json:
                state = click.style(f"{finding.state.value:8}", fg=COLOURS[finding.state])
                click.echo(f"{state} {finding.check:12} {finding.text}")
    if as_json:
        rows = [{"check": f.check, "state": f.state.value, "text": f.text} for f in found]
        click.echo(json.dumps(rows, indent=1))
    sys.exit(any(finding.state is State.FAILED for finding in found))


@main.command()
@click.option("--read-write", is_flag=True, help="Let programs write through the mount.")
@connecting
@click.argument("url", metavar="S3://BUCKET[/FOLDER/]")
def mount(url: str, read_write: bool, connection: Connection) -> None:
    """Mount a bucket for this directory, read-only, and print where.

    It stays mounted until `s3fuse unmount`.
    """
    folder = S3Url.parse_folder(url)
    with waiting(f"Mounting s3://{folder.bucket}"):
        Store(connection).check(folder.bucket)
        mounts = Mounts(NO_LINKS)
        made = mounts.keep_mounted(folder.bucket, connection, MountOptions(read_write))
    # Byte by byte what it is on disk.
    click.echo(os.fsencode(made.point / folder.key))


def _mounted(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    urls: set[str] = set()
    # A shell that completes a word has no place for a message.
    with suppress(S3FuseError):
        urls = {f"s3://{each.bucket}" for each in Mounts(NO_LINKS).all()}
    return [CompletionItem(url) for url in sorted(urls) if url.startswith(incomplete)]


def _chosen(target: str | None) -> list[Mount]:
    """The mounts of this directory, those of a bucket, or the one that a path leads to."""
    if target is None:
        return Mounts(NO_LINKS).all()
    if target.startswith(SCHEME):
        bucket = S3Url.parse(target).bucket
        return [each for each in Mounts(NO_LINKS).all() if each.bucket == bucket]
    path = Path(target).absolute()
    # A mount of a batch job, or of a schedule, may lie elsewhere than those of this shell.
    loaded = [(each, Mount.load(each)) for each in (path, *path.parents) if is_ours(each)]
    found = [
        mount
        for directory, mount in loaded
        if mount and mount.directory == directory and not mount.node.is_elsewhere
    ]
    if not found:
        raise QueryError(
            f"{target!r} is neither s3://BUCKET nor in a mount; `s3fuse status --all` lists them."
        )
    return found


@main.command()
@click.option("--timeout", default=60.0, show_default=True, help="Seconds to wait if in use.")
@click.option("--discard", is_flag=True, help="Throw away what could not be uploaded.")
@connecting
@click.argument(
    "target",
    metavar="[S3://BUCKET | MOUNT_POINT]",
    required=False,
    shell_complete=_mounted,
)
def unmount(target: str | None, timeout: float, discard: bool, connection: Connection) -> None:
    """Unmount one bucket, or all that are mounted for this directory.

    Waits for whoever has a file open. What was written through a mount is in
    the bucket afterwards, or the command fails and says what is not.
    """
    found = _chosen(target)
    if not found:
        click.echo(
            "Nothing is mounted for this directory; `s3fuse status --all` lists other mounts.",
            err=True,
        )
    with waiting(f"Unmounting {', '.join(sorted({f's3://{each.bucket}' for each in found}))}"):
        unmount_all(found, timeout, connection, discarding=discard)


@main.command()
@connecting
def clean(connection: Connection) -> None:
    """Take down what processes that are gone have left on this node, mounted or half uploaded."""
    root = default_mount_root()
    with waiting("Cleaning up"):
        taken = sweep(root, default_cache_dir())
        journal = Journal(root)
        aborted = journal.abort_abandoned(Store(connection)) if journal.has_notes else 0
    click.echo(f"Removed {taken} mounts and the parts of {aborted} uploads.", err=True)


@main.command()
@connecting
@click.argument("url", metavar="S3://BUCKET/FOLDER/")
def adopt(url: str, connection: Connection) -> None:
    """Write the manifest of a folder that is complete, so that it is not made again.

    Folders that version 0.1 has published have none.  The folder keeps its time.
    """
    folder, store = S3Url.parse_folder(url), Store(connection)
    with waiting(f"Listing {folder}"):
        listing = store.list(folder, recursive=True)
        infos = list(listing.objects.values())
        if not folder.key or not infos:
            raise ObjectNotFound(f"There is no folder {folder} with objects in it; check its name.")
        publisher = Publisher(store, Journal(default_mount_root()), Traffic())
        before = listing.internal.get(manifest_url(folder).key)
        publisher.write_manifest(folder, infos, before, adopt=True)
    click.echo(f"{folder} is complete with {len(infos)} objects.", err=True)


@main.command()
@click.option("--all", "everywhere", is_flag=True, help="Of all directories.")
@click.option("--json", "as_json", is_flag=True, help="Print the mounts as JSON.")
def status(everywhere: bool, as_json: bool) -> None:
    """List what is mounted for this directory."""
    root = default_mount_root()
    found = mounts_of_node(root) if everywhere else Mounts(NO_LINKS).all()
    rows = [
        {
            "url": f"s3://{each.bucket}",
            "mode": "read-write" if each.read_write else "read-only",
            "state": _state(each),
            "mount_point": str(each.point),
            "directory": str(each.workdir),
            "not_uploaded": unsent(each),
        }
        for each in found
    ]
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    shown = ["url", "mode", "state", "mount_point", *(["directory"] if everywhere else [])]
    for row in rows:
        click.echo("\t".join(_one_line(str(row[name])) for name in shown))
        if row["not_uploaded"]:
            click.echo(f"  not uploaded: {', '.join(map(_one_line, row['not_uploaded']))}")


def _state(each: Mount) -> str:
    if each.is_healthy:
        return "healthy"
    if each.is_mounted:
        return "s3fs has ended"
    return "detached" if each.daemon and each.daemon.handle else "unmounted"


@main.command()
@click.option("--clear", is_flag=True, help="Remove what no job uses at this moment.")
@click.option(
    "--cache-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=default_cache_dir,
    help="Where the plugin's setting says.  [default: in the temp directory]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the objects as JSON.")
def cache(clear: bool, cache_dir: Path, as_json: bool) -> None:
    """List what this node keeps of objects, for later jobs and runs; the last used comes last."""
    found = sorted(kept(cache_dir), key=lambda each: each.used)
    rows = [(_local_time(each.used), each.held, url_of(each.path)) for each in found]
    if as_json:
        names = ("used", "bytes", "url")
        click.echo(json.dumps([dict(zip(names, row, strict=True)) for row in rows], indent=1))
    else:
        for used, size, url in rows:
            click.echo(f"{used}\t{humanfriendly.format_size(size, binary=True)}\t{_one_line(url)}")
    held = humanfriendly.format_size(sum(each.held for each in found), binary=True)
    click.echo(f"{held} of {pluralize(len(found), 'object')}.", err=True)
    if clear:
        removed = [each for each in found if remove_unused(each.path)]
        freed = humanfriendly.format_size(sum(each.held for each in removed), binary=True)
        click.echo(f"Removed {freed}; the rest is in use.", err=True)


def _local_time(nanoseconds: int) -> str:
    return f"{datetime.fromtimestamp(nanoseconds / 1e9):%Y-%m-%d %H:%M:%S}"


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


@main.command()
@click.argument("shell", type=click.Choice(SHELLS), required=False)
def completion(shell: str | None) -> None:
    """Print what lets a shell complete this command.

    \b
    bash:  eval "$(s3fuse completion bash)"       in ~/.bashrc
    zsh:   eval "$(s3fuse completion zsh)"        in ~/.zshrc
    fish:  s3fuse completion fish | source        in ~/.config/fish/config.fish
    """  # noqa: D301
    name = shell or Path(os.environ.get("SHELL", "")).name
    found = get_completion_class(name)
    if found is None:
        raise QueryError(f"There is no completion for {name!r}; name one of {', '.join(SHELLS)}.")
    click.echo(found(main, {}, "s3fuse", "_S3FUSE_COMPLETE").source())
