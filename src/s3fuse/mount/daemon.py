"""The s3fs command (s3fs-fuse, not the Python package): can it run here, and how."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
from pathlib import Path
from urllib.parse import urlsplit

from s3fuse.errors import MountUnavailable
from s3fuse.gateway.options import TRIES
from s3fuse.mount.options import LEAST_CACHE, MountOptions
from s3fuse.mount.record import Mount
from s3fuse.s3.connection import AWS_DOMAINS, Connection

#: Share of a bounded cache that is left empty, where it is larger than s3fs needs.
KEPT_BACK = 0.1
#: How s3fs reads: so many pieces at once, each of so many MB, the least that it takes.
PIECES, PIECE_MB = 3, 5
#: Seconds; longer than any run.
FOR_EVER = 10**7
#: An address at which nothing listens: a port that only root may use, and nobody does.
NOBODY = "http://127.0.0.1:9"

_VERSION = re.compile(r"V(\d+)\.(\d+)")


def require() -> None:
    """Make sure that something can be mounted on this machine.

    Raises
    ------
    MountUnavailable
        If s3fs, fusermount or the FUSE device is missing.
    """
    require_program()
    require_fuse()


def require_program() -> None:
    """Make sure that the command s3fs is there."""
    if not shutil.which("s3fs"):
        raise MountUnavailable(
            "the command s3fs is missing (apt install s3fs, "
            "or conda install -c conda-forge s3fs-fuse)"
        )


def require_fuse() -> None:
    """Make sure that this user may mount and unmount."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        raise MountUnavailable("/dev/fuse is missing or may not be used, as in most containers")
    unmount_command(Path("/"))


def unmount_command(mount_point: Path, *, lazy: bool = False) -> list[str]:
    """The command that unmounts, as this machine has it."""
    for program in ("fusermount3", "fusermount"):
        if shutil.which(program):
            return [program, "-uz" if lazy else "-u", str(mount_point)]
    if os.geteuid() == 0 and shutil.which("umount"):
        return ["umount", *(["--lazy"] if lazy else []), str(mount_point)]
    raise MountUnavailable("the command fusermount is missing (apt install fuse3)")


def version() -> tuple[int, int]:
    """Ask the s3fs command for its version, such as (1, 90).

    Raises
    ------
    MountUnavailable
        If it does not start.
    """
    run = subprocess.run(["s3fs", "--version"], capture_output=True, text=True, check=False)
    if run.returncode != 0:
        raise MountUnavailable(f"the command s3fs does not start: {run.stderr.strip()}")
    match = _VERSION.search(run.stdout)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def command(
    version: tuple[int, int], mount: Mount, connection: Connection, options: MountOptions
) -> list[str]:
    """Build the command line of a daemon that asks the store itself; it holds no secret.

    Parameters
    ----------
    version : tuple of int
        Of the s3fs command, as options have other names in later ones.
    mount : Mount
        What is mounted and where, and where the daemon may keep what it reads.
    connection : Connection
        How the daemon reaches the store.
    options : MountOptions
        How the bucket is mounted.
    """
    values = [
        *_common(version, mount, connection),
        "rw",
        f"use_cache={_escaped(str(mount.cache))}",
        f"tmpdir={_escaped(str(mount.cache))}",
        _threads(version, PIECES, requests=5),
        f"retries={connection.retries}",
        "umask=0077",
        "readwrite_timeout=60",
        # s3fs learns of replaced objects from its own requests only.
        "stat_cache_expire=300",
        # The kernel need not ask s3fs, which asks S3 anew after each open file.
        "attr_timeout=60",
        "entry_timeout=60",
        # UploadPartCopy is missing in some stores, where s3fs 1.90 then crashes.
        "nomixupload",
        # The store refuses what was damaged on its way.
        "enable_content_md5",
    ]
    if connection.anonymous:
        values.append("public_bucket=1")
    if connection.requester_pays:
        values.append("requester_pays")
    values += _encryption(connection)
    return _with(mount, [*values, *_bound(mount, options.cache_bytes)], options)


def command_for_gateway(
    version: tuple[int, int], mount: Mount, gateway: Connection, options: MountOptions, spare: int
) -> list[str]:
    """Build the command line of a daemon that reads from a gateway; see `command`.

    It keeps nothing but what it has of open files: the gateway has a cache, and is as near.
    It leaves `spare` bytes of the disk free.
    """
    # What a run planned with never changes; another mount shows what is new after a second.
    seconds = 1 if mount.owner is None else FOR_EVER
    values = [
        *_common(version, mount, gateway),
        "ro",
        f"tmpdir={_escaped(str(mount.cache))}",
        # Each piece that is read ahead is moved for nothing where a job reads here and there.
        _threads(version, 1, requests=2),
        "umask=0222",
        # The gateway has patience with the store. s3fs asks again what is refused for good, too,
        # and after some seconds each time; what is cut where a gateway dies must be asked again.
        "readwrite_timeout=120",
        f"retries={TRIES}",
        f"stat_cache_expire={seconds}",
        f"attr_timeout={seconds}",
        f"entry_timeout={seconds}",
    ]
    return _with(mount, [*values, f"ensure_diskfree={-(-spare // 2**20)}"], options)


def _common(version: tuple[int, int], mount: Mount, connection: Connection) -> list[str]:
    values = [
        f"multipart_size={PIECE_MB}",
        # What the kernel has of a file stays while the file is the same.
        "auto_cache",
        f"uid={os.geteuid()}",
        f"gid={os.getegid()}",
        "connect_timeout=10",
        "listobjectsv2",
    ]
    if version >= (1, 92):
        values.append("compat_dir")
    if connection.endpoint_url:
        url = _escaped(connection.endpoint_url.rstrip("/"))
        values += [f"url={url}", "use_path_request_style"]
    if connection.region:
        name = "region" if version >= (1, 96) else "endpoint"
        values.append(f"{name}={_escaped(connection.region)}")
    return values


def _encryption(connection: Connection) -> list[str]:
    if connection.sse_customer_key:
        # The key goes by the environment.
        return ["use_sse=custom"]
    if connection.sse == "AES256":
        return ["use_sse=1"]
    if connection.sse == "aws:kms" and connection.sse_kms_key_id:
        return [f"use_sse=kmsid:{_escaped(connection.sse_kms_key_id)}"]
    if connection.sse:
        raise MountUnavailable(
            f"s3fs writes with sse={connection.sse} only as aws:kms with an sse_kms_key_id"
        )
    return []


def environment_of(connection: Connection) -> dict[str, str]:
    """Return the environment of a daemon that asks the store itself; it holds secrets."""
    variables = connection.credentials().environment | confinement(connection)
    if connection.authorities:
        variables["CURL_CA_BUNDLE"] = connection.authorities
    if connection.sse_customer_key:
        variables["AWSSSECKEYS"] = connection.sse_customer_key
    return environment(variables)


def _bound(mount: Mount, size: int | None) -> list[str]:
    if size is None:
        return []
    # s3fs bounds its cache by the space it leaves free, in MB; a part is kept back
    # for what others free meanwhile, which s3fs takes for its own.
    own = max(int(size * (1 - KEPT_BACK)), LEAST_CACHE)
    spare = max(0, shutil.disk_usage(mount.cache).free - own)
    return [f"ensure_diskfree={-(-spare // 2**20)}"]


def spare(mount: Mount, cache_bytes: int | None, held: int) -> int:
    """Return the bytes that a daemon leaves free of its disk, of which it has a half of the bound.

    Parameters
    ----------
    mount : Mount
        The mount; nothing was read through it yet.
    cache_bytes : int, optional
        Bound of what is kept on this node; what the disk has free if left out.
    held : int
        Bytes that the cache of the node holds already, of its half.
    """
    if cache_bytes is None:
        return 0
    own = max(int(cache_bytes * (1 - KEPT_BACK)), LEAST_CACHE)
    return max(0, shutil.disk_usage(mount.cache).free + min(held, cache_bytes // 2) - own)


def _threads(version: tuple[int, int], pieces: int, requests: int) -> str:
    # Since 1.96 one number says how many pieces are read ahead, and how many requests there
    # are at the same time, of whatever kind.
    if version >= (1, 96):
        return f"max_thread_count={requests}"
    return f"parallel_count={pieces}"


def _with(mount: Mount, values: list[str], options: MountOptions) -> list[str]:
    if options.extra:
        values.append(options.extra)
    return ["s3fs", mount.bucket, str(mount.point), "-f", "-o", ",".join(values)]


def confinement(connection: Connection) -> dict[str, str]:
    """Return variables that keep the daemon from following redirects to other hosts.

    s3fs has no option for it, and would send the session token along.  libcurl asks a
    proxy for every host but those in ``no_proxy``, and this proxy answers nobody.  Where
    the environment names a proxy, that one decides which hosts can be reached.
    """
    proxies = ("http_proxy", "https_proxy", "all_proxy")
    is_set = any(value and name.lower() in proxies for name, value in os.environ.items())
    if is_set and not connection.is_here:
        return {name: v for name, v in os.environ.items() if name.lower().endswith("_proxy")}
    hosts = [domain.lstrip(".") for domain in AWS_DOMAINS]
    if not connection.is_aws:
        hosts = [str(urlsplit(connection.endpoint_url or "").hostname)]
    return {**dict.fromkeys(proxies, NOBODY), "no_proxy": ",".join(hosts)}


def _escaped(value: str) -> str:
    r"""Escape the value of an option, of which a comma would end the option.

    ``process_real_option_group`` of libfuse takes the character behind a backslash as it
    is, and ``\ooo`` for the character of an octal code (``lib/fuse_opt.c``).
    """
    return value.replace("\\", "\\\\").replace(",", "\\,")


def environment(variables: dict[str, str]) -> dict[str, str]:
    """Return the environment of a daemon: what it is told, and little else."""
    inherited = {name: os.environ[name] for name in ("PATH", "LANG", "TZ") if name in os.environ}
    # Without a home it cannot pick up somebody else's password file.
    return {**inherited, **variables, "HOME": "/nonexistent"}


def start(command: list[str], environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    """Start the daemon in the foreground of a session of its own.

    Its own session, so that Ctrl-C in a terminal does not end it under the
    jobs; in the foreground, so that its process is known and its end is seen.
    """
    with log.open("ab") as file:
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd="/",
        )
    # Reaps the process when it ends, for a daemon may outlive everything that holds it here.
    threading.Thread(target=process.wait, name="s3fuse-reaper", daemon=True).start()
    return process
