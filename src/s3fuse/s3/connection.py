"""Where a store is, who asks, and how: endpoint, region, credentials, payment and encryption.

Credentials come from the settings, then from the places that every AWS tool
uses (environment, shared credentials and configuration files with a named
profile, container and instance roles), or are left out for public data.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import ipaddress
import os
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from s3fuse.errors import CredentialsError, SettingsError
from s3fuse.s3.credentials import CredentialChain, Credentials, aws_session, no_credentials

#: Variables of the environment that say where a store is and who asks, as
#: Snakemake names those of the plugin.
ENVIRONMENT_PREFIX = "SNAKEMAKE_STORAGE_S3FUSE_"
#: Where the endpoints of AWS are, with a dot so that no other domain ends like them.
AWS_DOMAINS = (".amazonaws.com", ".amazonaws.com.cn")
#: How a store may encrypt what it keeps, with keys that are its own or those of a service.
ENCRYPTIONS = ("AES256", "aws:kms", "aws:kms:dsse")
#: Bytes of a key of AES-256.
KEY_SIZE = 32


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
    requester_pays : bool
        Pay for requests to buckets whose owners do not.
    sse : str, optional
        How the store is asked to encrypt what is written: one of `ENCRYPTIONS`.
    sse_kms_key_id : str, optional
        The key of the key management service for that; the default one if left out.
    sse_customer_key : str, optional
        A key of 32 bytes, in base64, with which the store encrypts and decrypts (SSE-C).

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
    requester_pays: bool = False
    sse: str | None = None
    sse_kms_key_id: str | None = None
    sse_customer_key: str | None = field(default=None, repr=False)
    _chain: CredentialChain = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_chain", CredentialChain(self.profile))
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
        if self.anonymous and self.requester_pays:
            raise SettingsError(
                "requester_pays is set and access is anonymous; whoever pays must sign requests."
            )
        self._check_encryption()

    def _check_encryption(self) -> None:
        if self.sse not in (None, *ENCRYPTIONS):
            raise SettingsError(f"sse is {self.sse!r}; it must be one of {', '.join(ENCRYPTIONS)}.")
        if self.sse_kms_key_id and not str(self.sse).startswith("aws:kms"):
            raise SettingsError("sse_kms_key_id is set; set sse to aws:kms with it.")
        if self.sse_customer_key is None:
            return
        if self.sse:
            raise SettingsError(
                "sse and sse_customer_key are both set; an object is encrypted in one way only."
            )
        try:
            size = len(base64.b64decode(self.sse_customer_key, validate=True))
        except ValueError:
            size = 0
        if size != KEY_SIZE:
            raise SettingsError(
                f"sse_customer_key must be a key of {KEY_SIZE} bytes, in base64, such as "
                "`openssl rand -base64 32` writes."
            )
        if (self.endpoint_url or "").startswith("http://") and not self.is_here:
            raise SettingsError(
                "sse_customer_key is set, and the endpoint is an http:// URL, so everybody on the "
                "way would see the key; use https://."
            )

    @classmethod
    def from_environment(cls, **given: Any) -> Connection:
        """The connection that the variables of the plugin and of AWS describe.

        Parameters
        ----------
        **given
            Attributes of a connection that go before the environment; those that
            are None or False do not.
        """
        names = ["endpoint_url", "region", "access_key", "secret_key", "token"]
        names += ["sse", "sse_kms_key_id", "sse_customer_key"]
        found: dict[str, Any] = {
            name: os.environ.get(ENVIRONMENT_PREFIX + name.upper()) for name in names
        }
        pays = os.environ.get(f"{ENVIRONMENT_PREFIX}REQUESTER_PAYS", "")
        found["requester_pays"] = pays.lower() in ("true", "yes", "1")
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
        if not {"endpoint_url", "region"} <= found.keys():
            found = _from_aws(found.get("profile")) | found
        return cls(**found)

    @property
    def given(self) -> dict[str, Any]:
        """What another process makes the same connection of; it holds secrets."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.init}

    @property
    def place(self) -> str:
        """The store, as it is called in messages."""
        return self.endpoint_url or "AWS S3"

    @property
    def is_aws(self) -> bool:
        """Whether the store is AWS itself."""
        if not self.endpoint_url:
            return True
        return str(urlsplit(self.endpoint_url).hostname).endswith(AWS_DOMAINS)

    @property
    def is_here(self) -> bool:
        """Whether the store is on this machine, which no proxy can reach."""
        host = str(urlsplit(self.endpoint_url).hostname) if self.endpoint_url else ""
        with contextlib.suppress(ValueError):
            return ipaddress.ip_address(host).is_loopback
        return host == "localhost"

    @property
    def identity(self) -> str:
        """A digest that tells two connections apart and gives nothing away."""
        parts = {**self.given, "secret_key": None, "token": None, "retries": None}
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]

    @property
    def authorities(self) -> str | None:
        """The file of certificate authorities that AWS tools trust; None for this machine's.

        Rules: https://docs.aws.amazon.com/sdkref/latest/guide/feature-gen-config.html
        """
        settings, _ = _configuration(self.profile)
        return os.environ.get("AWS_CA_BUNDLE") or settings.get("ca_bundle")

    @property
    def origin(self) -> str:
        """Where the credentials are taken from, for messages."""
        if self.anonymous:
            return "none, access is anonymous"
        if self.access_key:
            return "from the settings of the plugin"
        found = self._chain.origin()
        return f"by the AWS provider chain: {found}" if found else "none"

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
            found = self._chain.find()
        except (botocore.exceptions.BotoCoreError, RuntimeError) as error:
            raise CredentialsError(f"No credentials for {self.place}: {error}.") from error
        if found is None:
            raise no_credentials(self.place)
        return found


def _from_aws(profile: str | None) -> dict[str, str]:
    """Read endpoint and region from the environment and the configuration files of AWS.

    Rules: https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html
    """
    settings, services = _configuration(profile)
    of_s3 = services.get(settings.get("services", ""), {}).get("s3", {})
    endpoints = [os.environ.get("AWS_ENDPOINT_URL_S3"), os.environ.get("AWS_ENDPOINT_URL")]
    endpoints += [of_s3.get("endpoint_url"), settings.get("endpoint_url")]
    if os.environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true":
        endpoints = []
    found = {
        "endpoint_url": next(filter(None, endpoints), None),
        "region": os.environ.get("AWS_DEFAULT_REGION") or settings.get("region"),
    }
    return {name: value for name, value in found.items() if value}


def _configuration(profile: str | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read the section of a profile in the AWS configuration files, and those of services."""
    files = {"AWS_CONFIG_FILE": "config", "AWS_SHARED_CREDENTIALS_FILE": "credentials"}
    paths = (os.environ.get(name) or f"~/.aws/{file}" for name, file in files.items())
    if not any(Path(path).expanduser().exists() for path in paths):
        # To import what would find the same takes a tenth of a second of every start.
        return {}, {}
    import botocore.exceptions

    session = aws_session(profile)
    try:
        return session.get_scoped_config(), session.full_config.get("services", {})
    except botocore.exceptions.BotoCoreError:
        # Said in a sentence when credentials are looked up in the same files.
        return {}, {}
