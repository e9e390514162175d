"""Signatures, with botocore as the one who signs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, urlencode

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from s3fuse.gateway.signature import MOST_SKEW, Keys, Request, is_signed

KEYS = Keys.random()
PLACE = "http://127.0.0.1:9000"
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=40)


def signed(
    method: str, path: str, query: Mapping[str, str] | None = None, keys: Keys = KEYS
) -> Request:
    """A request as botocore signs it."""
    text = f"?{urlencode(query, quote_via=quote)}" if query else ""
    asked = AWSRequest(method, f"{PLACE}{path}{text}")
    asked.context["client_config"] = None
    credentials = Credentials(keys.access_key, keys.secret_key)
    S3SigV4Auth(credentials, "s3", "us-east-1").add_auth(asked)
    prepared = asked.prepare()
    headers = {name.lower(): str(value) for name, value in prepared.headers.items()}
    headers = {"host": "127.0.0.1:9000", **headers}
    return Request(method, prepared.url.removeprefix(PLACE), headers)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_what_is_signed_with_the_keys_is_accepted(method: str) -> None:
    assert is_signed(signed(method, "/bucket/a/b"), KEYS)
    assert is_signed(signed(method, "/bucket", {"prefix": "a/b c+d", "delimiter": "/"}), KEYS)


@given(query=st.dictionaries(st.sampled_from(["prefix", "marker", "delimiter"]), TEXT))
def test_any_query_can_be_signed(query: dict[str, str]) -> None:
    assert is_signed(signed("GET", "/bucket", query), KEYS)


@pytest.mark.parametrize(
    "keys",
    [
        Keys.random(),
        replace(KEYS, access_key="another"),
        replace(KEYS, secret_key="another"),
    ],
)
def test_what_others_sign_is_refused(keys: Keys) -> None:
    assert not is_signed(signed("GET", "/bucket/x", keys=keys), KEYS)


def test_what_was_changed_is_refused() -> None:
    request = signed("GET", "/bucket/x", {"prefix": "a"})
    assert is_signed(request, KEYS)
    for change in (
        replace(request, method="PUT"),
        replace(request, target="/bucket/y?prefix=a"),
        replace(request, target="/bucket/x?prefix=b"),
        replace(request, target="/bucket/x?prefix=a&x"),
        replace(request, headers={**request.headers, "host": "other"}),
        replace(request, headers={**request.headers, "x-amz-content-sha256": "0" * 64}),
    ):
        assert not is_signed(change, KEYS)


def test_only_what_was_signed_lately_is_accepted() -> None:
    request = signed("GET", "/bucket/x")
    for seconds, is_accepted in ((0, True), (MOST_SKEW - 5, True), (MOST_SKEW + 5, False)):
        for way in (1, -1):
            now = datetime.now(UTC) + way * timedelta(seconds=seconds)
            assert is_signed(request, KEYS, now) == is_accepted


def test_what_does_not_sign_its_date_is_refused() -> None:
    request = signed("GET", "/bucket/x")
    told = request.headers["authorization"]
    for name in ("host;", ";x-amz-date"):
        headers = {**request.headers, "authorization": told.replace(name, "")}
        assert not is_signed(replace(request, headers=headers), KEYS)


@given(
    target=st.text(max_size=60),
    headers=st.dictionaries(
        st.sampled_from(["authorization", "x-amz-date", "host", "x-amz-content-sha256"]),
        st.one_of(
            st.text(max_size=60),
            st.from_regex(
                r"AWS4-HMAC-SHA256 Credential=[^/]*/\d{8}/us-east-1/s3/aws4_request, "
                r"SignedHeaders=(host;x-amz-date|[a-z;]*), Signature=[0-9a-f]{64}",
                fullmatch=True,
            ),
        ),
    ),
)
def test_nonsense_is_refused(target: str, headers: dict[str, str]) -> None:
    assert not is_signed(Request("GET", target, headers), KEYS)
