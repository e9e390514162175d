from pathlib import Path

import pytest

from s3fuse.errors import QueryError
from s3fuse.urls import S3Url, redacted


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
