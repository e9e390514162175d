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


def test_secrets_are_not_in_the_representation() -> None:
    connection = Connection(access_key="AKIA", secret_key="hush", token="psst")
    assert not any(word in repr(connection) for word in ("AKIA", "hush", "psst"))
    assert "hush" not in connection.identity
