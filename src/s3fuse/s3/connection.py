"""Where a store is and who asks: endpoint, region and credentials.

Credentials come from the settings, then from the places that every AWS tool
uses (environment, shared credentials and configuration files with a named
profile, container and instance roles), or are left out for public data.
"""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from s3fuse.errors import CredentialsError, SettingsError

if TYPE_CHECKING:
    from s3fs import S3FileSystem

#: Variables of the environment and their values, to tell when they change.
Variables = tuple[tuple[str, str], ...]
#: Variables of the environment that say where a store is and who asks, as
#: Snakemake names those of the plugin.
ENVIRONMENT_PREFIX = "SNAKEMAKE_STORAGE_S3FUSE_"
#: Seconds for a TCP connection, and between two pieces of an answer.
CONNECT_TIMEOUT = 10
READ_TIMEOUT = 60
#: Seconds for which credentials of the AWS provider chain are not looked up again.
LOOK_UP_INTERVAL = 5


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
        """What tells two credentials apart and gives nothing away: new ones have a new key."""
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


@dataclass(frozen=True)
class Connection:
    """How to reach a store.

    Attributes
    ----------
    endpoint_url : str, optional
        URL of the store; AWS if left out.
    region : str, optional
        Region of the buckets.
    access_key, secret_key, token : str, optional
        Credentials; looked up in the usual AWS places if left out.
    profile : str, optional
        Named profile of the AWS configuration files.
    anonymous : bool
        Ask without a signature, for public data.
    retries : int
        How often one request is tried.

    Raises
    ------
    SettingsError
        If the parts contradict each other.
    """

    endpoint_url: str | None = None
    region: str | None = None
    access_key: str | None = field(default=None, repr=False)
    secret_key: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    profile: str | None = None
    anonymous: bool = False
    retries: int = 5

    def __post_init__(self) -> None:
        if bool(self.access_key) != bool(self.secret_key):
            given, missing = ("access", "secret") if self.access_key else ("secret", "access")
            raise SettingsError(
                f"The {given} key is set and the {missing} key is not; set both or neither."
            )
        if self.endpoint_url is not None:
            parts = urlsplit(self.endpoint_url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise SettingsError(
                    f"The endpoint {self.endpoint_url.rpartition('@')[2]!r} is no URL; "
                    "write it as https://host or http://host:port."
                )
            if parts.username or parts.password:
                raise SettingsError(
                    "The endpoint URL contains a user name or password; "
                    "set the access key and the secret key instead."
                )
        if self.retries < 1:
            raise SettingsError(f"retries is {self.retries}; it must be at least 1.")

    @classmethod
    def from_environment(cls, **given: Any) -> Connection:
        """The connection that the variables of the plugin and of AWS describe.

        Parameters
        ----------
        **given
            Attributes of a connection that go before the environment; those that
            are None or False do not.
        """
        names = ("endpoint_url", "region", "access_key", "secret_key", "token")
        found = {name: os.environ.get(ENVIRONMENT_PREFIX + name.upper()) for name in names}
        return cls.configured(**found | {name: value for name, value in given.items() if value})

    @classmethod
    def configured(cls, **given: Any) -> Connection:
        """The connection of some settings, and for what they leave out of the AWS configuration.

        The Python client heeds endpoint and region of that by itself, and
        s3fs-fuse does not.

        Parameters
        ----------
        **given
            Attributes of a connection.
        """
        found = {name: value for name, value in given.items() if value not in (None, "")}
        for name, look_up in ("endpoint_url", _configured_endpoint), ("region", _configured_region):
            if name not in found:
                found[name] = look_up(found.get("profile"))
        return cls(**found)

    @property
    def place(self) -> str:
        """The store, as it is called in messages."""
        return self.endpoint_url or "AWS S3"

    @property
    def identity(self) -> str:
        """A digest that tells two connections apart and gives nothing away."""
        parts = (self.endpoint_url, self.region, self.access_key, self.profile, self.anonymous)
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]

    @property
    def origin(self) -> str:
        """Where the credentials are taken from, for messages."""
        if self.anonymous:
            return "none, access is anonymous"
        if self.access_key:
            return "from the settings of the plugin"
        found = _session(self.profile, _variables()).get_credentials()
        return f"by the AWS provider chain: {found.method}" if found else "none"

    def filesystem(self) -> S3FileSystem:
        """Open the control plane: fsspec's s3fs, with no cache of its own."""
        # Imported here: it takes 0.3 s, which a run without S3 need not pay.
        import s3fs.core
        from aiobotocore.session import AioSession
        from s3fs import S3FileSystem

        s3fs.core.set_custom_error_handler(is_passing)
        session = AioSession(profile=self.profile)
        session.register_component("data_loader", _descriptions())
        answers = session.get_component("response_parser_factory")
        answers.set_parser_defaults(timestamp_parser=_timestamp)
        client_kwargs: dict[str, Any] = {"region_name": self.region} if self.region else {}
        if self.endpoint_url and self.endpoint_url.startswith("http://"):
            # Certificates that nobody will show take a tenth of a second to read.
            client_kwargs["verify"] = False
        filesystem = S3FileSystem(
            anon=self.anonymous,
            endpoint_url=self.endpoint_url,
            key=self.access_key,
            secret=self.secret_key,
            token=self.token,
            session=session,
            client_kwargs=client_kwargs,
            config_kwargs={
                "connect_timeout": CONNECT_TIMEOUT,
                "read_timeout": READ_TIMEOUT,
                # s3fs retries by itself; two layers of retries multiply.
                "retries": {"max_attempts": 0},
                # Stores other than AWS keep the trailing checksums of
                # newer SDKs as part of the object (boto/boto3#4435).
                "request_checksum_calculation": "when_required",
                "response_checksum_validation": "when_required",
            },
            use_listings_cache=False,
            skip_instance_cache=True,
        )
        filesystem.retries = self.retries
        return filesystem

    @property
    def is_fixed(self) -> bool:
        """Whether no other credentials will ever be found than now."""
        return self.anonymous or bool(self.access_key)

    def credentials(self) -> Credentials:
        """Find the credentials that are valid now.

        Those of roles, of SSO and of processes are renewed before they expire;
        files are read again, as something else may have renewed what is in them.

        Raises
        ------
        CredentialsError
            If there are none, and the connection is not anonymous.
        """
        if self.anonymous:
            return Credentials()
        if self.access_key and self.secret_key:
            return Credentials(self.access_key, self.secret_key, self.token)
        import botocore.exceptions

        try:
            found = _looked_up(self.profile, _variables(), time.monotonic() // LOOK_UP_INTERVAL)
        except (botocore.exceptions.BotoCoreError, RuntimeError) as error:
            raise CredentialsError(f"No credentials for {self.place}: {error}.") from error
        if found is None:
            raise no_credentials(self.place)
        return found


def _configured_endpoint(profile: str | None) -> str | None:
    """The endpoint that the environment or the configuration files of AWS name for S3.

    Rules: https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html
    """
    if os.environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true":
        return None
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):
        if value := os.environ.get(name):
            return value
    settings, services = _configuration(profile)
    services = services.get(settings.get("services", ""), {})
    found: str | None = services.get("s3", {}).get("endpoint_url") or settings.get("endpoint_url")
    return found


def _configured_region(profile: str | None) -> str | None:
    """The region that the environment or the configuration files of AWS name."""
    return os.environ.get("AWS_DEFAULT_REGION") or _configuration(profile)[0].get("region")


def _configuration(profile: str | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """The section of a profile in the configuration files of AWS, and the sections of services."""
    files = {"AWS_CONFIG_FILE": "config", "AWS_SHARED_CREDENTIALS_FILE": "credentials"}
    paths = (os.environ.get(name) or f"~/.aws/{file}" for name, file in files.items())
    if not any(Path(path).expanduser().exists() for path in paths):
        # To import what would find the same takes a tenth of a second of every start.
        return {}, {}
    import botocore.exceptions

    session = _session(profile, _variables())
    try:
        return session.get_scoped_config(), session.full_config.get("services", {})
    except botocore.exceptions.BotoCoreError:
        # Said in a sentence when credentials are looked up in the same files.
        return {}, {}


def _variables() -> Variables:
    """The variables that AWS tools heed; a notebook may change them."""
    return tuple(sorted(item for item in os.environ.items() if item[0].startswith("AWS_")))


@lru_cache(maxsize=8)
def _looked_up(profile: str | None, variables: Variables, _: float) -> Credentials | None:
    from botocore.credentials import RefreshableCredentials

    found = _session(profile, variables).get_credentials()
    if not isinstance(found, RefreshableCredentials):
        _session.cache_clear()
        found = _session(profile, variables).get_credentials()
    if found is None:
        return None
    now = found.get_frozen_credentials()
    return Credentials(now.access_key, now.secret_key, now.token)


@cache
def _session(profile: str | None, variables: Variables) -> Any:
    import botocore.session

    return botocore.session.Session(profile=profile)


def _descriptions() -> Any:
    """Where botocore finds its descriptions, without a look into those of 400 services."""
    from botocore.loaders import create_loader

    loader = create_loader(os.environ.get("AWS_DATA_PATH"))
    folders = [Path(each) for each in loader.search_paths if os.path.isdir(each)]
    services = [path.name for folder in folders for path in folder.iterdir()]
    loader.list_available_services = lambda _: services
    return loader


def _timestamp(value: str) -> datetime:
    """Read a time stamp: those of listings at once, as there may be a million."""
    from botocore.utils import parse_timestamp

    try:
        return datetime.fromisoformat(value)
    except (TypeError, ValueError):
        # HEAD answers in the form of e-mails.
        found: datetime = parse_timestamp(value)
        return found


def is_passing(error: Exception) -> bool:
    """Whether the same request may well succeed a moment later.

    s3fs itself retries what is cut in the middle; this adds a store that is
    overloaded, restarting or out of reach for a moment.
    """
    import botocore.exceptions

    response = getattr(error, "response", None)
    if isinstance(response, dict):
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return status in (429, 500, 502, 503, 504)
    return isinstance(error, botocore.exceptions.ConnectionError)


def no_credentials(place: str) -> CredentialsError:
    """The error that none of the usual places has credentials."""
    return CredentialsError(
        f"No credentials for {place}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
        "name a profile of your AWS configuration, or ask for anonymous access."
    )
