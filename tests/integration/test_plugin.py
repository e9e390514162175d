"""The plugin as Snakemake's own test suite for storage plugins sees it, and beyond."""

from __future__ import annotations

import logging
import os
import re
import sys
import uuid
from pathlib import Path

import iris_sample_data
import pytest
from snakemake_interface_storage_plugins.settings import StorageProviderSettingsBase
from snakemake_interface_storage_plugins.storage_provider import StorageProviderBase
from snakemake_interface_storage_plugins.tests import TestStorageBase

from conftest import ROOT, Bucket, mounted, snakemake
from fault_proxy import Faults, proxied
from s3fuse.embedded_server import Server
from s3fuse.errors import ObjectNotFound, QueryError
from snakemake_storage_plugin_s3fuse import StorageObject, StorageProvider, StorageProviderSettings
from snakemake_storage_plugin_s3fuse.errors import StorageError

pytestmark = pytest.mark.fuse


class SuiteOfSnakemake(TestStorageBase):
    __test__ = False
    files_only = False

    @pytest.fixture(autouse=True)
    def _server(self, server: Server, bucket: Bucket) -> None:
        self.server, self.bucket = server, bucket

    def get_query(self, tmp_path: Path) -> str:
        return f"s3://{self.bucket.name}/folder/{uuid.uuid4()}.txt"

    def get_query_not_existing(self, tmp_path: Path) -> str:
        return f"s3://{self.bucket.name}/folder/not-there.txt"

    def get_storage_provider_cls(self) -> type[StorageProviderBase]:
        return StorageProvider

    @pytest.fixture(autouse=True)
    def _unmount(self):  # type: ignore[no-untyped-def]
        self.made: list[StorageProvider] = []
        yield
        for provider in self.made:
            provider.run.close()

    def _get_provider(self, tmp_path: Path) -> StorageProvider:
        provider = super()._get_provider(tmp_path)
        self.made.append(provider)
        return provider


class TestCopying(SuiteOfSnakemake):
    __test__ = True

    def get_storage_provider_settings(self) -> StorageProviderSettingsBase:
        return settings(self.server)


class TestMounting(SuiteOfSnakemake):
    __test__ = True
    # A folder without a slash at its end is copied whatever the setting says.

    def get_storage_provider_settings(self) -> StorageProviderSettingsBase:
        return settings(self.server, access="mount")


def settings(server: Server, **more: object) -> StorageProviderSettings:
    given: dict[str, object] = {
        "endpoint_url": server.endpoint_url,
        "region": "us-east-1",
        "access_key": server.access_key,
        "secret_key": server.secret_key,
    }
    return StorageProviderSettings(**given | more)  # type: ignore[arg-type]


@pytest.fixture
def provide(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    made = []

    def make(**more: object) -> StorageProvider:
        provider = StorageProvider(
            local_prefix=Path("local/s3"),
            logger=logging.getLogger("test"),
            settings=settings(server, **more),
        )
        made.append(provider)
        return provider

    yield make
    for provider in made:
        provider.run.close()


def object_of(provider: StorageProvider, query: object) -> StorageObject:
    made = provider.object(str(query))
    assert isinstance(made, StorageObject)
    return made


def test_large_inputs_are_linked_and_small_ones_copied(provide, bucket: Bucket) -> None:  # type: ignore[no-untyped-def]
    bucket.write("large.nc", b"x" * 2000)
    bucket.write("small.nc", b"x" * 1999)
    provider = provide(copy_below=2000)
    large = object_of(provider, bucket.url.child("large.nc"))
    small = object_of(provider, bucket.url.child("small.nc"))
    for each in (large, small):
        each.retrieve_object()
        assert each.local_path().stat().st_size == each.size()
        assert int(each.local_path().lstat().st_mtime) == each.mtime()
    assert large.local_path().is_symlink()
    assert large.local_footprint() == 0
    assert not small.local_path().is_symlink()
    assert small.local_footprint() == 1999
    provider.unmount()
    assert not os.path.lexists(large.local_path())
    assert small.local_path().exists()


def test_a_folder_and_a_bucket_are_links_too(provide, bucket: Bucket) -> None:  # type: ignore[no-untyped-def]
    bucket.write("tas/1990.nc", "1990")
    bucket.write("tas/deep/1991.nc", "1991")
    provider = provide(access="mount")
    folder = object_of(provider, bucket.url.child("tas/"))
    whole = object_of(provider, bucket.url)
    inside = object_of(provider, bucket.url.child("tas/1990.nc"))
    for each in (folder, whole, inside):
        assert each.exists()
        each.retrieve_object()
        assert each.local_path().is_symlink()
    assert (folder.local_path() / "deep/1991.nc").read_text() == "1991"
    assert (whole.local_path() / "tas/1990.nc").read_text() == "1990"
    assert whole.mtime() == 0
    assert whole.size() == whole.local_footprint() == 0
    assert folder.mtime() == inside.mtime()


def test_a_folder_is_copied_when_asked(provide, bucket: Bucket) -> None:  # type: ignore[no-untyped-def]
    for number in range(50):
        bucket.write(f"tas/{number}.nc", str(number))
    folder = object_of(provide(access="copy"), bucket.url.child("tas/"))
    folder.retrieve_object()
    assert {path.name for path in folder.local_path().iterdir()} == {f"{n}.nc" for n in range(50)}
    assert mounted() == []


@pytest.mark.parametrize("missing", ["s3fs", "fusermount"])
def test_without_fuse_inputs_are_copied_and_that_is_said_once(  # type: ignore[no-untyped-def]
    provide, bucket: Bucket, tmp_path, monkeypatch, caplog, missing: str
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    if missing == "fusermount":
        (programs / "s3fs").symlink_to("/bin/true")
    monkeypatch.setenv("PATH", str(programs))
    bucket.write("a.nc", b"x" * 3000)
    bucket.write("b.nc", b"x" * 3000)
    caplog.set_level(logging.WARNING)
    provider = provide(copy_below=1)
    for name in ("a.nc", "b.nc"):
        each = object_of(provider, bucket.url.child(name))
        assert each.local_footprint() == 3000
        each.retrieve_object()
        assert not each.local_path().is_symlink()
    assert caplog.text.count("copied instead of mounted") == 1
    assert missing in caplog.text
    object_of(provider, bucket.url).retrieve_object()


def test_mounting_by_force_fails_without_fuse(provide, bucket, tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("PATH", str(tmp_path))
    bucket.write("a.nc", "x")
    with pytest.raises(Exception, match="Set access to auto or copy"):
        object_of(provide(access="mount"), bucket.url.child("a.nc")).retrieve_object()


def test_missing_inputs_and_buckets_as_outputs_are_refused(provide, bucket: Bucket) -> None:  # type: ignore[no-untyped-def]
    provider = provide()
    with pytest.raises(ObjectNotFound, match=f"{bucket.url}/x.nc is not in the bucket"):
        object_of(provider, bucket.url.child("x.nc")).retrieve_object()
    with pytest.raises(QueryError, match="whole bucket and cannot be an output"):
        object_of(provider, bucket.url).store_object()


def test_wildcards_are_found_in_objects_and_folders(provide, bucket: Bucket) -> None:  # type: ignore[no-untyped-def]
    import snakemake.api  # noqa: F401  (first: the modules import each other)
    from snakemake.io import glob_wildcards
    from snakemake.storage import flag_with_storage_object

    for key in ("tas/a_1.nc", "tas/b_2.nc", "tas/b_2.txt", "pr/c_3.nc"):
        bucket.write(key, "x")
    provider = provide()

    def found(pattern: str):  # type: ignore[no-untyped-def]
        query = f"s3://{bucket.name}/{pattern}"
        return glob_wildcards(flag_with_storage_object(query, provider.object(query)))

    assert found("tas/{name}_{number}.nc") == (["a", "b"], ["1", "2"])
    assert sorted(found("{variable}/c_{n}.nc").variable) == ["pr"]
    assert sorted(found("{variable}/").variable) == ["pr", "tas"]
    with pytest.raises(StorageError, match="is a wildcard, and buckets are not searched"):
        object_of(provider, "s3://{bucket}/x").list_candidate_matches()


@pytest.mark.parametrize(
    ("query", "valid"),
    [
        ("s3://data/{year}.nc", True),
        ("s3://data/{year,[0-9]{4}}/", True),
        (r"s3://{bucket,[^/]+}", True),
        ("s3://data/../{year}.nc", False),
        ("data/x.nc", False),
        ("s3://k:secret@data/x", False),
    ],
)
def test_queries_are_judged_with_their_wildcards(query: str, valid: bool) -> None:
    result = StorageProvider.is_valid_query(query)
    assert bool(result) is valid
    assert "secret" not in str(result)


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ({"access": "fly"}, "access is 'fly'; it must be one of auto, mount, copy"),
        ({"copy_below": "many"}, "copy_below is 'many'; write bytes"),
        ({"cache_size": "8MiB"}, "cache_size is 8 MiB, and must be at least 16 MiB."),
        ({"retries": 0}, "retries is 0"),
        ({"endpoint_url": "localhost"}, "'localhost' is no URL"),
    ],
)
def test_wrong_settings_are_named(
    tmp_path: Path, setting: dict[str, object], sentence: str
) -> None:
    with pytest.raises(StorageError, match=sentence):
        StorageProvider(
            local_prefix=tmp_path,
            logger=logging.getLogger("test"),
            settings=StorageProviderSettings(**setting),  # type: ignore[arg-type]
        )


def test_secrets_leave_the_fields_that_snakemake_writes_into_command_lines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("SNAKEMAKE_STORAGE_S3FUSE_SECRET_KEY", raising=False)
    monkeypatch.delenv("SNAKEMAKE_STORAGE_S3FUSE_ACCESS_KEY", raising=False)
    made = StorageProviderSettings(access_key="AKIA", secret_key="hush")
    assert "hush" not in repr(made)
    assert (made.access_key, made.secret_key) == (None, None)
    assert os.environ["SNAKEMAKE_STORAGE_S3FUSE_SECRET_KEY"] == "hush"
    assert made.connection().secret_key == "hush"
    made.secret_key = "from a storage block"
    assert made.connection().secret_key == "from a storage block"


def test_the_rule_of_the_readme_works(tmp_path: Path, server: Server, bucket: Bucket) -> None:
    (text,) = re.findall(r"```python\n(storage.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    text = text.replace("my-bucket", bucket.name).replace("my-results", bucket.name)
    (tmp_path / "Snakefile").write_text(text)
    bucket.upload(Path(iris_sample_data.path) / "E1_north_america.nc", "tas/1990.nc")
    run = snakemake(tmp_path, "--cores", "1", environment=server.environment)
    assert run.returncode == 0, run.stderr
    assert bucket.keys() == ["mean/1990.nc", "tas/1990.nc"]
    assert mounted() == []


COUNTING = """\
import psutil

keeper = "s3fuse-keeper"
above = [each for each in psutil.Process().parents() if "snakemake" in each.cmdline()]
print(sum(below.name() == keeper for below in above[-1].children()))
"""


@pytest.mark.fuse
def test_a_run_has_one_gateway_for_each_bucket(
    tmp_path: Path, server: Server, bucket: Bucket
) -> None:
    """Snakemake has a provider for the options, too, from which nothing is read."""
    bucket.write("in/x", "content")
    (tmp_path / "count.py").write_text(COUNTING)
    (tmp_path / "Snakefile").write_text(f"""
storage s3:
    provider="s3fuse",

rule count:
    input: storage.s3("{bucket.url}/in/x")
    output: storage.s3("{bucket.url}/out/count")
    shell: "{sys.executable} count.py > {{output}}; cat {{input}}"
""")
    options = ["--cores", "1", "--storage-s3fuse-access", "mount"]
    run = snakemake(tmp_path, *options, environment=server.environment)
    assert run.returncode == 0, run.stderr
    assert bucket.contents()["out/count"] == b"1\n"


ODD_KEYS = [
    "with space.nc",
    "plus+and%and#and?and&.nc",
    "%41%2F.nc",
    "größe-日本語-🌍.nc",
    "a'b\"c$d`e.nc",
    "back\\slash.nc",
    "-o allow_other.nc",
    "folder with space/and+plus.nc",
    "/".join(["x" * 100] * 9),
]


@pytest.mark.parametrize("access", ["mount", "copy"])
@pytest.mark.parametrize("key", ODD_KEYS)
def test_odd_keys_come_and_go(provide, bucket: Bucket, access: str, key: str) -> None:  # type: ignore[no-untyped-def]
    provider = provide(access=access)
    source = object_of(provider, bucket.url.child(key))
    source.local_path().parent.mkdir(parents=True, exist_ok=True)
    source.local_path().write_text(key)
    source.store_object()
    assert bucket.keys() == [key]
    source.local_path().unlink()
    source.retrieve_object()
    assert source.local_path().read_text() == key
    assert source.local_path().is_symlink() == (access == "mount")
    assert list(source.run.session.listings.tree(bucket.url).objects) == [key]
    source.remove()
    assert not source.exists()


def test_braces_in_a_key_are_wildcards_and_cannot_be_asked_for(bucket: Bucket) -> None:
    # Snakemake reads {a} as a wildcard, so such an object has no query of its own.
    assert StorageProvider.is_valid_query(f"{bucket.url}/{{a}}.nc")


@pytest.mark.parametrize("access", ["auto", "copy"])
def test_a_bucket_that_may_be_read_but_not_listed(  # type: ignore[no-untyped-def]
    provide, server: Server, bucket: Bucket, access: str
) -> None:
    # s3fs 1.90 mounts no bucket that it may not list, so `auto` then copies.
    bucket.write("a/in.nc", "content")
    denied = Faults(refuse=lambda asked: "AccessDenied" if asked.kind == "LIST" else None)
    with proxied(server.endpoint_url, denied) as proxy:
        provider = provide(access=access, copy_below=1, endpoint_url=proxy.endpoint_url)
        listings = provider.run.session.listings
        each = object_of(provider, bucket.url.child("a/in.nc"))
        assert each.exists()
        assert each.size() == 7
        assert listings.object(each.url) is not None
        each.retrieve_object()
        assert each.local_path().read_text() == "content"
        other = object_of(provider, bucket.url.child("a/out.nc"))
        assert listings.object(other.url) is None
        provider.run.close()


def test_temporary_outputs_are_really_deleted(
    tmp_path: Path, server: Server, bucket: Bucket
) -> None:
    # Snakemake takes temp() of storage only where storage is the default.
    (tmp_path / "Snakefile").write_text(
        """
rule all:
    input: "out.txt"

rule first:
    output: temp("{name}.tmp")
    shell: "echo content > {output}"

rule second:
    input: "middle.tmp"
    output: "out.txt"
    shell: "cp {input} {output}"
"""
    )

    def run(*options: str) -> list[str]:
        storage = ["--default-storage-provider", "s3fuse", "--default-storage-prefix"]
        words = ["--cores", "1", *storage, str(bucket.url), *options]
        done = snakemake(tmp_path, *words, environment=server.environment)
        assert done.returncode == 0, done.stderr
        return bucket.keys()

    assert run() == ["out.txt"]
    assert run("--forceall", "--notemp") == ["middle.tmp", "out.txt"]
    assert run("--delete-temp-output") == ["out.txt"]
    assert run("--delete-all-output") == []
