"""A store with a certificate of a private authority, named as AWS tools name it."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from conftest import mounted, output_of, snakemake
from s3fuse.embedded_server import Server, running
from s3fuse.errors import SettingsError
from s3fuse.s3.store import Store

pytestmark = pytest.mark.fuse

SNAKEFILE = """\
storage s3:
    provider="s3fuse",
    access="mount",


rule all:
    input:
        storage.s3("s3://bucket/out.bin"),


rule step:
    input:
        storage.s3("s3://bucket/in.bin"),
    output:
        storage.s3("s3://bucket/out.bin"),
    shell:
        "cp {input} {output}"
"""
CONTENT = b"content" * 1000


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with a server's certificate, its key and that of the authority."""
    folder = tmp_path_factory.mktemp("certificates")
    ours = trustme.CA()
    certificate = ours.issue_cert("localhost")
    certificate.private_key_pem.write_to_path(folder / "server.key")
    certificate.cert_chain_pems[0].write_to_path(folder / "server.pem")
    ours.cert_pem.write_to_path(folder / "authority.pem")
    return folder


@pytest.fixture(scope="module")
def secure(authority: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that speaks TLS only, with one object."""
    data = tmp_path_factory.mktemp("secure")
    (data / "bucket").mkdir()
    (data / "bucket/in.bin").write_bytes(CONTENT)
    rclone = shutil.which("rclone", path=f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}")
    assert rclone
    command = [rclone, "serve", "s3", "--addr", "127.0.0.1:0", "--config", os.devnull]
    command += ["--cert", str(authority / "server.pem"), "--key", str(authority / "server.key")]
    keys = secrets.token_hex(10).upper(), secrets.token_hex(20)
    listening = re.compile(r"on \[https://127\.0\.0\.1:(\d+)/?\]")
    environment = {"RCLONE_AUTH_KEY": ",".join(keys).join('""')}
    with running([*command, "--", str(data)], listening, environment) as (port, pid):
        yield Server(f"https://localhost:{port}", *keys, pid)


@pytest.fixture(params=["environment", pytest.param("configuration", marks=pytest.mark.slow)])
def trusted(
    request: pytest.FixtureRequest,
    authority: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The authority is one of ours, by either way that AWS tools have."""
    path = str(authority / "authority.pem")
    if request.param == "environment":
        monkeypatch.setenv("AWS_CA_BUNDLE", path)
    else:
        (tmp_path / "aws").write_text(f"[default]\nca_bundle = {path}\n")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "aws"))


def command(server: Server, workdir: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "s3fuse", *words],
        cwd=workdir,
        env={**os.environ, **server.environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.usefixtures("trusted")
def test_a_run_mounts_and_publishes(secure: Server, tmp_path: Path) -> None:
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    run = snakemake(tmp_path, "--cores", "1", "--forceall", environment=secure.environment)
    assert run.returncode == 0, output_of(run)
    assert "Mounted s3://bucket read-only." in output_of(run)
    info = Store(secure.connection).filesystem.cat_file("bucket/out.bin")
    assert info == CONTENT


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("options", [(), ("--read-write",)], ids=["", "read-write"])
def test_a_bucket_is_mounted_by_hand(
    secure: Server, tmp_path: Path, options: tuple[str, ...]
) -> None:
    made = command(secure, tmp_path, "mount", *options, "s3://bucket")
    try:
        assert made.returncode == 0, made.stderr
        point = Path(made.stdout.strip())
        assert (point / "in.bin").read_bytes() == CONTENT
    finally:
        assert command(secure, tmp_path, "unmount").returncode == 0
    assert mounted() == []


@pytest.mark.usefixtures("trusted")
def test_the_doctor_finds_nothing(secure: Server, tmp_path: Path) -> None:
    found = command(secure, tmp_path, "doctor", "s3://bucket")
    assert found.returncode == 0, found.stdout
    assert "certificate" not in found.stdout


def test_without_it_the_sentence_says_what_to_set(secure: Server, tmp_path: Path) -> None:
    reason = re.escape(
        f"The certificate of {secure.endpoint_url} is from an authority that is not known here, "
        "so s3://bucket cannot be used; name the authority's file in AWS_CA_BUNDLE."
    )
    start = time.monotonic()
    with pytest.raises(SettingsError, match=reason):
        Store(secure.connection).check("bucket")
    # It would not succeed later.
    assert time.monotonic() - start < 5
    found = command(secure, tmp_path, "doctor", "s3://bucket")
    assert found.returncode != 0
    assert "name the authority's file in AWS_CA_BUNDLE" in found.stdout + found.stderr
