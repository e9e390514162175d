"""How long to wait for a store that has answered before and does not now."""

from __future__ import annotations

import logging

import tenacity

from s3fuse.errors import EndpointError

log = logging.getLogger("s3fuse")

#: Seconds for which a whole operation is tried again; s3fs has tried each of its
#: requests `retries` times within about two seconds by then.
PATIENCE = 45.0


def _tell(state: tenacity.RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    log.warning(f"{error} Trying again.")


#: Decorates operations that may be repeated as a whole.
patiently = tenacity.retry(
    retry=tenacity.retry_if_exception_type(EndpointError),
    wait=tenacity.wait_random_exponential(multiplier=0.5, max=8),
    stop=tenacity.stop_after_delay(PATIENCE),
    before_sleep=_tell,
    reraise=True,
)
