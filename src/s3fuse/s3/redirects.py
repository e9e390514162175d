"""Refuse redirects: what is signed for one host is not sent to another.

A redirect would carry the session token to a host that nobody has configured.  Within
AWS, botocore itself asks another region again, with a new signature, and takes only the
name of the region from the answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from aiobotocore.httpsession import AIOHTTPSession

from s3fuse.errors import RedirectRefused
from s3fuse.s3.connection import AWS_DOMAINS, Connection

REDIRECTS = (301, 302, 303, 307, 308)


class DirectSession(AIOHTTPSession):  # type: ignore[misc]
    """The HTTP session of aiobotocore, which hands redirects to its caller."""

    async def _get_session(self, proxy_url: str | None) -> Any:
        return _Direct(await super()._get_session(proxy_url))


class _Direct:
    """Sends requests with aiohttp, which would follow redirects by default."""

    def __init__(self, session: Any) -> None:
        self._session = session

    async def request(self, method: str, **options: Any) -> Any:
        return await self._session.request(method, **options, allow_redirects=False)


def refusing_redirects(connection: Connection) -> Callable[..., None]:
    """Make the handler of botocore's event ``before-parse`` that refuses redirects.

    An answer without a target is left to botocore, as is one of AWS that leads to AWS.
    """

    def refuse(response_dict: dict[str, Any], **_: Any) -> None:
        headers = {name.lower(): value for name, value in response_dict["headers"].items()}
        location = headers.get("location")
        if response_dict["status_code"] not in REDIRECTS or not location:
            return
        target = _host(location)
        if connection.is_aws and target.endswith(AWS_DOMAINS):
            return
        raise RedirectRefused(
            f"{connection.place} redirects requests to {target}, which are not sent there; "
            "if that is your store, set endpoint_url to it."
        )

    return refuse


def _host(location: str) -> str:
    """Return host and port of a target, or a word for one that is better not printed."""
    try:
        place = urlsplit(location).netloc.rpartition("@")[2]
    except ValueError:
        return "another address"
    if not place:
        return "another path"
    return place if re.fullmatch(r"[\w.:\[\]-]{1,255}", place, re.ASCII) else "another address"
