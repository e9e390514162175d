"""Credentials: from the settings, or from the AWS provider chain."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from s3fuse.errors import CredentialsError

#: Seconds for which credentials of the AWS provider chain are not looked up again.
LOOK_UP_INTERVAL = 5.0


@dataclass(frozen=True)
class Credentials:
    """What a request is signed with; nothing for an anonymous one.

    Attributes
    ----------
    access_key, secret_key, token : str, optional
        As AWS gives them.
    """

    access_key: str | None = field(default=None, repr=False)
    secret_key: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)

    @property
    def digest(self) -> str:
        """A digest of the access key: renewed credentials have a new one."""
        return hashlib.sha256(str(self.access_key).encode()).hexdigest()[:12]

    @property
    def environment(self) -> dict[str, str]:
        """Variables for s3fs-fuse.

        Only the owner of a process can read its environment; arguments are
        there for all to see, and files would have to be cleaned up.
        """
        variables = {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_SESSION_TOKEN": self.token,
        }
        return {name: value for name, value in variables.items() if value}


class CredentialChain:
    """The AWS provider chain for one profile.  Safe to share by threads.

    Credentials of roles, of SSO and of processes are renewed before they expire.
    Files are read again every few seconds, as another program may have renewed
    what is in them.

    Parameters
    ----------
    profile : str, optional
        Named profile of the AWS configuration files.
    """

    def __init__(self, profile: str | None) -> None:
        self._profile = profile
        self._lock = threading.Lock()
        self._variables: tuple[tuple[str, str], ...] = ()
        self._session: Any = None
        self._found: Credentials | None = None
        self._looked_up = -LOOK_UP_INTERVAL

    def find(self) -> Credentials | None:
        """Find the credentials that are valid now; None if there are none.

        Raises
        ------
        botocore.exceptions.BotoCoreError, RuntimeError
            What the provider chain raises.
        """
        with self._lock:
            variables = aws_variables()
            is_recent = time.monotonic() - self._looked_up < LOOK_UP_INTERVAL
            if not is_recent or variables != self._variables:
                self._found = self._look_up(variables)
                self._looked_up, self._variables = time.monotonic(), variables
            return self._found

    def origin(self) -> str:
        """Name the part of the chain that gives credentials; empty if none does."""
        found = aws_session(self._profile).get_credentials()
        return str(found.method) if found else ""

    def _look_up(self, variables: tuple[tuple[str, str], ...]) -> Credentials | None:
        from botocore.credentials import RefreshableCredentials

        if self._session is None or variables != self._variables:
            self._session = aws_session(self._profile)
        found = self._session.get_credentials()
        if not isinstance(found, RefreshableCredentials):
            # Only a new session reads the files again.
            self._session = aws_session(self._profile)
            found = self._session.get_credentials()
        if found is None:
            return None
        now = found.get_frozen_credentials()
        return Credentials(now.access_key, now.secret_key, now.token)


def aws_variables() -> tuple[tuple[str, str], ...]:
    """Return the variables that AWS tools heed; a notebook may change them."""
    return tuple(sorted(item for item in os.environ.items() if item[0].startswith("AWS_")))


def aws_session(profile: str | None) -> Any:
    """Open a session of botocore, which reads the AWS configuration files."""
    import botocore.session

    return botocore.session.Session(profile=profile)


def no_credentials(place: str) -> CredentialsError:
    """Make the error for a store that nobody has given credentials for."""
    return CredentialsError(
        f"No credentials for {place}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
        "name a profile of your AWS configuration, or ask for anonymous access."
    )
