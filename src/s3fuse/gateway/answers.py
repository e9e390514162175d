"""Answers of S3 to those who list, and errors, as XML.

https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html,
https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjects.html and
https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from xml.sax.saxutils import escape

from s3fuse.s3.objects import ObjectInfo

_HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'
#: What XML 1.0 cannot say (https://www.w3.org/TR/xml/#charsets).
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ENTITIES = MappingProxyType({"\r": "&#13;", "\n": "&#10;", "\t": "&#9;"})


@dataclass(frozen=True)
class Page:
    """A page of a listing.

    Attributes
    ----------
    objects : list of ObjectInfo
        Objects, in the order of their keys.
    folders : list of str
        Prefixes up to the delimiter.
    next : str
        What stands for the page behind it; empty if this is the last.
    """

    objects: list[ObjectInfo]
    folders: list[str]
    next: str = ""


def listing(bucket: str, query: dict[str, str], page: Page) -> str:
    """Write a page of a listing; keys that XML cannot spell are left out.

    Parameters
    ----------
    bucket : str
        Name of the bucket.
    query : dict of str to str
        What was asked for, in the first or the second form of the request.
    page : Page
        What to write.
    """
    is_second = query.get("list-type") == "2"
    objects = [each for each in page.objects if not _NO_XML.search(each.key)]
    folders = [each for each in page.folders if not _NO_XML.search(each)]
    lines = [
        _element("Name", bucket),
        *(_element(name.title(), query[name]) for name in ("prefix", "delimiter") if name in query),
        _element("MaxKeys", query.get("max-keys", "1000")),
        _element("IsTruncated", str(bool(page.next)).lower()),
    ]
    if is_second:
        lines.append(_element("KeyCount", str(len(objects) + len(folders))))
    if page.next:
        lines.append(_element("NextContinuationToken" if is_second else "NextMarker", page.next))
    lines += [_contents(each) for each in objects]
    lines += [f"<CommonPrefixes>{_element('Prefix', each)}</CommonPrefixes>" for each in folders]
    namespace = "http://s3.amazonaws.com/doc/2006-03-01/"
    return f'{_HEAD}<ListBucketResult xmlns="{namespace}">{"".join(lines)}</ListBucketResult>'


def error(code: str, message: str) -> str:
    """Write an error."""
    return f"{_HEAD}<Error>{_element('Code', code)}{_element('Message', message)}</Error>"


def _contents(info: ObjectInfo) -> str:
    date = datetime.fromtimestamp(info.mtime, UTC)
    return (
        f"<Contents>{_element('Key', info.key)}"
        f"<LastModified>{date:%Y-%m-%dT%H:%M:%S.000Z}</LastModified>"
        f'<ETag>"{escape(info.etag)}"</ETag><Size>{info.size}</Size>'
        "<StorageClass>STANDARD</StorageClass></Contents>"
    )


def _element(name: str, text: str) -> str:
    return f"<{name}>{escape(_NO_XML.sub('', text), dict(_ENTITIES))}</{name}>"
