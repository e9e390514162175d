"""From the errors of the S3 client to sentences."""

from __future__ import annotations

import os
import re
from types import MappingProxyType
from typing import Any

from s3fuse.errors import (
    AccessDenied,
    BucketNotFound,
    CredentialsError,
    EndpointError,
    ListingError,
    ObjectChanged,
    ObjectNotFound,
    S3FuseError,
    SettingsError,
)
from s3fuse.s3.connection import Connection
from s3fuse.s3.credentials import no_credentials
from s3fuse.s3.retries import is_transient
from s3fuse.urls import S3Url

#: Fields that every answer of S3 has.  botocore finds none of them in other content, such
#: as the page of a proxy with status 200, and would take that for an empty listing.
#: ``KeyCount`` is not among them: rclone leaves it out of an empty listing.
#: https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html
REQUIRED_FIELDS = MappingProxyType(
    {
        "list_objects_v2": ("IsTruncated",),
        "head_object": ("ContentLength", "LastModified"),
        "create_multipart_upload": ("UploadId",),
        "upload_part": ("ETag",),
    }
)
#: Pages of a listing without an entry that may follow each other.  S3 goes through about
#: 1,000 keys for a page, and leaves out those that are not asked for.
MOST_EMPTY_PAGES = 1000
#: What a store answers when a session token is too old.
EXPIRED = ("ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired")
#: How stores say that an object needs another key, or none.
_ENCRYPTED = re.compile("encrypt|customer|hash of the key", re.IGNORECASE)
_UNTRUSTED = re.compile(r"certificate verify failed: (.*?) \(_ssl")


def code_of(error: Exception) -> str:
    """Return the error code of an answer from the store; empty if the error is none."""
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def store_code(error: S3FuseError) -> str:
    """Return the code of the answer that an error of this project was made from."""
    cause = error.__cause__
    return code_of(cause) if isinstance(cause, Exception) else ""


def not_found(url: S3Url) -> ObjectNotFound:
    """The error for an object that should be in its bucket."""
    return ObjectNotFound(f"{url} is not in the bucket; check the name and its spelling.")


def incomplete(
    method: str, answer: dict[str, Any], url: S3Url, action: str, connection: Connection
) -> EndpointError | None:
    """Return the error for an answer that lacks what every answer of S3 has; None if it is one."""
    if all(name in answer for name in REQUIRED_FIELDS.get(method, ())):
        return None
    return EndpointError(
        f"{connection.place} does not answer as S3 does when asked to {action} {url}; "
        "set endpoint_url to the address of the S3 API, not of a web page."
    )


def endless(token: str, used: set[str], empty: int) -> str:
    """Tell why a listing would never end; empty if it may.

    Parameters
    ----------
    token : str
        Where the next page begins, by the store; empty if it does not say.
    used : set of str
        Where the pages so far began.
    empty : int
        How many pages without an entry have come one after the other.
    """
    if not token:
        return "the token for its next page is missing"
    if token in used:
        return "the token for its next page was used before"
    if empty >= MOST_EMPTY_PAGES:
        return f"{empty} pages in a row were empty"
    return ""


def unfinished(url: S3Url, reason: str, connection: Connection) -> ListingError:
    """Return the error for a listing that does not end."""
    return ListingError(
        f"{connection.place} does not finish its listing of {url}: {reason}; "
        "report this to the operator of the store."
    )


def explained(error: Exception, url: S3Url, action: str, connection: Connection) -> S3FuseError:
    """Find the sentence for what the S3 client raised.

    Parameters
    ----------
    error : Exception
        From s3fs.
    url : S3Url
        What was asked for.
    action : str
        A verb, as in "Not allowed to *list* s3://…".
    connection : Connection
        Who asked, and where.
    """
    import aiohttp
    import botocore.exceptions as boto
    from fsspec.exceptions import FSTimeoutError

    if isinstance(error, S3FuseError):
        return error
    place = connection.place
    code = code_of(error)

    match code:
        case "NoSuchBucket":
            return BucketNotFound(
                f"There is no bucket s3://{url.bucket} at {place}; check its name, or create it."
            )
        case "NoSuchKey" | "NoSuchUpload" | "404" | "NotFound":
            return not_found(url)
        # The object that was planned with is long enough.
        case "412" | "PreconditionFailed" | "416" | "InvalidRange":
            return ObjectChanged(f"{url} was replaced while it was in use; start the run again.")
        case "InvalidAccessKeyId":
            return CredentialsError(
                f"{place} does not know the access key used for s3://{url.bucket}; check "
                "the access key in your settings, environment or AWS profile."
            )
        case "SignatureDoesNotMatch":
            return CredentialsError(
                f"{place} rejects the secret key used for s3://{url.bucket}; check "
                "the secret key in your settings, environment or AWS profile."
            )
        case _ if code in EXPIRED:
            return CredentialsError(
                f"The session token used for s3://{url.bucket} has expired; sign in again."
            )
        case "RequestTimeTooSkewed":
            return CredentialsError(
                f"The clock of this machine differs too much from that of {place}, so "
                f"s3://{url.bucket} cannot be used; set the clock."
            )
        case _ if code.startswith("Invalid") and _ENCRYPTED.search(str(error)):
            return CredentialsError(
                f"{url} is encrypted, and the store does not {action} it with the key that it was "
                "given, or without one; set sse_customer_key to the key of its owner."
            )
        case "AccessDenied" | "403" | "Forbidden" | "AllAccessDisabled":
            return AccessDenied(
                f"Not allowed to {action} {url}; ask the owner of s3://{url.bucket} for "
                "the permission, or use other credentials."
            )
        case "AuthorizationHeaderMalformed" | "PermanentRedirect" | "TemporaryRedirect":
            return _elsewhere(url, place)
        case "301" | "302" | "303" | "307" | "308":
            return _elsewhere(url, place)
    if reason := untrusted(place, error):
        return SettingsError(
            f"{reason}, so s3://{url.bucket} cannot be used; name the authority's file in "
            "AWS_CA_BUNDLE."
        )
    if isinstance(error, boto.ClientError) and is_transient(error):
        return EndpointError(
            f"{place} keeps answering {code} when asked to {action} {url}; try again later."
        )
    if isinstance(error, boto.NoCredentialsError | boto.PartialCredentialsError):
        return no_credentials(f"s3://{url.bucket}")
    if isinstance(error, boto.ProfileNotFound):
        profile = connection.profile or os.environ.get("AWS_PROFILE")
        return CredentialsError(
            f"The AWS profile {profile!r} does not exist, so s3://{url.bucket} cannot "
            "be used; see `aws configure list-profiles`."
        )
    timeouts = (TimeoutError, FSTimeoutError, boto.ConnectTimeoutError, boto.ReadTimeoutError)
    if isinstance(error, timeouts):
        return EndpointError(
            f"{place} did not answer in time when asked to {action} {url}; "
            "check endpoint_url, the network and proxies."
        )
    broken = (boto.ConnectionError, boto.HTTPClientError, ConnectionError, aiohttp.ClientError)
    if isinstance(error, broken):
        return EndpointError(
            f"{place} cannot be reached, so s3://{url.bucket} cannot be used; "
            "check endpoint_url and that the service is up."
        )
    return S3FuseError(f"Could not {action} {url} at {place}: {error}.")


def untrusted(place: str, error: Exception) -> str:
    """Say why the certificate of a store is not taken; nothing if it is, or was not shown."""
    found = _UNTRUSTED.search(str(error))
    if not found:
        return ""
    if re.search("local issuer|self[- ]signed", found[1]):
        return f"The certificate of {place} is from an authority that is not known here"
    return f"The certificate of {place} is not taken ({found[1]})"


def _elsewhere(url: S3Url, place: str) -> EndpointError:
    return EndpointError(
        f"s3://{url.bucket} is in another region or at another endpoint than {place}; "
        "set region or endpoint_url."
    )
