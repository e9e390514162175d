"""The same on every S3 server that can be had: published, listed, mounted, removed."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from conftest import mounted, output_of, snakemake
from publishing import publish, publish_folder
from s3fuse.errors import BucketNotFound, PublishError, S3FuseError
from s3fuse.inputs.download import Copier
from s3fuse.mount.mounts import Mounts
from s3fuse.s3.parts import PART_SIZE
from s3fuse.s3.store import Store
from s3fuse.urls import S3Url
from stores import StoreUnderTest

pytestmark = pytest.mark.fuse

SMALL = Path(__file__).parent / "small.smk"
BUCKET = S3Url("a-bucket")
KEYS = ["plain.nc", "a b/c+d%20#e.nc", "größe/温度.nc", "x" * 200 + "/" + "y" * 200]


@pytest.fixture(scope="session")
def store(any_store: StoreUnderTest) -> Store:
    """Each store in turn, with the bucket of these tests."""
    any_store.store.call("create_bucket", BUCKET, "create")
    return any_store.store


@pytest.mark.parametrize("size", [0, 1000, 2 * PART_SIZE + 1], ids=["empty", "small", "parts"])
def test_published_replaced_copied_and_removed(store: Store, tmp_path: Path, size: int) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    url = BUCKET.child("x.bin")
    for _ in range(2):
        source.write_bytes(os.urandom(size))
        start = int(time.time())
        info = publish(store, source, url)
        assert info.size == size
        listed = store.list(BUCKET).objects["x.bin"]
        # rclone tells in one when an upload began, and in the other when it had been written.
        assert start <= info.mtime <= listed.mtime <= time.time()
        assert replace(listed, mtime=info.mtime) == info
        Copier(store).object(url, info, target)
        assert target.read_bytes() == source.read_bytes()
    store.remove(url)
    assert store.head(url) is None
    store.remove(url)


def test_an_upload_that_fails_leaves_no_parts(
    any_store: StoreUnderTest, store: Store, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(2 * PART_SIZE + 1))
    original = store.call

    def failing(method: str, *args: object, **kwargs: object) -> dict[str, object]:
        if kwargs.get("PartNumber") == 3:
            raise PublishError("By order")
        return original(method, *args, **kwargs)  # type: ignore[arg-type]

    store.call = failing  # type: ignore[method-assign]
    try:
        with pytest.raises(PublishError, match="By order"):
            publish(store, source, BUCKET.child("failed.bin"))
    finally:
        store.call = original  # type: ignore[method-assign]
    assert store.head(BUCKET.child("failed.bin")) is None
    if any_store.capabilities.abort:
        assert not store.uploads(BUCKET)


def test_odd_keys_folders_and_mounts(store: Store, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for key in KEYS:
        (tree / key).parent.mkdir(parents=True, exist_ok=True)
        (tree / key).write_text(key)
    folder = BUCKET.child("folder/")
    publish_folder(store, tree, folder)
    listing = store.list(folder, recursive=True)
    assert sorted(listing.objects) == sorted(f"folder/{key}" for key in KEYS)
    assert store.list(BUCKET).folders == {"folder/"}
    mounts = Mounts(tmp_path / "links", tmp_path, tmp_path / "run", tmp_path / "cache")
    mount = mounts.mount(BUCKET.bucket, store.connection)
    try:
        for key in KEYS:
            assert (mount.point / "folder" / key).read_text() == key
    finally:
        mounts.unmount_own()
    store.remove(folder)
    assert not store.has_objects(folder)


def test_what_is_missing_is_named(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_text("x")
    with pytest.raises(BucketNotFound, match="There is no bucket s3://no-such-bucket"):
        publish(store, source, S3Url("no-such-bucket", "x"))
    assert store.head(BUCKET.child("missing")) is None


def test_a_damaged_body_is_never_taken_for_the_result(store: Store, tmp_path: Path) -> None:
    """Either the store refuses a body whose MD5 differs, or the look afterwards finds it."""
    source = tmp_path / "source"
    url = BUCKET.child("damaged.bin")
    source.write_bytes(b"good")
    original = store.call

    def damaging(method: str, *args: object, **kwargs: object) -> dict[str, object]:
        if method == "put_object":
            kwargs["Body"] = b"bad!"
        return original(method, *args, **kwargs)  # type: ignore[arg-type]

    store.call = damaging  # type: ignore[method-assign]
    try:
        with pytest.raises((PublishError, S3FuseError)):
            publish(store, source, url)
    finally:
        store.call = original  # type: ignore[method-assign]
    store.remove(url)


@pytest.mark.slow
@pytest.mark.parametrize("access", ["mount", "copy"])
def test_a_workflow_runs_and_finds_nothing_to_do_again(
    any_store: StoreUnderTest, store: Store, tmp_path: Path, access: str
) -> None:
    content = os.urandom(300_000)
    (tmp_path / "in.bin").write_bytes(content)
    publish(store, tmp_path / "in.bin", BUCKET.child("in.bin"))
    store.remove(BUCKET.child("out.bin"))
    config = ["command=cp $INPUT $OUTPUTS", f"input={BUCKET}/in.bin", f"outputs=[{BUCKET}/out.bin]"]
    words = ["--snakefile", str(SMALL), "--cores", "1", "--storage-s3fuse-access", access]
    done = snakemake(tmp_path, *words, "--config", *config, environment=any_store.environment)
    assert done.returncode == 0, output_of(done)
    assert mounted() == []
    info = store.head(BUCKET.child("out.bin"))
    assert info is not None
    Copier(store).object(BUCKET.child("out.bin"), info, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == content
    again = snakemake(tmp_path, *words, "--config", *config, environment=any_store.environment)
    assert "Nothing to be done" in output_of(again)
