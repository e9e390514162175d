"""The settings of the plugin, as Snakemake offers them.

Where the S3 plugin of Snakemake has a setting, this one has the same name,
so that switching means changing one word.
"""

# Snakemake compares the types of these fields, so they must not be strings:
# no `from __future__ import annotations` here.

import os
import tempfile
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, ClassVar, Optional

import humanfriendly
from snakemake_interface_storage_plugins.settings import StorageProviderSettingsBase

from s3fuse.errors import SettingsError
from s3fuse.inputs.placement import Access
from s3fuse.mount.options import MountOptions
from s3fuse.node.directories import default_cache_dir, default_mount_root
from s3fuse.s3.connection import ENVIRONMENT_PREFIX, Connection
from s3fuse.session import COPY_BELOW, SessionOptions


def _setting(help: str, default: Any = None, *, secret: bool = False, **metadata: Any) -> Any:
    return field(default=default, repr=not secret, metadata={"help": help, **metadata})


def _as_size(name: str) -> dict[str, Any]:
    # One part of Snakemake looks for `unparse_func`, another one for `unparse`.
    return {
        "parse_func": lambda text: parse_size(name, text),
        "unparse_func": str,
        "unparse": str,
    }


@dataclass
class StorageProviderSettings(StorageProviderSettingsBase):
    """Settings of one tagged or untagged ``storage`` block."""

    endpoint_url: Optional[str] = _setting(
        "URL of the store. If left out, what AWS_ENDPOINT_URL or the AWS configuration files say, "
        "or AWS itself.",
        env_var=True,
    )
    region: Optional[str] = _setting(
        "Region of the buckets. If left out, what AWS_DEFAULT_REGION or the AWS configuration "
        "files say.",
        env_var=True,
    )
    access_key: Optional[str] = _setting(
        "Access key. If left out, credentials are looked up where every AWS tool does: "
        "environment, shared credentials and configuration files, container or instance role.",
        secret=True,
        env_var=True,
    )
    secret_key: Optional[str] = _setting("Secret key.", secret=True, env_var=True)
    token: Optional[str] = _setting(
        "Session token of temporary credentials.", secret=True, env_var=True
    )
    profile: Optional[str] = _setting("Named profile of the AWS configuration files.")
    anonymous: bool = _setting("Ask without a signature, for public data.", False)
    signature_version: Optional[str] = _setting(
        "UNSIGNED for public data, as snakemake-storage-plugin-s3 has it; the same as anonymous."
    )
    retries: int = _setting("How often one request is tried.", 5, type=int)
    requester_pays: bool = _setting(
        "Pay for requests to buckets whose owners do not.", False, env_var=True
    )
    sse: Optional[str] = _setting(
        "How the store is asked to encrypt outputs: AES256, aws:kms or aws:kms:dsse.",
        env_var=True,
    )
    sse_kms_key_id: Optional[str] = _setting(
        "Key of the key management service for sse=aws:kms (default: that of the account).",
        env_var=True,
    )
    sse_customer_key: Optional[str] = _setting(
        "Key of 32 bytes, in base64, with which the store encrypts and decrypts (SSE-C).",
        secret=True,
        env_var=True,
    )
    access: str = _setting(
        "How inputs reach the node: mount, copy, or auto, which mounts the large "
        "and copies the small.",
        "auto",
        choices=[access.value for access in Access],
    )
    copy_below: int = _setting(
        "With access=auto, inputs smaller than this are copied, such as 32MiB.",
        COPY_BELOW,
        **_as_size("copy_below"),
    )
    mount_root: Optional[str] = _setting(
        "Node-local directory for mount points (default: s3fuse in the run-time directory "
        "of the user, or in the temp directory)."
    )
    cache_dir: Optional[str] = _setting(
        "Directory on a disk of the node for what mounts have read, which later runs use, too "
        "(default: in the temp directory)."
    )
    cache_size: Optional[int] = _setting(
        "Bound of what is kept on the node, such as 20GiB: one half for what later jobs and runs "
        "use, too, one for the files that are open (default: what the disk has free, of which "
        "the first half is kept).",
        **_as_size("cache_size"),
    )
    s3fs_options: Optional[str] = _setting("More options for s3fs-fuse, separated by commas.")
    unmount_timeout: int = _setting("Seconds to wait for a mount that is in use.", 60, type=int)

    #: What Snakemake itself reads of a `storage` block, and leaves among the settings.
    _OF_SNAKEMAKE: ClassVar[frozenset[str]] = frozenset({"keep_local", "retrieve"})
    _SECRETS: ClassVar[tuple[str, ...]] = (
        "access_key",
        "secret_key",
        "token",
        "sse_customer_key",
    )

    def __post_init__(self) -> None:
        # Snakemake writes settings with an environment variable into the
        # command line of the shell in which it starts a `run:` job, where
        # every user of the machine can read it.  So secrets leave the fields:
        # this process keeps them here, and its children inherit the variable.
        self._kept = {name: getattr(self, name) for name in self._SECRETS}
        for name, value in self._kept.items():
            if value:
                os.environ.setdefault(ENVIRONMENT_PREFIX + name.upper(), value)
                setattr(self, name, None)

    def _secret(self, name: str) -> Optional[str]:
        # A `storage` block in a Snakefile sets the field after __post_init__.
        value: Optional[str] = getattr(self, name) or self._kept[name]
        return value

    def connection(self) -> Connection:
        """Return the part that says where the store is and who asks.

        Raises
        ------
        SettingsError
            If there is a setting that does not exist, or one that cannot be read.
        """
        self._refuse_unknown()
        return Connection.configured(
            endpoint_url=self.endpoint_url,
            region=self.region,
            access_key=self._secret("access_key"),
            secret_key=self._secret("secret_key"),
            token=self._secret("token"),
            profile=self.profile,
            anonymous=self.anonymous or self._is_unsigned(),
            retries=self.retries,
            requester_pays=self.requester_pays,
            sse=self.sse,
            sse_kms_key_id=self.sse_kms_key_id,
            sse_customer_key=self._secret("sse_customer_key"),
        )

    def session_options(self) -> SessionOptions:
        """Return the part that says how buckets are mounted and inputs are placed.

        Raises
        ------
        SettingsError
            If a setting cannot be read.
        """
        size = None if self.cache_size is None else parse_size("cache_size", self.cache_size)
        return SessionOptions(
            access=self._access_mode(),
            copy_below=parse_size("copy_below", self.copy_below),
            mount_options=MountOptions(cache_bytes=size, extra=self.s3fs_options or ""),
            mount_root=_expanded(self.mount_root) or default_mount_root(),
            cache_dir=_expanded(self.cache_dir) or default_cache_dir(),
            unmount_timeout=self.unmount_timeout,
        )

    def _refuse_unknown(self) -> None:
        """Name settings that do not exist; Snakemake takes any from a `storage` block."""
        known = {each.name for each in fields(self)}
        for name in sorted(vars(self).keys() - known - self._OF_SNAKEMAKE - {"_kept"}):
            near = " or ".join(get_close_matches(name, sorted(known)))
            raise SettingsError(
                f"There is no setting {name!r}{f'; did you mean {near}?' if near else '.'} "
                f"The settings are {', '.join(sorted(known | self._OF_SNAKEMAKE))}."
            )

    def _is_unsigned(self) -> bool:
        if self.signature_version not in (None, "UNSIGNED"):
            raise SettingsError(
                f"signature_version is {self.signature_version!r}; requests are always signed "
                "with version 4, so leave it out, or write UNSIGNED for public data."
            )
        return self.signature_version is not None

    def _access_mode(self) -> Access:
        try:
            return Access(self.access)
        except ValueError:
            words = ", ".join(access.value for access in Access)
            raise SettingsError(f"access is {self.access!r}; it must be one of {words}.") from None


def parse_size(name: str, value: str | int) -> int:
    """Read a number of bytes, such as 16MiB.

    Raises
    ------
    SettingsError
        If it is none.
    """
    try:
        return int(humanfriendly.parse_size(str(value), binary=True))
    except humanfriendly.InvalidSize:
        raise SettingsError(f"{name} is {value!r}; write bytes, or a size such as 16MiB.") from None


def _expanded(text: Optional[str]) -> Optional[Path]:
    if not text:
        return None
    path = Path(os.path.expandvars(text)).expanduser()
    return path if path.is_absolute() else Path(tempfile.gettempdir()) / path
