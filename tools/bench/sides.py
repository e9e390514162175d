"""The ways to bring a job and its data together, each with fresh caches."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from s3fuse.embedded_server import Server

OUT = "out"


@dataclass(frozen=True)
class Place:
    """Where a job finds its data.

    Attributes
    ----------
    root : str
        What a bucket's name is put behind: a folder or ``s3://``.
    outputs : str
        The folder or bucket for outputs.
    provider : str
        The storage plugin, if any.
    environment : dict
        Variables of Snakemake.
    """

    root: str
    outputs: str
    provider: str = ""
    environment: dict[str, str] = field(default_factory=dict)


#: Given the server as it is seen through the network, a bucket and an empty folder.
Side = Callable[[Server, str, Path], AbstractContextManager[Place]]


@contextmanager
def s3fuse(server: Server, bucket: str, folder: Path) -> Iterator[Place]:
    """What is compared with the others: this project."""
    yield Place("s3://", f"s3://{OUT}", "s3fuse", server.environment)


@contextmanager
def s3_plugin(server: Server, bucket: str, folder: Path) -> Iterator[Place]:
    """snakemake-storage-plugin-s3: copies whole objects."""
    environment = {
        name.replace("S3FUSE", "S3"): value for name, value in server.environment.items()
    }
    yield Place("s3://", f"s3://{OUT}", "s3", environment)


@contextmanager
def plain_s3fs(server: Server, bucket: str, folder: Path) -> Iterator[Place]:
    """s3fs with its default options, as the Iris manual mounts."""
    points = [folder / bucket, folder / OUT]
    keys = {
        "AWS_ACCESS_KEY_ID": server.access_key,
        "AWS_SECRET_ACCESS_KEY": server.secret_key,
    }
    # The server has no UploadPartCopy, without which s3fs 1.90 crashes at mixed
    # uploads, and cannot touch a file that was uploaded in parts.
    options = f"url={server.endpoint_url},use_path_request_style,nomixupload,nocopyapi"
    for point in points:
        point.mkdir()
        command = ["s3fs", point.name, str(point), "-o", options]
        subprocess.run(command, check=True, env={**os.environ, **keys})
    try:
        for point in points:
            _wait(point)
        yield Place(f"{folder}/", str(folder / OUT))
    finally:
        for point in points:
            _unmount(point)


def rclone(*options: str) -> Side:
    """A tuned ``rclone mount`` with a full cache."""

    @contextmanager
    def side(server: Server, bucket: str, folder: Path) -> Iterator[Place]:
        point = folder / "mount"
        point.mkdir()
        prefix = "RCLONE_CONFIG_BENCH_"
        settings = {
            "TYPE": "s3",
            "PROVIDER": "Other",
            "ENDPOINT": server.endpoint_url,
            "ACCESS_KEY_ID": server.access_key,
            "SECRET_ACCESS_KEY": server.secret_key,
        }
        environment = {prefix + name: value for name, value in settings.items()}
        if not shutil.which("fusermount3"):
            # rclone knows this name only; both programs speak the same protocol.
            (folder / "fusermount3").symlink_to(_fusermount())
            environment["PATH"] = f"{folder}:{os.environ['PATH']}"
        program = Path(sysconfig.get_path("scripts")) / "rclone"
        command = [str(program), "mount", "bench:", str(point), "--cache-dir", f"{folder}/cache"]
        command += ["--config", os.devnull, "--vfs-cache-mode", "full", "--vfs-write-back", "0s"]
        process = subprocess.Popen([*command, *options], env={**os.environ, **environment})
        try:
            _wait(point)
            yield Place(f"{point}/", f"{point}/{OUT}")
        finally:
            _unmount(point)
            process.wait(30)

    return side


def local(data: Path) -> Side:
    """Local disk."""

    @contextmanager
    def side(server: Server, bucket: str, folder: Path) -> Iterator[Place]:
        (folder / OUT).mkdir()
        yield Place(f"{data}/", str(folder / OUT))

    return side


@contextmanager
def xarray(server: Server, bucket: str, folder: Path) -> Iterator[Place]:
    """xarray, h5netcdf and fsspec, without a mount."""
    (folder / OUT).mkdir()
    yield Place("s3://", str(folder / OUT), environment=server.environment)


def sides(data: Path) -> dict[str, Side]:
    """All of them, by name."""
    wide = ("--vfs-read-chunk-streams", "8", "--vfs-read-chunk-size", "8M", "--buffer-size", "0")
    narrow = ("--vfs-read-chunk-size", "1M", "--vfs-read-chunk-size-limit", "1M")
    return {
        "s3fuse": s3fuse,
        "S3 plugin": s3_plugin,
        "plain s3fs": plain_s3fs,
        "rclone, wide": rclone(*wide),
        "rclone, narrow": rclone(*narrow, "--buffer-size", "0"),
        "xarray": xarray,
        "local disk": local(data),
    }


def _wait(point: Path) -> None:
    deadline = time.monotonic() + 30
    while not os.path.ismount(point):
        if time.monotonic() > deadline:
            raise TimeoutError(point)
        time.sleep(0.02)
    os.listdir(point)


def _fusermount() -> str:
    return shutil.which("fusermount3") or shutil.which("fusermount") or "fusermount"


def _unmount(point: Path) -> None:
    for _ in range(100):
        if not os.path.ismount(point):
            return
        if subprocess.run([_fusermount(), "-u", str(point)], check=False).returncode == 0:
            return
        time.sleep(0.1)
    raise TimeoutError(f"{point} is still busy")
