"""Whether a request comes from the mount that a gateway serves.

A port of the loopback interface is open to every user of the machine.  So each request is
signed with keys that only the gateway and its s3fs know, as requests to S3 are:
https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import quote, unquote_to_bytes

#: Seconds by which the date of a request may differ from the clock, as in S3.
MOST_SKEW = 15 * 60

_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>[^/, ]+)/"
    r"(?P<scope>(?P<day>\d{8})/[^/, ]+/s3/aws4_request), ?"
    r"SignedHeaders=(?P<headers>[a-z0-9;-]+), ?Signature=(?P<signature>[0-9a-f]{64})"
)
_DATE = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True)
class Keys:
    """What the requests of a mount are signed with.

    Attributes
    ----------
    access_key, secret_key : str
        As in S3.
    """

    access_key: str
    secret_key: str = field(repr=False)

    @classmethod
    def random(cls) -> Keys:
        """Make keys that nobody else knows."""
        return cls(secrets.token_hex(10).upper(), secrets.token_hex(20))


@dataclass(frozen=True)
class Request:
    """What of a request is signed.

    Attributes
    ----------
    method : str
        ``GET``, or another.
    target : str
        Path and query as they were sent.
    headers : mapping of str to str
        By their names in small letters.
    """

    method: str
    target: str
    headers: Mapping[str, str]


def is_signed(request: Request, keys: Keys, now: datetime | None = None) -> bool:
    """Tell whether a request was signed with some keys, and lately.

    Parameters
    ----------
    request : Request
        The request.
    keys : Keys
        The only ones that are accepted.
    now : datetime, optional
        The time, with its zone; that of the clock if left out.
    """
    told = _AUTHORIZATION.fullmatch(request.headers.get("authorization", ""))
    date = request.headers.get("x-amz-date", "")
    if told is None or not _is_recent(date, now or datetime.now(UTC)):
        return False
    if not date.startswith(told["day"]):
        return False
    names = told["headers"].split(";")
    # What is not signed could be changed; without a host or a date, it could be sent again.
    if not {"host", "x-amz-date"} <= set(names):
        return False
    wanted = _signature(request, keys.secret_key, told["scope"], date, names)
    is_key = hmac.compare_digest(told["key"].encode(), keys.access_key.encode())
    return hmac.compare_digest(told["signature"].encode(), wanted.encode()) and is_key


def _is_recent(date: str, now: datetime) -> bool:
    try:
        then = datetime.strptime(date, _DATE).replace(tzinfo=UTC)
    except ValueError:
        return False
    return abs((now - then).total_seconds()) <= MOST_SKEW


def _signature(request: Request, secret: str, scope: str, date: str, names: list[str]) -> str:
    path, _, query = request.target.partition("?")
    parameters = sorted(
        "=".join(_encoded(part) for part in each.partition("=")[::2])
        for each in query.split("&")
        if each
    )
    headers = [f"{name}:{' '.join(request.headers.get(name, '').split())}\n" for name in names]
    body = request.headers.get("x-amz-content-sha256", "")
    canonical = "\n".join(
        [
            request.method,
            _encoded(path, "/"),
            "&".join(parameters),
            "".join(headers),
            ";".join(names),
            body,
        ]
    )
    digest = hashlib.sha256(canonical.encode(errors="surrogateescape")).hexdigest()
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signed = f"AWS4-HMAC-SHA256\n{date}\n{scope}\n{digest}"
    return hmac.digest(key, signed.encode(), "sha256").hex()


def _encoded(text: str, safe: str = "") -> str:
    """Encode a part of a target as it is signed, however it was sent."""
    return quote(unquote_to_bytes(text), safe=f"-_.~{safe}")
