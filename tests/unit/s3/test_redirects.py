"""Which answers of a store are redirects that are refused, and what is said."""

from __future__ import annotations

import pytest

from s3fuse.errors import RedirectRefused
from s3fuse.s3.connection import Connection
from s3fuse.s3.redirects import refusing_redirects

OWN = Connection("https://store.example")
AWS = Connection()
REGIONAL = Connection("https://s3.eu-west-2.amazonaws.com")
OF_AWS = "https://bucket.s3-us-west-2.amazonaws.com/key"


def answer(connection: Connection, location: str, status: int = 307) -> None:
    headers = {"Location": location} if location else {}
    refusing_redirects(connection)(response_dict={"status_code": status, "headers": headers})


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("connection", [OWN, AWS, REGIONAL])
def test_another_host_is_refused(connection: Connection, status: int) -> None:
    sentence = (
        f"{connection.place} redirects requests to thief.example:8443, which are not sent there; "
        "if that is your store, set endpoint_url to it."
    )
    with pytest.raises(RedirectRefused) as caught:
        answer(connection, "https://thief.example:8443/bucket/key", status)
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("https://store.example/login", "store.example"),
        ("/login", "another path"),
        ("https://me:secret@thief.example/", "thief.example"),
        ("https://thief.example\x1b[31m/", "another address"),
        ("https://[::1", "another address"),
        ("https://amazonaws.com.thief.example/", "amazonaws.com.thief.example"),
        (OF_AWS, "bucket.s3-us-west-2.amazonaws.com"),
    ],
)
def test_what_is_said_of_the_target(location: str, target: str) -> None:
    with pytest.raises(RedirectRefused, match=f"redirects requests to {target}, which"):
        answer(OWN, location)


@pytest.mark.parametrize("location", ["https://notamazonaws.com/", "https://x.amazonaws.com.evil/"])
def test_hosts_that_look_like_aws_are_refused(location: str) -> None:
    with pytest.raises(RedirectRefused):
        answer(AWS, location)


@pytest.mark.parametrize("connection", [AWS, REGIONAL])
def test_another_region_of_aws_is_left_to_botocore(connection: Connection) -> None:
    answer(connection, OF_AWS)


@pytest.mark.parametrize(("location", "status"), [("", 301), ("", 307), ("https://x/", 200)])
def test_other_answers_are_left_to_botocore(location: str, status: int) -> None:
    answer(OWN, location, status)
