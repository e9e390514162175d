from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from s3fuse.errors import QueryError
from s3fuse.inputs.download import Copier
from s3fuse.s3.objects import ObjectInfo
from s3fuse.urls import S3Url

FOLDER = S3Url("data", "tas/")


class Store(SimpleNamespace):
    """A store in which every object is one byte."""

    def check(self, bucket: str) -> None:
        pass

    def read(self, url: S3Url, info: ObjectInfo, start: int, size: int, write: Any) -> None:
        write(b"x", start)


def infos(*keys: str) -> list[ObjectInfo]:
    # An ETag that is no MD5.
    return [ObjectInfo(key, 1, 0.0, "etag-1") for key in keys]


@pytest.mark.parametrize(
    "keys",
    [
        ["tas/../../x"],
        ["tas/../x"],
        ["tas/./x"],
        ["tas//x"],
        ["tas/a/../../../x"],
        ["tas/a\0b"],
        ["tas/a\nb"],
        ["tas/"],
        ["tas/a", "tas/a/b"],
    ],
)
def test_a_folder_with_a_key_that_leaves_it_is_refused(keys: list[str], tmp_path: Path) -> None:
    with pytest.raises(QueryError) as caught:
        Copier(Store()).folder(FOLDER, infos("tas/fine", *keys), tmp_path / "a/b/tas")  # type: ignore[arg-type]
    assert repr(keys[0]) in str(caught.value)
    assert str(FOLDER) in str(caught.value)
    # Nothing was written, in the folder or elsewhere.
    assert list(tmp_path.rglob("*")) == []


def test_an_absolute_path_in_a_key_is_not_written(tmp_path: Path) -> None:
    key = f"tas/{tmp_path}/victim"
    with pytest.raises(QueryError, match="cannot be a local path"):
        Copier(Store()).folder(FOLDER, infos(key), tmp_path / "tas")  # type: ignore[arg-type]
    assert list(tmp_path.rglob("*")) == []


def test_a_folder_is_copied_with_its_inner_folders(tmp_path: Path) -> None:
    Copier(Store()).folder(FOLDER, infos("tas/a b", "tas/@folder/..c/-d"), tmp_path / "tas")  # type: ignore[arg-type]
    found = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {tmp_path / "tas/a b", tmp_path / "tas/@folder/..c/-d"}
