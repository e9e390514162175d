import os
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from s3fuse.errors import QueryError
from s3fuse.urls import S3Url, path_below, paths_below, redacted


@pytest.mark.parametrize(
    ("text", "bucket", "key", "suffix"),
    [
        ("s3://data/tas/1990.nc", "data", "tas/1990.nc", "data/tas/1990.nc"),
        ("s3://data/tas/", "data", "tas/", "data/tas/@folder"),
        ("s3://data", "data", "", "data/@folder"),
        ("s3://data/", "data", "", "data/@folder"),
        ("s3://data/a b+c?d#e%20.nc", "data", "a b+c?d#e%20.nc", "data/a b+c?d#e%20.nc"),
        ("s3://data/größe.nc", "data", "größe.nc", "data/größe.nc"),
    ],
)
def test_parts_and_place_on_disk(text: str, bucket: str, key: str, suffix: str) -> None:
    url = S3Url.parse(text)
    assert (url.bucket, url.key) == (bucket, key)
    assert url.local_suffix() == suffix


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("data/tas.nc", "is no S3 URL"),
        ("http://data/tas.nc", "is no S3 URL"),
        ("S3://data/tas.nc", "is no S3 URL"),
        ("s3:///tas.nc", "does not name a bucket"),
        ("s3://a/tas.nc", "does not name a bucket"),
        ("s3://-data/tas.nc", "does not name a bucket"),
        ("s3://data/../other/key", "'..'"),
        ("s3://data/tas/..", "'..'"),
        ("s3://data/./tas", "'..'"),
        ("s3://data//tas", "'..'"),
        ("s3://data/tas//", "'..'"),
        ("s3://data/tas\n.nc", "control character"),
        ("s3://data/" + "x" * 1025, "more than 1024 bytes"),
        ("s3://data/@folder/x", "reserved"),
    ],
)
def test_what_cannot_be_a_path_is_refused(text: str, reason: str) -> None:
    with pytest.raises(QueryError, match=reason):
        S3Url.parse(text)


def test_credentials_in_a_url_are_not_repeated() -> None:
    with pytest.raises(QueryError) as caught:
        S3Url.parse("s3://AKIA123:secret@data/tas.nc")
    assert "secret" not in str(caught.value)
    assert redacted("s3://AKIA123:secret@data/tas.nc") == "s3://***@data/tas.nc"


def test_no_place_on_disk_is_below_another() -> None:
    texts = ["s3://data", "s3://data/a/", "s3://data/a/b/", "s3://data/a/b/c.nc", "s3://data/a.nc"]
    places = [Path(S3Url.parse(text).local_suffix()) for text in texts]
    for place in places:
        assert not any(place in other.parents for other in places)


def test_parents_and_children() -> None:
    url = S3Url.parse("s3://data/a/b.nc")
    assert str(url.parent) == "s3://data/a/"
    assert str(url.parent.parent) == "s3://data"
    assert url.parent.child("b.nc") == url
    assert S3Url("data", "a").child("b.nc") == url


#: Keys made of the parts that are dangerous, and of anything.
KEYS = st.lists(
    st.sampled_from(["..", ".", "", "a", "b", "~", "-rf", "\0", "\n", "@folder"]) | st.text()
).map("/".join)


@given(KEYS, st.sampled_from([S3Url("data"), S3Url("data", "tas/"), S3Url("data", "tas")]))
@example("tas//etc/passwd", S3Url("data", "tas/"))
@example("tas/../../x", S3Url("data", "tas/"))
@example("/etc/passwd", S3Url("data"))
def test_a_key_is_below_its_root_or_refused(key: str, folder: S3Url) -> None:
    root = Path("/srv/root")
    try:
        path = path_below(root, folder, key)
    except QueryError as error:
        message = str(error)
    else:
        assert root in Path(os.path.normpath(path)).parents
        assert os.path.normpath(path) == str(path)
        # Different keys have different paths.
        assert path.relative_to(root).as_posix() == key.removeprefix(folder.child("").key)
        return
    assert f"{key!r} in {folder} " in message


@given(KEYS)
def test_a_local_suffix_is_below_its_bucket_or_refused(key: str) -> None:
    try:
        suffix = S3Url("data", key).local_suffix()
    except QueryError:
        return
    assert Path("data") in Path(os.path.normpath(suffix)).parents


@pytest.mark.parametrize(
    "key", ["tas//abs/path", "tas/../../x", "tas/./x", "tas/a\0b", "tas/a\nb", "tas/", "x", "tas"]
)
def test_a_key_that_would_leave_its_folder_is_named(key: str) -> None:
    with pytest.raises(QueryError) as caught:
        path_below(Path("/srv/root"), S3Url("data", "tas/"), key)
    assert f"The key {key!r} in s3://data/tas/ cannot be a local path" in str(caught.value)


@pytest.mark.parametrize("inner", ["a/b", "a/b/c"])
def test_a_key_that_is_also_a_folder_is_named(inner: str) -> None:
    folder = S3Url("data", "tas/")
    with pytest.raises(QueryError, match=f"The key 'tas/a' in {folder} is also the folder of"):
        paths_below(Path("/srv/root"), folder, ["tas/a", f"tas/{inner}", "tas/a.b"])
    assert len(paths_below(Path("/srv/root"), folder, ["tas/a", "tas/a.b", "tas/ab/c"])) == 3
