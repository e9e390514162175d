"""Keys, directories and names that lead elsewhere, in whole runs."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from conftest import Bucket, mounted, output_of, s3fuse, snakemake, wait_for
from s3fuse.embedded_server import Server
from s3fuse.errors import QueryError
from s3fuse.inputs.placement import Access
from s3fuse.mount.mounts import NO_LINKS, Mounts
from s3fuse.mount.options import MountOptions
from s3fuse.mount.s3fs_cache.pending_uploads import unsent
from s3fuse.s3.connection import Connection
from s3fuse.s3.store import Store
from s3fuse.session import Session, SessionOptions
from s3fuse.urls import S3Url
from stores import moto

pytestmark = pytest.mark.fuse

#: The user that owns nothing.
NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")

COPY = """
storage s3:
    provider="s3fuse",
rule all:
    input: storage.s3("s3://{bucket}/out.txt")
rule copy:
    input: storage.s3("s3://{bucket}/in.txt")
    output: storage.s3("s3://{bucket}/out.txt")
    shell: "cp {{input}} {{output}}"
"""

WILDCARDS = """
storage s3:
    provider="s3fuse",
names = glob_wildcards(storage.s3("s3://{bucket}/{{name}}.txt")).name
rule all:
    input: expand("done/{{name}}", name=names)
rule use:
    input: storage.s3("s3://{bucket}/{{name}}.txt")
    output: "done/{{name}}"
    shell: "cp {{input}} {{output}}"
"""


@pytest.fixture(scope="module")
def any_key(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    """A store that takes any key, as S3 does."""
    with moto(tmp_path_factory.mktemp("moto")) as connection:
        yield connection


def bucket_with(connection: Connection, name: str, *keys: str) -> Store:
    store = Store(connection)
    store.call("create_bucket", S3Url(name), "create")
    for key in keys:
        store.call("put_object", S3Url(name, key), "write", Key=key, Body=b"* * * * * root evil")
    return store


@pytest.mark.fuse
@pytest.mark.parametrize("access", [Access.COPY, Access.MOUNT])
@pytest.mark.parametrize("kind", ["dotdot", "absolute", "file and folder"])
def test_a_folder_whose_keys_lead_out_of_it_is_refused(
    any_key: Connection, tmp_path: Path, access: Access, kind: str
) -> None:
    key = {
        "dotdot": "tas/../../../owned",
        "absolute": f"tas/{tmp_path}/owned",
        "file and folder": "tas/a",
    }[kind]
    bucket = f"{kind.replace(' ', '-')}-{access.value}"
    store = bucket_with(any_key, bucket, "tas/a/b", key)
    folder = S3Url(bucket, "tas/")
    options = SessionOptions(access, mount_root=tmp_path / "run", cache_dir=tmp_path / "cache")
    with Session(any_key, tmp_path / "wd/prefix", options) as session:
        infos = list(store.list(folder, recursive=True).objects.values())
        assert len(infos) == 2
        place = session.local_prefix / folder.local_suffix()
        with pytest.raises(QueryError) as caught:
            session.placement.folder(folder, infos, place)
    assert repr(key) in str(caught.value)
    assert str(folder) in str(caught.value)
    assert [path for path in tmp_path.rglob("*") if not path.is_dir()] == []


PART = "k" * 250


@pytest.mark.parametrize("access", [Access.COPY, Access.MOUNT])
@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        (("a", "a/b"), "in the bucket one name is an object and a folder"),
        (("a/b", "a"), "in the bucket one name is an object and a folder"),
        (("k" * 1024,), "names on this disk have at most 255 bytes"),
        (("/".join([PART] * 4) + "/" + "k" * 20,), None),
    ],
    ids=["file first", "folder first", "long name", "long key"],
)
def test_a_key_that_no_file_can_have_gets_a_sentence(
    any_key: Connection,
    tmp_path: Path,
    access: Access,
    keys: tuple[str, ...],
    reason: str | None,
) -> None:
    bucket = f"keys-{uuid.uuid4().hex[:8]}"
    store = bucket_with(any_key, bucket, *keys)
    options = SessionOptions(access, mount_root=tmp_path / "run", cache_dir=tmp_path / "cache")
    expected = pytest.raises(QueryError, match=reason) if reason else nullcontext()
    with Session(any_key, tmp_path / "wd", options) as session, expected:
        for key in keys:
            url = S3Url(bucket, key)
            info = store.head(url)
            assert info
            place = session.local_prefix / url.local_suffix()
            session.placement.object(url, info, place)
            assert place.read_bytes() == b"* * * * * root evil"


def test_a_wildcard_that_leads_out_of_the_local_prefix_is_refused(
    any_key: Connection, tmp_path: Path
) -> None:
    bucket_with(any_key, "wildcards", "fine.txt", "../../owned.txt")
    workdir = tmp_path / "a/wd"
    workdir.mkdir(parents=True)
    (workdir / "Snakefile").write_text(WILDCARDS.format(bucket="wildcards"))
    environment = {
        "SNAKEMAKE_STORAGE_S3FUSE_ENDPOINT_URL": any_key.endpoint_url or "",
        "SNAKEMAKE_STORAGE_S3FUSE_ACCESS_KEY": "any",
        "SNAKEMAKE_STORAGE_S3FUSE_SECRET_KEY": "thing",
    }
    run = snakemake(workdir, "--cores", "1", environment=environment)
    assert run.returncode == 1
    assert "../../owned.txt' has an empty, '.' or '..' part" in output_of(run)
    assert list(tmp_path.rglob("owned*")) == []


@pytest.mark.slow
@pytest.mark.fuse
@pytest.mark.parametrize(
    "name", [b"run,allow_other", b"run 1", b"run\\1", b"run\n1", b"run\t1", b"latin-\xe9", b"-rf"]
)
def test_a_working_directory_may_have_any_name(
    server: Server, bucket: Bucket, tmp_path: Path, name: bytes
) -> None:
    bucket.write("in.txt", "content")
    workdir = tmp_path / os.fsdecode(name)
    workdir.mkdir()
    (workdir / "Snakefile").write_text(COPY.format(bucket=bucket.name))
    words = ("--cores", "1", "--storage-s3fuse-access", "mount")
    run = snakemake(workdir, *words, environment=server.environment)
    assert run.returncode == 0, output_of(run)
    assert "read-only." in output_of(run)
    assert bucket.contents()["out.txt"] == b"content"
    made = s3fuse("mount", str(bucket.url), workdir=workdir, environment=server.environment)
    assert made.returncode == 0, made.stderr
    assert Path(made.stdout.rstrip("\n"), "in.txt").read_text() == "content"
    rows = s3fuse("status", "--all", workdir=tmp_path)
    assert len([row for row in rows.stdout.splitlines() if bucket.name in row]) == 1
    found = json.loads(s3fuse("status", "--json", workdir=workdir).stdout)
    assert [Path(each["directory"]) for each in found] == [workdir]
    assert s3fuse("unmount", workdir=workdir, environment=server.environment).returncode == 0
    assert mounted() == []


@pytest.mark.fuse
@pytest.mark.parametrize(
    "name",
    [b"a,allow_other", b"a b", b"a\\b", b"a\\,b", b"a\\040b", b"a\nb", b"a\tb", b"a#b", b"\xe9"],
)
def test_mount_root_and_cache_dir_may_have_any_name(
    server: Server, bucket: Bucket, tmp_path: Path, name: bytes
) -> None:
    bucket.write("in.txt", "content")
    root = tmp_path / os.fsdecode(name)
    mounts = Mounts(NO_LINKS, tmp_path, root / "run", root / "cache", unmount_timeout=5)
    made = mounts.keep_mounted(bucket.name, server.connection, MountOptions(read_write=True))
    assert made.is_mounted
    assert mounts.all() == [made]
    assert (made.point / "in.txt").read_text() == "content"
    (made.point / "out.txt").write_text("written")
    assert (made.cache / bucket.name / "in.txt").exists()
    # s3fs notes what is in the bucket when the kernel tells that the file was closed, which
    # it no longer does for a mount that is gone by then.
    wait_for(lambda: not unsent(made))
    mounts.unmount()
    assert not made.is_mounted
    assert bucket.contents()["out.txt"] == b"written"
    # In the cache there, and nowhere else.
    assert [path for path in tmp_path.rglob("*") if not path.is_dir()] == []


@needs_root
def test_a_prefix_that_somebody_has_made_before_is_refused(
    server: Server, bucket: Bucket, tmp_path: Path
) -> None:
    # As with `remote-job-local-storage-prefix: /tmp/snakemake-$USER`.
    bucket.write("in.txt", "content")
    workdir = tmp_path / "wd"
    workdir.mkdir()
    shared = tmp_path / "tmp"
    shared.mkdir()
    shared.chmod(0o1777)
    prefix = shared / "snakemake-me"
    (workdir / "Snakefile").write_text(COPY.format(bucket=bucket.name))
    words = ("--cores", "1", "--local-storage-prefix", prefix)
    for mode in (0o777, 0o755):
        prefix.mkdir()
        prefix.chmod(mode)
        os.chown(prefix, NOBODY, NOBODY)
        environment = {**server.environment, "SLURM_JOB_ID": "4242"}
        run = snakemake(workdir, *words, environment=environment)
        assert run.returncode == 1
        assert f"Others could replace {prefix}/s3" in output_of(run)
        assert "Traceback" not in output_of(run)
        assert bucket.keys() == ["in.txt"]
        shutil.rmtree(prefix)


@needs_root
def test_a_run_does_not_believe_what_somebody_puts_into_the_temp_directory(
    server: Server, bucket: Bucket, tmp_path: Path
) -> None:
    # While a run from cron, which has no run-time directory, copies its inputs.
    bucket.write("in.txt", "content")
    victim = tmp_path / "thesis"
    victim.mkdir()
    (victim / "chapter1").touch()
    shared = tmp_path / "tmp"
    shared.mkdir()
    shared.chmod(0o1777)
    workdir = tmp_path / "wd"
    workdir.mkdir()
    root = shared / f"s3fuse-{os.geteuid()}"
    attack = (
        f"mkdir -p {root}/scope/x; cp record {root}/scope/x/record.json; chmod -R 777 {root}; "
        f"chown -R {NOBODY} {root}; "
    )
    (workdir / "record").write_text(json.dumps({"cache": str(victim), "directory": str(victim)}))
    (workdir / "Snakefile").write_text(
        COPY.format(bucket=bucket.name).replace('shell: "', f'shell: "{attack}')
    )
    environment = {**server.environment, "TMPDIR": str(shared), "XDG_RUNTIME_DIR": ""}
    words = ("--cores", "1", "--storage-s3fuse-access", "copy")
    run = snakemake(workdir, *words, environment=environment)
    assert f"{root} is not a directory of yours" in output_of(run)
    assert bucket.contents()["out.txt"] == b"content"
    again = snakemake(workdir, *words, "--forceall", environment=environment)
    assert again.returncode == 1
    assert f"{root} is not a directory of yours" in output_of(again)
    assert (victim / "chapter1").exists()
