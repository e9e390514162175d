"""The environment of the s3fs command."""

from __future__ import annotations

import pytest

from s3fuse.mount.daemon import NOBODY, confinement
from s3fuse.s3.connection import Connection


@pytest.fixture(autouse=True)
def _without_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    ("endpoint", "hosts"),
    [
        ("https://Store.example:9000/s3", "store.example"),
        ("http://127.0.0.1:9000", "127.0.0.1"),
        (None, "amazonaws.com,amazonaws.com.cn"),
        ("https://s3.eu-west-2.amazonaws.com", "amazonaws.com,amazonaws.com.cn"),
    ],
)
def test_only_the_hosts_of_the_store_are_reached(endpoint: str | None, hosts: str) -> None:
    found = confinement(Connection(endpoint))
    assert found.pop("no_proxy") == hosts
    assert found == {"http_proxy": NOBODY, "https_proxy": NOBODY, "all_proxy": NOBODY}


@pytest.mark.parametrize("name", ["https_proxy", "HTTPS_PROXY", "ALL_PROXY"])
def test_a_proxy_of_the_user_stays(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "http://proxy.example:3128")
    assert confinement(Connection("https://store.example")) == {}
