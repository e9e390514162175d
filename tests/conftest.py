"""What the tests share: a real S3 server, real buckets, and a look at what is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from fault_proxy import Proxy, proxied
from s3fuse.embedded_server import Server, serving
from s3fuse.gateway.keeper import GATEWAY, KEEPER
from s3fuse.mount.mounts import Mounts
from s3fuse.s3.store import Store
from s3fuse.urls import S3Url

# What it compares is shown.
pytest.register_assert_rewrite("bucket_model")

ROOT = Path(__file__).parent.parent
#: Names of the processes that no test may leave behind.
DAEMONS = (
    *("s3fs", "rclone", "node", "moto_server", "weed"),
    *("ceph-mon", "ceph-mgr", "ceph-osd", "radosgw"),
)


#: Fixtures that start an S3 server.
SERVERS = {"server", "any_store"}


def pytest_configure() -> None:
    # In the background (`make test &`) SIGINT is ignored, and every child would inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that need a server, by their fixtures."""
    for item in items:
        if SERVERS & set(getattr(item, "fixturenames", ())):
            item.add_marker("s3")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-pages", action="store_true", help="Write what the tests find.")
    parser.addoption("--tries", type=int, default=10, help="How often what is random is tried.")


@pytest.fixture
def tries(request: pytest.FixtureRequest) -> range:
    number: int = request.config.getoption("--tries")
    return range(number)


@pytest.fixture(scope="session", autouse=True)
def _own_places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep run-time directory, home and temp directory of the tests apart from the user's."""
    base = tmp_path_factory.mktemp("node")
    places = {"XDG_RUNTIME_DIR": "run", "HOME": "home", "TMPDIR": "tmp", "XDG_CACHE_HOME": "cache"}
    with pytest.MonkeyPatch.context() as patch:
        for name, folder in places.items():
            (base / folder).mkdir(mode=0o700)
            patch.setenv(name, str(base / folder))
        for name in os.environ:
            if name.startswith(("AWS_", "SNAKEMAKE_", "S3FUSE_")):
                patch.delenv(name)
        # Nothing is to ask for the role of a machine.
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setattr("tempfile.tempdir", None)
        yield base
        assert mounted() == [], "tests left something mounted"
        assert daemons() == [], "tests left a server or s3fs running"


@pytest.fixture(autouse=True)
def _own_environment() -> Iterator[None]:
    """Providers leave keys in the environment, for their children; not for other tests."""
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]


def wait_for(condition: Callable[[], bool], patience: float = 20) -> None:
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def mounted() -> list[str]:
    """The s3fs mounts that tests made; whatever else this machine has mounted is not ours."""
    table = Path("/proc/self/mounts").read_text().splitlines()
    return [line for line in table if "fuse.s3fs" in line and _is_of_tests(line)]


def daemons() -> list[str]:
    """The s3fs processes, gateways and S3 servers that tests have left running."""
    found = []
    for process in psutil.process_iter(["name", "status", "cmdline"]):
        line = " ".join(process.info["cmdline"] or ())
        if process.info["name"] in DAEMONS and process.info["status"] != "zombie":
            found.append(line)
        if process.info["name"] in (KEEPER, GATEWAY):
            with suppress(psutil.Error):
                found.append(f"{line} of {process.environ().get('XDG_RUNTIME_DIR')}")
    return [line for line in found if _is_of_tests(line)]


def _is_of_tests(line: str) -> bool:
    return str(Path(os.environ["XDG_RUNTIME_DIR"]).parent.parent) in line


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the server serves: its subfolders are the buckets."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def server(data: Path) -> Iterator[Server]:
    with serving(data) as server:
        yield server


@pytest.fixture(scope="session")
def store(server: Server) -> Store:
    return Store(server.connection)


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    """What counts the requests."""
    with proxied(server.endpoint_url) as proxy:
        yield proxy


@dataclass(frozen=True)
class Bucket:
    """A bucket of the server, and the folder that the server keeps it in.

    It is written through the server, which remembers what its folders hold,
    and may be read from the folder.
    """

    name: str
    folder: Path
    store: Store

    @property
    def url(self) -> S3Url:
        return S3Url(self.name)

    def write(self, key: str, content: bytes | str) -> Path:
        body = content.encode() if isinstance(content, str) else content
        self.store.filesystem.pipe_file(f"{self.name}/{key}", body)
        return self.folder / key

    def upload(self, source: Path, key: str = "") -> None:
        """Put a file there, or all files of a folder, the oldest first."""
        files = [path for path in source.rglob("*") if path.is_file()] or [source]
        # Objects know their age in whole seconds; a result must not seem older than its input.
        for path in sorted(files, key=lambda path: path.stat().st_mtime):
            inner = path.relative_to(source).as_posix() if path != source else ""
            self.write("/".join(filter(None, (key, inner))), path.read_bytes())

    def damage(self, key: str) -> None:
        """Change a byte near the end on the disk of the store, which keeps the ETag."""
        path = self.folder / key
        # It goes by time and size, and reads a file for its first ETag only.
        known = self.store.head(self.url.child(key))
        before = path.stat()
        with path.open("r+b") as file:
            file.seek(-10, os.SEEK_END)
            byte = file.read(1)[0]
            file.seek(-10, os.SEEK_END)
            file.write(bytes([byte ^ 1]))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert self.store.head(self.url.child(key)) == known

    def remove(self, key: str) -> None:
        self.store.remove(self.url.child(key))

    def keys(self) -> list[str]:
        return sorted(
            path.relative_to(self.folder).as_posix()
            for path in self.folder.rglob("*")
            if path.is_file()
        )

    def contents(self) -> dict[str, bytes]:
        keys = self.keys()
        return {key: (self.folder / key).read_bytes() for key in keys}


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Mounts]:
    """The mounts of a working directory of their own, with short patience."""
    made = Mounts(
        links=tmp_path / "links",
        workdir=tmp_path,
        root=tmp_path / "run",
        cache_dir=tmp_path / "cache",
        unmount_timeout=2,
    )
    made.links.mkdir()
    yield made
    made.unmount()
    assert not any(str(tmp_path) in line for line in mounted())
    assert not any(str(tmp_path) in line for line in daemons())


@pytest.fixture
def made_in_memory(made: Mounts) -> Iterator[Mounts]:
    """Mounts with their cache where no other test writes: s3fs goes by what a disk has free."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        made.cache_dir = Path(folder)
        yield made
        made.unmount()


MakeBucket = Callable[[], Bucket]


@pytest.fixture(scope="session")
def make_bucket(data: Path, store: Store) -> MakeBucket:
    """Make new, empty buckets."""

    def make() -> Bucket:
        name = f"bucket-{uuid.uuid4().hex[:8]}"
        store.call("create_bucket", S3Url(name), "create")
        return Bucket(name, data / name, store)

    return make


@pytest.fixture
def bucket(make_bucket: MakeBucket) -> Bucket:
    """A new, empty bucket."""
    return make_bucket()


def snakemake(
    workdir: Path,
    *arguments: str | Path,
    environment: dict[str, str] | None = None,
    timeout: float = 240,
) -> subprocess.CompletedProcess[str]:
    """Run Snakemake as a user does, in a process of its own."""
    return subprocess.run(
        snakemake_command(*arguments),
        cwd=workdir,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def s3fuse(
    *words: str,
    workdir: Path,
    environment: dict[str, str] | None = None,
    wrapper: Sequence[str] = (),
) -> subprocess.CompletedProcess[str]:
    """Run the command as it is typed, in a process of its own."""
    return subprocess.run(
        [*wrapper, sys.executable, "-m", "s3fuse", *words],
        cwd=workdir,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def snakemake_command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "snakemake", *map(str, arguments)]


def output_of(run: subprocess.CompletedProcess[str]) -> str:
    return run.stdout + run.stderr


_WITHOUT_DEVICE = """\
set -e
mkdir dev
mount -t tmpfs none dev
for name in null zero full random urandom; do
    touch dev/$name
    mount --bind /dev/$name dev/$name
done
mkdir dev/shm
ln -s /proc/self/fd dev/fd
mount --rbind dev /dev
test ! -e /dev/fuse
exec "$@"
"""
#: Runs a command where the device of FUSE is not there, as in most containers; as root.
WITHOUT_DEVICE = ["unshare", "--mount", "bash", "-c", _WITHOUT_DEVICE, "bash"]
