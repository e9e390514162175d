"""What each S3 store can do, and what the library relies on with every one of them.

What is found is written to ``build/stores.md``, a column for each store that was tried.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, fields

import pytest

from bucket_requests import DONE, BucketRequests
from capabilities import Capabilities
from conftest import ROOT
from stores import STORES, StoreUnderTest

FINDINGS = ROOT / "build/stores"
TABLE = ROOT / "build/stores.md"
WORDS = {True: "yes", False: "no", None: "–"}

META = {each.name: each.metadata for each in fields(Capabilities)}


@pytest.fixture(scope="session")
def found(any_store: StoreUnderTest) -> Capabilities:
    """What the store can do, also written to the table."""
    capabilities = any_store.capabilities
    FINDINGS.mkdir(parents=True, exist_ok=True)
    (FINDINGS / f"{any_store.name}.json").write_text(json.dumps(asdict(capabilities)))
    TABLE.write_text(_table())
    return capabilities


def _table() -> str:
    """Write the findings of all stores that were ever tried as a table in Markdown."""
    names = [str(each.id) for each in STORES if (FINDINGS / f"{each.id}.json").exists()]
    columns = [json.loads((FINDINGS / f"{name}.json").read_text()) for name in names]
    rows = [["capability", *names, "meaning"], ["---"] * (len(names) + 2)]
    for name, metadata in META.items():
        values = [column.get(name) for column in columns]
        words = [WORDS[value] if value in WORDS else str(value) for value in values]
        rows.append([f"`{name}`", *words, metadata["meaning"]])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


@pytest.mark.parametrize("name", Capabilities.names())
def test_capability(found: Capabilities, name: str) -> None:
    assert getattr(found, name) in META[name]["values"]
    assert f"`{name}`" in TABLE.read_text()


def test_the_proxy_honours_every_condition(any_store: StoreUnderTest, found: Capabilities) -> None:
    if any_store.name != "conditional":
        pytest.skip("About the store with the proxy")
    conditions = [name for name in META if name.startswith(("put_", "complete_"))]
    assert len(conditions) == 8
    assert [name for name in conditions if not getattr(found, name)] == []


@pytest.fixture
def bucket(any_store: StoreUnderTest) -> BucketRequests:
    """A new, empty bucket."""
    return any_store.new_bucket()


@pytest.mark.parametrize("size", [0, 1, 300_000])
def test_head_and_list_agree_with_a_put(bucket: BucketRequests, size: int) -> None:
    body = os.urandom(size)
    for _ in range(2):
        answer = bucket.call("put_object", Key="key", Body=body)
        info = bucket.store.head(bucket.url.child("key"))
        assert info is not None
        assert info.size == len(body)
        assert info.etag == answer["ETag"].strip('"')
        listed = bucket.store.list(bucket.url).objects["key"]
        assert (listed.size, listed.etag) == (info.size, info.etag)
        # The second time, the object is replaced by one of another size.
        body += b"more"


@pytest.mark.parametrize("replaces", [False, True], ids=["new", "replaces"])
def test_an_incomplete_upload_is_invisible(bucket: BucketRequests, replaces: bool) -> None:
    before = _prepare(bucket, replaces)
    bucket.upload("key", b"part")
    _assert_unchanged(bucket, before)


@pytest.mark.parametrize("replaces", [False, True], ids=["new", "replaces"])
def test_an_aborted_upload_leaves_nothing(
    any_store: StoreUnderTest, bucket: BucketRequests, replaces: bool
) -> None:
    before = _prepare(bucket, replaces)
    upload = bucket.upload("key", b"part")
    bucket.abort(upload)
    _assert_unchanged(bucket, before)
    if any_store.capabilities.abort:
        assert bucket.store.uploads(bucket.url) == ()
        assert bucket.complete(upload) != DONE
        _assert_unchanged(bucket, before)


@pytest.mark.parametrize("replaces", [False, True], ids=["new", "replaces"])
def test_a_completed_upload_replaces_the_whole_object(
    bucket: BucketRequests, replaces: bool
) -> None:
    _prepare(bucket, replaces)
    parts = [os.urandom(5 * 2**20), b"last"]
    upload = bucket.upload("key", *parts)
    assert bucket.complete(upload) == DONE
    content = b"".join(parts)
    info = bucket.store.head(bucket.url.child("key"))
    assert info is not None
    assert info.size == len(content)
    assert bucket.body("key") == content
    assert bucket.store.list(bucket.url).objects.keys() == {"key"}
    # A smaller one leaves nothing of it.
    assert bucket.complete(bucket.upload("key", b"small")) == DONE
    assert bucket.body("key") == b"small"


def _prepare(bucket: BucketRequests, exists: bool) -> dict[str, bytes]:
    """Create the object, if wanted, and return the content of the bucket."""
    if exists:
        assert bucket.put("key", b"before" * 1000) == DONE
    return {"key": b"before" * 1000} if exists else {}


def _assert_unchanged(bucket: BucketRequests, before: dict[str, bytes]) -> None:
    listing = bucket.store.list(bucket.url, recursive=True)
    assert listing.objects.keys() == before.keys()
    for key, body in before.items():
        assert bucket.body(key) == body
    if not before:
        assert bucket.store.head(bucket.url.child("key")) is None
        assert not bucket.store.has_objects(bucket.url)
