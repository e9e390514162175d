"""A folder of 10,000 objects: the gateway takes little of the time that s3fs takes anyway."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from conftest import Bucket
from s3fuse.embedded_server import Server
from s3fuse.gateway.catalogue import View
from s3fuse.mount.mounts import Mounts
from s3fuse.mount.options import MountOptions
from s3fuse.s3.listings import Listings
from s3fuse.urls import S3Url

# A comparison of times, which nothing is to run beside.
pytestmark = [pytest.mark.fuse, pytest.mark.long]

MANY = 10_000


def seconds_to_look_at_all(folder: Path) -> float:
    """List a folder and look at each file in it, as `ls -l` does."""
    start = time.monotonic()
    with os.scandir(folder) as entries:
        sizes = [each.stat().st_size for each in entries]
    taken = time.monotonic() - start
    assert sizes == [3] * MANY
    return taken


def test_it_is_listed_as_fast_as_without(
    server: Server, bucket: Bucket, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (bucket.folder / "many").mkdir()
    for number in range(MANY):
        (bucket.folder / f"many/{number:05d}").write_bytes(b"abc")
    url = S3Url(bucket.name, "many/")
    infos = list(Listings(bucket.store).tree(url).objects.values())
    taken: dict[str, list[float]] = {"gateway": [], "s3fs": []}
    for round_number in range(3):
        # New mounts each time, as s3fs keeps what it has seen.
        folder = tmp_path / str(round_number)
        mounts = Mounts(folder / "links", folder, folder / "run", folder / "cache")
        try:
            mount = mounts.mount(bucket.name, server.connection)
            view = mounts.show(mount, View.of_folder("many/", infos))
            taken["gateway"].append(seconds_to_look_at_all(view))
            direct = mounts.keep_mounted(bucket.name, server.connection, MountOptions(True))
            taken["s3fs"].append(seconds_to_look_at_all(direct.point / "many"))
        finally:
            mounts.unmount()
            mounts.unmount_own()
    # The best of each, as a machine is slower at times.
    ratio = min(taken["gateway"]) / min(taken["s3fs"])
    with capsys.disabled():
        print(f"{ratio:.2f} of the time of s3fs alone: {taken}")
    assert ratio < 1.2
