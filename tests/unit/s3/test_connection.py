import base64
from typing import Any

import pytest

from s3fuse.errors import SettingsError
from s3fuse.s3.connection import Connection


def test_contradictions_are_refused() -> None:
    with pytest.raises(SettingsError, match="secret key is not"):
        Connection(access_key="A")
    with pytest.raises(SettingsError, match="is no URL"):
        Connection(endpoint_url="localhost:9000")
    with pytest.raises(SettingsError, match="user name or password") as caught:
        Connection(endpoint_url="http://me:secret@host")
    assert "secret@" not in str(caught.value)


KEY = base64.b64encode(bytes(32)).decode()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"anonymous": True, "requester_pays": True}, "whoever pays must sign"),
        ({"sse": "aws"}, "sse is 'aws'"),
        ({"sse_kms_key_id": "alias/mine"}, "set sse to aws:kms"),
        ({"sse_kms_key_id": "alias/mine", "sse": "AES256"}, "set sse to aws:kms"),
        ({"sse": "AES256", "sse_customer_key": KEY}, "in one way only"),
        ({"sse_customer_key": "secret"}, "must be a key of 32 bytes"),
        ({"sse_customer_key": KEY[4:]}, "must be a key of 32 bytes"),
        ({"sse_customer_key": KEY, "endpoint_url": "http://store"}, "use https"),
    ],
)
def test_encryption_that_cannot_be_is_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words) as caught:
        Connection(**given)
    assert str(given.get("sse_customer_key")) not in str(caught.value)


def test_a_store_on_this_machine_may_be_told_the_key_of_a_customer() -> None:
    for url in ("http://127.0.0.1:9000", "https://store", None):
        assert Connection(url, sse_customer_key=KEY).identity != Connection(url).identity


def test_secrets_are_not_in_the_representation() -> None:
    connection = Connection(
        access_key="AKIA", secret_key="hush", token="psst", sse_customer_key=KEY
    )
    assert not any(word in repr(connection) for word in ("AKIA", "hush", "psst", KEY))
    assert "hush" not in connection.identity
