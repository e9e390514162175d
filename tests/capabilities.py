"""What an S3 store can do, found out by trying it on scratch buckets."""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from hashlib import md5
from typing import Any

from bucket_requests import DONE, OTHER_ETAG, PART, BucketRequests, etag_of_parts
from s3fuse.s3.connection import Connection
from s3fuse.urls import S3Url

#: Concurrent requests of a race, and races after which it counts as atomic.
RACERS = 8
RACES = 5
#: Seconds between the parts and the completion of an upload; LastModified has whole seconds.
PAUSE = 2.1

NO_OR_YES = (False, True)
#: For what cannot be tried without versioning.
UNKNOWN_NO_OR_YES = (None, False, True)
MOMENTS = ("initiation", "completion")


def _tried(meaning: str, values: Sequence[object] = NO_OR_YES) -> Any:
    return field(metadata={"meaning": meaning, "values": values})


@dataclass(frozen=True)
class Capabilities:
    """What a store was seen to do, as `try_capabilities` finds out.

    A condition is honoured if a request succeeds where it holds, and is refused,
    leaving the object as it was, where it does not.  Each field has its meaning
    and its possible values in its metadata.
    """

    put_if_none_match: bool = _tried("PutObject honours `If-None-Match: *`")
    put_if_match: bool = _tried("PutObject honours `If-Match` with a quoted ETag")
    put_if_match_unquoted: bool = _tried("PutObject honours `If-Match` with an unquoted ETag")
    put_is_atomic: bool = _tried(
        f"of {RACERS} concurrent PutObject with the same condition one succeeds"
    )
    complete_if_none_match: bool = _tried("CompleteMultipartUpload honours `If-None-Match: *`")
    complete_if_match: bool = _tried("CompleteMultipartUpload honours `If-Match`, quoted")
    complete_if_match_unquoted: bool = _tried(
        "CompleteMultipartUpload honours `If-Match`, unquoted"
    )
    complete_is_atomic: bool = _tried(
        f"of {RACERS} concurrent CompleteMultipartUpload with the same condition one succeeds"
    )
    empty_part: bool = _tried("an upload of one empty part completes to an empty object")
    etag_of_one_part: str = _tried(
        "ETag of an upload with one part: the MD5 of its MD5 and `-1`, or its MD5",
        ("md5-1", "md5"),
    )
    versioning: bool = _tried("a bucket can keep the versions of an object")
    versioned_put_if_none_match: bool | None = _tried(
        "PutObject honours `If-None-Match: *` with versioning", UNKNOWN_NO_OR_YES
    )
    versioned_put_if_match: bool | None = _tried(
        "PutObject honours `If-Match` with versioning", UNKNOWN_NO_OR_YES
    )
    versioned_complete_if_none_match: bool | None = _tried(
        "CompleteMultipartUpload honours `If-None-Match: *` with versioning", UNKNOWN_NO_OR_YES
    )
    versioned_complete_if_match: bool | None = _tried(
        "CompleteMultipartUpload honours `If-Match` with versioning", UNKNOWN_NO_OR_YES
    )
    content_md5_checked: bool = _tried("PutObject with a wrong `Content-MD5` is refused")
    last_modified_of_multipart: str = _tried(
        "moment of an upload in parts that HEAD tells as LastModified", MOMENTS
    )
    listed_last_modified_of_multipart: str = _tried(
        "moment of an upload in parts that LIST tells as LastModified", MOMENTS
    )
    abort: bool = _tried("an upload can be aborted, and cannot be completed afterwards")

    @classmethod
    def names(cls) -> list[str]:
        return [each.name for each in fields(cls)]


def try_capabilities(connection: Connection) -> Capabilities:
    """Find out what a store can do; takes a few seconds.

    Parameters
    ----------
    connection : Connection
        The store; scratch buckets are created in it and left there.
    """
    bucket = BucketRequests.new_bucket(connection)
    versioned = BucketRequests.new_bucket(connection)
    versioning = _keeps_versions(versioned)
    head, listed = _last_modified(bucket)

    def with_versioning(honours: Callable[..., bool], way: _Write) -> bool | None:
        return honours(versioned, way) if versioning else None

    return Capabilities(
        put_if_none_match=_honours_if_none_match(bucket, _put),
        put_if_match=_honours_if_match(bucket, _put),
        put_if_match_unquoted=_honours_if_match(bucket, _put, quoted=False),
        put_is_atomic=_is_atomic(bucket, _put),
        complete_if_none_match=_honours_if_none_match(bucket, _complete),
        complete_if_match=_honours_if_match(bucket, _complete),
        complete_if_match_unquoted=_honours_if_match(bucket, _complete, quoted=False),
        complete_is_atomic=_is_atomic(bucket, _complete),
        empty_part=_completes_empty_part(bucket),
        etag_of_one_part=_etag_of_one_part(bucket),
        versioning=versioning,
        versioned_put_if_none_match=with_versioning(_honours_if_none_match, _put),
        versioned_put_if_match=with_versioning(_honours_if_match, _put),
        versioned_complete_if_none_match=with_versioning(_honours_if_none_match, _complete),
        versioned_complete_if_match=with_versioning(_honours_if_match, _complete),
        content_md5_checked=_checks_content_md5(bucket),
        last_modified_of_multipart=head,
        listed_last_modified_of_multipart=listed,
        abort=_aborts(bucket),
    )


#: Prepares to write a body to a key, and returns the request that does it under conditions.
_Write = Callable[[BucketRequests, str, bytes], Callable[..., tuple[int, str]]]


def _put(bucket: BucketRequests, key: str, body: bytes) -> Callable[..., tuple[int, str]]:
    return lambda **conditions: bucket.put(key, body, **conditions)


def _complete(bucket: BucketRequests, key: str, body: bytes) -> Callable[..., tuple[int, str]]:
    upload = bucket.upload(key, body)
    return lambda **conditions: bucket.complete(upload, **conditions)


def _new_key(way: _Write, purpose: str) -> str:
    return f"{way.__name__}-{purpose}-{time.monotonic_ns()}"


def _honours_if_none_match(bucket: BucketRequests, way: _Write) -> bool:
    key = _new_key(way, "if-none-match")
    created = way(bucket, key, b"first")(IfNoneMatch="*")
    again = way(bucket, key, b"second")(IfNoneMatch="*")
    return created == DONE and again != DONE and bucket.body(key) == b"first"


def _honours_if_match(bucket: BucketRequests, way: _Write, *, quoted: bool = True) -> bool:
    key = _new_key(way, "if-match")
    absent = way(bucket, f"{key}-absent", b"first")(IfMatch=_form(OTHER_ETAG, quoted))
    bucket.put(key, b"first")
    current = _form(bucket.etag(key), quoted)
    replaced = way(bucket, key, b"second")(IfMatch=current)
    late = way(bucket, key, b"third")(IfMatch=current)
    is_refused = absent != DONE and late != DONE
    return is_refused and replaced == DONE and bucket.body(key) == b"second"


def _form(etag: str, quoted: bool) -> str:
    return etag if quoted else etag.strip('"')


def _is_atomic(bucket: BucketRequests, way: _Write) -> bool:
    """Whether one of the concurrent requests succeeds, in each of the races."""
    for _ in range(RACES):
        key = _new_key(way, "race")
        if _successes(bucket, way, key, IfNoneMatch="*") != 1:
            # The object may be missing now: rclone loses it at times when requests overlap.
            return False
        # The unquoted form is the one that all stores with conditions honour.
        if _successes(bucket, way, key, IfMatch=_form(bucket.etag(key), False)) != 1:
            return False
    return True


def _successes(bucket: BucketRequests, way: _Write, key: str, **conditions: str) -> int:
    """Send concurrent requests with the same conditions, and count those that succeed."""
    requests = [way(bucket, key, os.urandom(8)) for _ in range(RACERS)]
    with ThreadPoolExecutor(RACERS) as pool:
        answers = [pool.submit(request, **conditions) for request in requests]
    return [answer.result() for answer in answers].count(DONE)


def _completes_empty_part(bucket: BucketRequests) -> bool:
    try:
        answer = bucket.complete(bucket.upload("empty-part", b""))
    except Exception:
        return False
    info = bucket.store.head(bucket.url.child("empty-part"))
    return answer == DONE and info is not None and info.size == 0


def _etag_of_one_part(bucket: BucketRequests) -> str:
    bucket.complete(bucket.upload("one-part"))
    names = {etag_of_parts(PART): "md5-1", md5(PART).hexdigest(): "md5"}
    etag = bucket.etag("one-part").strip('"')
    return names.get(etag, etag)


def _keeps_versions(bucket: BucketRequests) -> bool:
    try:
        bucket.versioning("Enabled")
        versions = [bucket.call("put_object", Key="versions", Body=body) for body in (b"1", b"2")]
        ids = [version["VersionId"] for version in versions]
        first = bucket.call("head_object", Key="versions", VersionId=ids[0])
    except Exception:
        return False
    return bool(ids[0] != ids[1] and first["ETag"] == versions[0]["ETag"])


def _checks_content_md5(bucket: BucketRequests) -> bool:
    wrong = base64.b64encode(bytes(16)).decode()
    answer = bucket.put("content-md5", ContentMD5=wrong)
    return answer != DONE and bucket.store.head(bucket.url.child("content-md5")) is None


def _last_modified(bucket: BucketRequests) -> tuple[str, str]:
    """Return the moment of an upload that HEAD tells, and the one that LIST tells."""
    initiation = time.time()
    upload = bucket.upload("last-modified")
    time.sleep(PAUSE)
    bucket.complete(upload)
    completion = time.time()
    answer = bucket.call("head_object", Key="last-modified")
    page = bucket.call("list_objects_v2", Prefix="last-modified")
    told = [each["LastModified"].timestamp() for each in (answer, page["Contents"][0])]
    is_late = [moment > (initiation + completion) / 2 - 0.5 for moment in told]
    return MOMENTS[is_late[0]], MOMENTS[is_late[1]]


def _aborts(bucket: BucketRequests) -> bool:
    upload = bucket.upload("aborted")
    if bucket.abort(upload) != (204, ""):
        return False
    url: S3Url = bucket.url.child("aborted")
    is_listed = bool(bucket.store.uploads(url))
    return not is_listed and bucket.complete(upload) != DONE and bucket.store.head(url) is None
