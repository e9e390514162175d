"""The command line and the environment of s3fs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3fuse.mount.daemon import NOBODY, command, confinement
from s3fuse.mount.options import MountOptions
from s3fuse.mount.record import Mount
from s3fuse.node.processes import Node
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
    assert confinement(Connection("https://store.example")) == {name: "http://proxy.example:3128"}


def options_of(words: list[str]) -> list[str]:
    """Take options apart as `process_real_option_group` of libfuse does."""
    text = words[words.index("-o") + 1]
    options, position = [""], 0
    while position < len(text):
        character = text[position]
        if character == ",":
            options.append("")
        else:
            if character == "\\" and position + 1 < len(text):
                position += 1
                digits = text[position : position + 3]
                if len(digits) == 3 and digits[0] in "0123" and set(digits) <= set("01234567"):
                    options[-1] += chr(int(digits, 8))
                    position += 3
                    continue
                character = text[position]
            options[-1] += character
        position += 1
    return options


def words_for(cache: Path, connection: Connection) -> list[str]:
    mount = Mount(
        *("data", Path("/run/scope/data-x"), cache),
        identity="",
        read_write=False,
        links=Path("/links"),
        workdir=Path("/"),
        node=Node("host", "boot", "namespaces"),
        owner=None,
    )
    return command((1, 90), mount, connection, MountOptions())


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=())))
def test_a_directory_cannot_add_an_option(name: str) -> None:
    connection = Connection()
    plain = options_of(words_for(Path("/cache"), connection))
    cache = Path("/cache") / name.strip("/")
    found = options_of(words_for(cache, connection))
    assert found == [option.replace("=/cache", f"={cache}") for option in plain]


@pytest.mark.parametrize("value", ["a,allow_other", "a\\", "a\\,b", "\\054allow_other"])
def test_a_setting_cannot_add_an_option(value: str) -> None:
    connection = replace(Connection(), endpoint_url=f"http://host/{value}", region=value)
    options = options_of(words_for(Path("/cache"), connection))
    assert f"url=http://host/{value}" in options
    assert f"endpoint={value}" in options
    assert "allow_other" not in options
