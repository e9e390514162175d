import os
from pathlib import Path

import pytest

from conftest import Bucket
from publishing import publish, publish_folder
from s3fuse.errors import BucketNotFound, ObjectChanged, PublishError
from s3fuse.inputs.download import Copier
from s3fuse.publish.local import TIMESTAMP_FILE
from s3fuse.publish.manifest import NAME
from s3fuse.publish.upload import PART_SIZE, Upload
from s3fuse.s3.store import Store
from s3fuse.urls import S3Url


@pytest.mark.parametrize("size", [0, 1, 100_000, 2 * PART_SIZE + 1])
def test_published_and_copied_back_whole(
    store: Store, bucket: Bucket, tmp_path: Path, size: int
) -> None:
    content = os.urandom(size)
    (tmp_path / "up").write_bytes(content)
    url = bucket.url.child("a/b c.bin")
    info = publish(store, tmp_path / "up", url)
    assert info.size == size
    assert (bucket.folder / "a/b c.bin").read_bytes() == content
    Copier(store).object(url, info, tmp_path / "down")
    assert (tmp_path / "down").read_bytes() == content
    assert (tmp_path / "down").stat().st_mtime == info.mtime
    assert sorted(os.listdir(tmp_path)) == ["down", "up"]


def test_a_copy_of_a_replaced_object_does_not_appear(
    store: Store, bucket: Bucket, tmp_path: Path
) -> None:
    bucket.write("x", "old")
    url = bucket.url.child("x")
    planned = store.head(url)
    assert planned is not None
    bucket.write("x", "new")
    with pytest.raises(ObjectChanged, match=f"{url} was replaced"):
        Copier(store).object(url, planned, tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_what_was_sent_is_noticed(
    store: Store, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x"
    path.write_text("right")
    complete = Upload.complete

    def damage(upload: Upload) -> None:
        complete(upload)
        bucket.write("x", "wrong")

    monkeypatch.setattr(Upload, "complete", damage)
    with pytest.raises(PublishError, match="differs from what was uploaded"):
        publish(store, path, bucket.url.child("x"))


def test_a_file_that_changes_while_it_is_sent_is_noticed(
    store: Store, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"0" * (2 * PART_SIZE + 1))
    send = Upload._send_part

    def write_meanwhile(upload: Upload, number: int) -> object:
        with path.open("r+b") as file:
            file.seek((2 * PART_SIZE) if number == 1 else 0)
            file.write(b"1")
        return send(upload, number)

    monkeypatch.setattr(Upload, "_send_part", write_meanwhile)
    with pytest.raises(PublishError, match="was changed while it was uploaded"):
        publish(store, path, bucket.url.child("x"))


def test_a_folder_goes_and_comes_whole(store: Store, bucket: Bucket, tmp_path: Path) -> None:
    folder = bucket.url.child("out/")
    source = tmp_path / "source"
    for name in ("a.nc", "deep/b.nc", "deep/er/c.nc"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(name)
    (source / TIMESTAMP_FILE).touch()
    (source / "stale.nc").write_text("from the run before")
    publish_folder(store, source, folder)
    (source / "stale.nc").unlink()
    bucket.write("out/foreign.nc", "not ours")
    bucket.write("outside.nc", "not ours")
    publish_folder(store, source, folder)
    ours = ["out/a.nc", "out/deep/b.nc", "out/deep/er/c.nc"]
    assert bucket.keys() == [f"out/{NAME}", *ours, "out/foreign.nc", "outside.nc"]
    infos = store.list(folder, recursive=True).objects.values()
    Copier(store).folder(folder, infos, tmp_path / "back")
    assert (tmp_path / "back/deep/er/c.nc").read_text() == "deep/er/c.nc"
    assert sorted(os.listdir(tmp_path)) == ["back", "source"]


def test_an_empty_folder_cannot_be_published(store: Store, bucket: Bucket, tmp_path: Path) -> None:
    with pytest.raises(PublishError, match="empty folder cannot be stored"):
        publish_folder(store, tmp_path, bucket.url.child("out/"))


def test_a_missing_bucket_is_never_made(store: Store, data: Path, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("x")
    with pytest.raises(BucketNotFound, match="no bucket s3://not-there"):
        publish(store, tmp_path / "x", S3Url("not-there", "x"))
    assert not (data / "not-there").exists()
