"""What this machine can do with S3, found out by trying it; the first cause is named."""

from __future__ import annotations

import contextlib
import enum
import http.client
import shutil
import ssl
import tempfile
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import humanfriendly

from s3fuse.cache.place import kept
from s3fuse.errors import (
    AccessDenied,
    CredentialsError,
    EndpointError,
    MountError,
    MountUnavailable,
    QueryError,
    S3FuseError,
    SettingsError,
)
from s3fuse.mount import daemon
from s3fuse.mount.mounts import NO_LINKS, Mounts
from s3fuse.mount.record import mounts_of_node
from s3fuse.node.directories import default_cache_dir, default_mount_root, secure_directory
from s3fuse.publish.journal import Journal
from s3fuse.s3.connection import Connection
from s3fuse.s3.objects import ObjectInfo
from s3fuse.s3.store import Store
from s3fuse.s3.translate import explained, untrusted
from s3fuse.urls import S3Url

#: Seconds within which an endpoint must answer, and a bucket.
ENDPOINT_TIMEOUT, BUCKET_TIMEOUT = 5.0, 8.0
#: Seconds by which clocks may differ: what S3 allows, and what is worth a word.
#: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
MOST_SKEW, SOME_SKEW = 900.0, 60.0
#: Keys among which one is looked for that can be read.
KEYS = 100

PACKAGES = ("snakemake-storage-plugin-s3fuse", "snakemake", "scitools-iris", "s3fs")


class State(enum.Enum):
    """How a check ended."""

    OK = "ok"
    NOTE = "note"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Finding:
    """One line.

    Attributes
    ----------
    check : str
        What was looked at.
    state : State
        How it is.
    text : str
        What was found, and what to do about it.
    """

    check: str
    state: State
    text: str


class Remark(Exception):
    """Something that is worth a word, and keeps nobody from working."""


class Doctor:
    """Looks at this machine, at a store, and at one bucket of it.

    Parameters
    ----------
    connection : Connection
        Where the store is and who asks.
    url : S3Url, optional
        A bucket or folder; without it no bucket is tried.
    """

    def __init__(self, connection: Connection, url: S3Url | None) -> None:
        self.connection, self.url = connection, url
        self.store = Store(connection)
        self._seconds_off = 0.0
        self._refusal: S3FuseError | None = None
        self._sample: ObjectInfo | None = None

    def findings(self) -> Iterator[Finding]:
        """Look at one thing after the other; what cannot be seen for what failed is skipped."""
        checks: list[tuple[str, Callable[[], str], tuple[str, ...]]] = [
            ("packages", self._packages, ()),
            ("s3fs", self._program, ()),
            ("FUSE", self._fuse, ()),
            ("directories", self._directories, ()),
            ("left behind", self._left_behind, ("directories",)),
            ("endpoint", self._endpoint, ()),
            ("clock", self._clock, ("endpoint",)),
            ("credentials", self._credentials, ("clock",)),
        ]
        if self.url:
            checks += [
                ("list", self._list, ("credentials",)),
                ("read", self._read, ("list",)),
                ("write", self._write, ("list",)),
                ("mount", self._mount, ("s3fs", "FUSE", "directories", "read")),
            ]
        stopped: set[str] = set()
        for name, look, needs in checks:
            if missing := [need for need in needs if need in stopped]:
                stopped.add(name)
                yield Finding(name, State.SKIPPED, f"needs: {', '.join(missing)}")
                continue
            try:
                yield Finding(name, State.OK, look())
            except Remark as note:
                yield Finding(name, State.NOTE, str(note))
            except S3FuseError as error:
                stopped.add(name)
                yield Finding(name, State.FAILED, str(error))

    def _packages(self) -> str:
        found = []
        for package in PACKAGES:
            try:
                found.append(f"{package} {version(package)}")
            except PackageNotFoundError:
                found.append(f"no {package}")
        return ", ".join(found)

    def _program(self) -> str:
        with _copying():
            daemon.require_program()
            number = ".".join(map(str, daemon.version()))
        return f"s3fs-fuse {number} at {shutil.which('s3fs')}"

    def _fuse(self) -> str:
        with _copying():
            daemon.require_fuse()
        return f"/dev/fuse, and {daemon.unmount_command(Path('/'))[0]} to unmount"

    def _directories(self) -> str:
        root, cache = secure_directory(default_mount_root()), secure_directory(default_cache_dir())
        free = humanfriendly.format_size(shutil.disk_usage(cache).free)
        size = sum(each.held for each in kept(cache))
        held = humanfriendly.format_size(size)
        return f"mounts in {root}; caches in {cache}, {held} held and {free} free"

    def _left_behind(self) -> str:
        root = default_mount_root()
        left = sum(mount.is_abandoned for mount in mounts_of_node(root))
        uploads = Journal(root).abandoned
        if left or uploads:
            mounts = humanfriendly.pluralize(left, "mount")
            raise Remark(
                f"{mounts} and {humanfriendly.pluralize(uploads, 'upload')} of processes that are "
                "gone; the next run removes them, and so does: s3fuse clean"
            )
        return "nothing"

    def _endpoint(self) -> str:
        place = self.connection.place
        url = self.connection.endpoint_url
        if url is None:
            url = f"https://s3.{self.connection.region or 'us-east-1'}.amazonaws.com"
        answers: list[Any] = []
        # Looking up a name takes as long as it takes, hence the thread.
        thread = threading.Thread(
            target=lambda: answers.append(_head(url, self.connection)), daemon=True
        )
        start = time.monotonic()
        thread.start()
        thread.join(ENDPOINT_TIMEOUT)
        answer = answers[0] if answers else TimeoutError()
        if isinstance(answer, TimeoutError):
            raise EndpointError(
                f"{place} did not answer within {ENDPOINT_TIMEOUT:.0f} s; check endpoint_url, the "
                "network and proxies."
            )
        if isinstance(answer, Exception):
            if reason := untrusted(place, answer):
                raise SettingsError(f"{reason}; name the authority's file in AWS_CA_BUNDLE.")
            raise EndpointError(
                f"{place} cannot be reached ({answer}); check endpoint_url and that the service "
                "is up."
            )
        with contextlib.suppress(ValueError):
            # Not every server says the time.
            self._seconds_off = time.time() - parsedate_to_datetime(answer).timestamp()
        return f"{place}, first answer in {1000 * (time.monotonic() - start):.0f} ms"

    def _clock(self) -> str:
        off = abs(self._seconds_off)
        way = "ahead of" if self._seconds_off > 0 else "behind"
        difference = humanfriendly.format_timespan(60 * round(off / 60))
        text = f"{difference} {way} that of {self.connection.place}"
        if off > MOST_SKEW:
            raise CredentialsError(
                f"The clock of this machine is {text}, which S3 does not accept; set the clock, "
                "as by `timedatectl set-ntp true`."
            )
        if off > SOME_SKEW:
            raise Remark(f"{text}; S3 refuses requests from {MOST_SKEW / 60:.0f} minutes on")
        return "as the store's"

    def _credentials(self) -> str:
        self.connection.credentials()
        if self.url:
            try:
                self._first_page()
            except CredentialsError:
                raise
            except S3FuseError as error:
                self._refusal = error
            return f"{self.connection.origin}; the store takes them"
        return f"{self.connection.origin}; to try them, name a bucket"

    def _list(self) -> str:
        if self._refusal:
            raise self._refusal
        times = []
        for _ in range(3):
            start = time.monotonic()
            page = self._first_page()
            times.append(time.monotonic() - start)
        entries = page.get("Contents", ())
        files = [each for each in entries if each["Size"] and self._is_path(each["Key"])]
        if files:
            self._sample = ObjectInfo.from_answer(files[0]["Key"], files[0], "Size")
        return f"{self.url}, a request takes {1000 * min(times):.0f} ms"

    def _read(self) -> str:
        assert self.url
        if self._sample is None:
            raise Remark(f"there is no object in {self.url} to try it with")
        url = S3Url(self.url.bucket, self._sample.key)
        try:
            self.store.read(url, self._sample, 0, 1, lambda data, position: None)
        except Exception as error:
            raise explained(error, url, "read", self.connection) from error
        return str(url)

    def _write(self) -> str:
        assert self.url
        # An upload that is never completed: it needs the permission, and makes no object.
        probe = S3Url(self.url.bucket, f"{self.url.key}.s3fuse-doctor-{uuid.uuid4().hex}")
        try:
            upload = self.store.call(
                "create_multipart_upload", probe, "write", timeout=BUCKET_TIMEOUT, Key=probe.key
            )
        except AccessDenied as error:
            raise Remark(f"not allowed in {self.url}: inputs only, no outputs") from error
        self.store.call(
            *("abort_multipart_upload", probe, "write"),
            timeout=BUCKET_TIMEOUT,
            Key=probe.key,
            UploadId=upload["UploadId"],
        )
        return f"allowed in {self.url}; tried by an upload that was aborted"

    def _mount(self) -> str:
        assert self.url
        with tempfile.TemporaryDirectory() as workdir:
            mounts = Mounts(NO_LINKS, workdir=Path(workdir))
            with mounts.shared(self.url.bucket, self.connection) as mount:
                if self._sample is None:
                    return "mounted and unmounted"
                try:
                    with (mount.point / self._sample.key).open("rb") as file:
                        file.read(1)
                except OSError as error:
                    raise MountError(
                        f"s3://{self.url.bucket} was mounted, and {self._sample.key} in it cannot "
                        f"be read: {error.strerror}; set access to copy to work without mounts."
                    ) from error
        return f"mounted, {self._sample.key} read, and unmounted"

    def _is_path(self, key: str) -> bool:
        assert self.url
        try:
            return not S3Url.parse(f"{S3Url(self.url.bucket)}/{key}").is_folder
        except QueryError:
            return False

    def _first_page(self) -> dict[str, Any]:
        assert self.url
        return self.store.call(
            *("list_objects_v2", self.url, "list"),
            timeout=BUCKET_TIMEOUT,
            Prefix=self.url.key,
            MaxKeys=KEYS,
        )


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """AWS redirects who asks for nothing to its home page."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _head(url: str, connection: Connection) -> str | Exception:
    """The time stamp of an answer to an unsigned request, or what went wrong."""
    request = urllib.request.Request(url, method="HEAD")
    try:
        context = ssl.create_default_context(cafile=connection.authorities)
        opener = urllib.request.build_opener(
            _NoRedirect,
            urllib.request.HTTPSHandler(context=context),
            urllib.request.ProxyHandler({} if connection.is_here else None),
        )
        with opener.open(request, timeout=ENDPOINT_TIMEOUT) as answer:
            return str(answer.headers.get("Date", ""))
    except urllib.error.HTTPError as error:
        # An answer as good as any other.
        return str(error.headers.get("Date", ""))
    except urllib.error.URLError as error:
        return error.reason if isinstance(error.reason, Exception) else error
    except (OSError, ValueError, http.client.HTTPException) as error:
        return error


@contextlib.contextmanager
def _copying() -> Iterator[None]:
    """Say of what keeps from mounting that inputs are copied instead."""
    try:
        yield
    except MountUnavailable as error:
        text = str(error)
        raise MountUnavailable(
            f"{text[0].upper()}{text[1:]}; until then inputs are copied."
        ) from error
