"""What is tried again: single requests for seconds, whole operations for most of a minute."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import tenacity

from s3fuse.errors import EndpointError

log = logging.getLogger("s3fuse")

#: Seconds for which a whole operation is tried again; each of its requests has been
#: tried `Connection.retries` times within about two seconds by then.
PATIENCE = 45.0
#: Answers of a store that is overloaded, restarting or out of reach for a moment.
TRANSIENT_STATUS = (429, 500, 502, 503, 504)
TRANSIENT_CODES = ("SlowDown", "XAmzContentSHA256Mismatch")

_Given = ParamSpec("_Given")
_Result = TypeVar("_Result")


def is_transient(error: BaseException) -> bool:
    """Tell whether the same request may well succeed a moment later."""
    import aiohttp
    import botocore.exceptions as boto
    from botocore.parsers import ResponseParserError

    response = getattr(error, "response", None)
    if isinstance(response, dict):
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        code = response.get("Error", {}).get("Code", "")
        return status in TRANSIENT_STATUS or code in TRANSIENT_CODES
    broken = (boto.HTTPClientError, boto.IncompleteReadError, ResponseParserError)
    return isinstance(error, (*broken, aiohttp.ClientPayloadError, TimeoutError))


def retrying_request(attempts: int) -> tenacity.AsyncRetrying:
    """Make the loop that sends one request up to `attempts` times."""
    return tenacity.AsyncRetrying(
        retry=tenacity.retry_if_exception(is_transient),
        wait=tenacity.wait_exponential(multiplier=0.1, exp_base=1.7, max=15),
        stop=tenacity.stop_after_attempt(attempts),
        reraise=True,
    )


def _tell(state: tenacity.RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    log.warning(f"{error} Trying again.")


def patiently(
    seconds: float = PATIENCE,
) -> Callable[[Callable[_Given, _Result]], Callable[_Given, _Result]]:
    """Repeat an operation as a whole while the store cannot be reached, for so long."""
    return tenacity.retry(
        retry=tenacity.retry_if_exception_type(EndpointError),
        wait=tenacity.wait_random_exponential(multiplier=0.5, max=8),
        stop=tenacity.stop_after_delay(seconds),
        before_sleep=_tell,
        reraise=True,
    )
