"""Listings of stores that break the rules of their pages."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from s3fuse.errors import EndpointError, ListingError
from s3fuse.s3 import translate
from s3fuse.s3.connection import Connection
from s3fuse.s3.store import Store
from s3fuse.urls import S3Url

FOLDER = S3Url("bucket", "folder/")
DATE = datetime(2026, 1, 1, tzinfo=UTC)


class Paged(Store):
    """A store whose pages a test writes."""

    def __init__(self, answer: Callable[[int], dict[str, Any]]) -> None:
        super().__init__(Connection("https://store.example"))
        self.answer, self.tokens = answer, list[str | None]()

    def _page(self, url: S3Url, **query: Any) -> dict[str, Any]:
        self.tokens.append(query.get("ContinuationToken"))
        return self.answer(len(self.tokens))


class Answering(Store):
    """A store with answers as botocore parses them."""

    def __init__(self, answer: dict[str, Any]) -> None:
        super().__init__(Connection("https://store.example"))
        self.answer = answer

    def _wait(self, *_: Any, **__: Any) -> Any:
        return self.answer


def page(number: int, **more: Any) -> dict[str, Any]:
    entry = {"Key": f"folder/{number}", "Size": 1, "ETag": "x", "LastModified": DATE}
    return {"IsTruncated": True, "Contents": [entry], **more}


@pytest.mark.parametrize("token", [{}, {"NextContinuationToken": ""}])
def test_a_token_that_is_missing_ends_a_listing(token: dict[str, str]) -> None:
    store = Paged(lambda number: page(number, **token))
    sentence = (
        "^https://store.example does not finish its listing of s3://bucket/folder/: "
        "the token for its next page is missing; report this to the operator of the store.$"
    )
    with pytest.raises(ListingError, match=sentence):
        store.list(FOLDER)
    assert len(store.tokens) == 1


@pytest.mark.parametrize("period", [1, 2, 3])
def test_a_token_that_comes_again_ends_a_listing(period: int) -> None:
    store = Paged(lambda number: page(number, NextContinuationToken=str(number % period)))
    with pytest.raises(ListingError, match="was used before"):
        store.list(FOLDER, recursive=True)
    assert len(store.tokens) == period + 1


def test_empty_pages_without_end_end_a_listing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(translate, "MOST_EMPTY_PAGES", 5)
    store = Paged(
        lambda number: {"IsTruncated": True, "NextContinuationToken": str(number), "Contents": []}
    )
    with pytest.raises(ListingError, match="5 pages in a row were empty"):
        store.list(FOLDER)
    assert len(store.tokens) == 5


def test_some_empty_pages_are_no_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(translate, "MOST_EMPTY_PAGES", 5)

    def answer(number: int) -> dict[str, Any]:
        if number == 30:
            return page(number, IsTruncated=False)
        following = {"NextContinuationToken": str(number)}
        is_empty = bool(number % 5)
        return {"IsTruncated": True, **following} if is_empty else page(number, **following)

    store = Paged(answer)
    assert list(store.list(FOLDER).objects) == [f"folder/{n}" for n in range(5, 31, 5)]
    assert store.tokens == [None, *map(str, range(1, 30))]


#: Where the answers of S3 have more, rclone's empty listing has the fewest fields.
EMPTY = {"EncodingType": "url", "IsTruncated": False, "MaxKeys": 1000, "Name": "b", "Prefix": ""}


def test_an_empty_listing_is_no_mistake() -> None:
    assert Answering(EMPTY).list(FOLDER).objects == {}


@pytest.mark.parametrize("answer", [{}, {"Name": "x"}, {"KeyCount": 0}])
def test_another_answer_is_not_an_empty_listing(answer: dict[str, Any]) -> None:
    store = Answering(answer)
    sentence = (
        "^https://store.example does not answer as S3 does when asked to list "
        "s3://bucket/folder/; set endpoint_url to the address of the S3 API, not of a web page.$"
    )
    for _ in range(2):
        with pytest.raises(EndpointError, match=sentence):
            store.list(FOLDER)
    with pytest.raises(EndpointError, match="does not answer as S3 does"):
        store.check("bucket")
    assert not store.has_answered("bucket")
