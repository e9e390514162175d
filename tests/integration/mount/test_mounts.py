import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import tenacity

from conftest import Bucket, daemons, mounted, wait_for
from reliability.runs import left_in
from s3fuse.embedded_server import Server
from s3fuse.errors import MountBusy, MountError, NotUploaded, S3FuseError, SettingsError
from s3fuse.mount import daemon, mounts, starting
from s3fuse.mount.mounts import Mounts
from s3fuse.mount.options import LEAST_CACHE, MountOptions
from s3fuse.mount.record import RECORD, Mount
from s3fuse.mount.s3fs_cache.page_list import list_file
from s3fuse.mount.s3fs_cache.pending_uploads import unsent
from s3fuse.mount.sweep import sweep
from s3fuse.mount.unmount import fusermount, unmount, unmount_all
from s3fuse.node.links import links_into, make_link
from s3fuse.node.processes import Process

pytestmark = pytest.mark.fuse


def assert_clean(made: Mounts) -> None:
    assert not any(str(made.root) in line for line in mounted())
    assert not any(str(made.root) in line for line in daemons())
    assert [path for path in made.root.rglob("*") if path.is_file()] == []
    assert left_in(made.cache_dir) == []
    assert list(made.links.iterdir()) == []


def test_mounted_once_read_only_and_gone(made: Mounts, server: Server, bucket: Bucket) -> None:
    bucket.write("a/b/x.txt", "hello")
    mount = made.mount(bucket.name, server.connection)
    assert (mount.point / "a/b/x.txt").read_text() == "hello"
    assert made.mount(bucket.name, server.connection) == mount
    with pytest.raises(OSError, match="Read-only file system"):
        (mount.point / "y").write_text("no")
    (made.links / "link").symlink_to(mount.point / "a")
    (made.links / "other").symlink_to("/elsewhere")
    made.unmount_own()
    (made.links / "other").unlink()
    assert_clean(made)


def test_two_connections_do_not_share_a_mount(made: Mounts, server: Server, bucket: Bucket) -> None:
    first = made.mount(bucket.name, server.connection)
    second = made.mount(bucket.name, server.connection, MountOptions(extra="noatime"))
    assert first.point != second.point


def test_a_mount_that_does_not_come_up_leaves_nothing(
    made: Mounts, server: Server, bucket: Bucket
) -> None:
    start = time.monotonic()
    with pytest.raises(MountError, match=f"s3://{bucket.name} could not be mounted") as caught:
        made.mount(bucket.name, server.connection, MountOptions(extra="no_such_option"))
    assert "s3fs said: " in str(caught.value)
    assert "no_such_option" in str(caught.value)
    assert time.monotonic() - start < starting.READY_TIMEOUT + 15
    assert_clean(made)


def test_the_least_cache_is_enough_and_no_less_is_asked_for(
    made: Mounts, server: Server, bucket: Bucket
) -> None:
    bucket.write("in.txt", "content")
    # s3fs does not start when others fill the disk at that moment, as tests beside this one do.
    for attempt in tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(MountError),
        wait=tenacity.wait_fixed(1),
        stop=tenacity.stop_after_attempt(10),
        reraise=True,
    ):
        with attempt:
            mount = made.mount(bucket.name, server.connection, MountOptions(False, LEAST_CACHE))
    assert (mount.point / "in.txt").read_text() == "content"
    made.unmount()
    assert_clean(made)
    with pytest.raises(SettingsError, match=r"cache_size is .* must be at least"):
        MountOptions(False, LEAST_CACHE - 1)


def kill(mount: Mount) -> None:
    """Kill the daemon of a mount, and wait for its end."""
    assert mount.daemon is not None
    process = psutil.Process(mount.daemon.pid)
    process.kill()
    process.wait(10)


def wait_for_end(mount: Mount) -> None:
    """Wait until the daemon of a mount that was taken down has ended."""
    assert mount.daemon is not None
    if process := mount.daemon.handle:
        process.wait(10)


def hold(path: Path, mode: str = "r") -> subprocess.Popen[bytes]:
    """Start a process that has a file open, and wait until it has."""
    code = "import sys; file = open(*sys.argv[1:]); print(flush=True); sys.stdin.read()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(path), mode], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()
    return process


def let_go(process: subprocess.Popen[bytes]) -> None:
    process.communicate()


def test_busy_for_a_moment_is_waited_for(
    made: Mounts, server: Server, bucket: Bucket, caplog: pytest.LogCaptureFixture
) -> None:
    bucket.write("x", "content")
    mount = made.mount(bucket.name, server.connection)
    holder = hold(mount.point / "x")

    def let_go_once_told(record: logging.LogRecord) -> bool:
        let_go(holder)
        return True

    caplog.handler.addFilter(let_go_once_told)
    try:
        made.unmount_own()
    finally:
        caplog.handler.removeFilter(let_go_once_told)
        let_go(holder)
    assert f"(pid {holder.pid})" in caplog.text
    assert "detached" not in caplog.text
    assert_clean(made)


@pytest.mark.parametrize("how", ["file", "working directory"])
def test_busy_beyond_the_deadline_is_detached_when_read_only(
    made: Mounts, server: Server, bucket: Bucket, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    bucket.write("x", "content")
    mount = made.mount(bucket.name, server.connection)
    if how == "file":
        holder = hold(mount.point / "x")
    else:
        holder = subprocess.Popen(["cat"], stdin=subprocess.PIPE, cwd=mount.point)
    try:
        made.unmount_own()
        assert f"(pid {holder.pid})" in caplog.text
        assert "nothing is lost" in caplog.text
        assert not mount.is_mounted
        assert (made.mount(bucket.name, server.connection).point / "x").read_text() == "content"
        made.unmount_own()
    finally:
        let_go(holder)
    wait_for_end(mount)
    sweep(made.root)
    made.unmount()
    assert_clean(made)


def test_busy_beyond_the_deadline_stays_when_read_write(
    made: Mounts, server: Server, bucket: Bucket
) -> None:
    mount = made.mount(bucket.name, server.connection, MountOptions(read_write=True))
    (mount.point / "out").write_text("by the mount")
    holder = hold(mount.point / "out")
    try:
        with pytest.raises(MountBusy) as caught:
            made.unmount_own()
        assert f"(pid {holder.pid}) at out. End it" in str(caught.value)
        assert f"-u {mount.point}" in str(caught.value)
        assert mount.is_mounted
    finally:
        let_go(holder)
    made.unmount_own()
    assert (bucket.folder / "out").read_text() == "by the mount"


def start_and_die(
    made: Mounts, server: Server, bucket: Bucket, options: str = "MountOptions()"
) -> Mount:
    """Mount in a process that is then killed."""
    code = f"""
import json, os, signal, sys
from pathlib import Path
from s3fuse import Connection, Mounts
from s3fuse.mount.options import MountOptions
links, workdir, root, cache, bucket, *connection = sys.argv[1:]
mounts = Mounts(Path(links), Path(workdir), Path(root), Path(cache))
mount = mounts.mount(bucket, Connection(*connection), {options})
print(mount.directory, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    places = [made.links, made.workdir, made.root, made.cache_dir]
    keys = [server.endpoint_url, "us-east-1", server.access_key, server.secret_key]
    # Not a child of this process, which owns mounts itself.
    environment = {k: v for k, v in os.environ.items() if k != "S3FUSE_OWNER"}
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, places), bucket.name, *keys],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    mount = Mount.load(Path(done.stdout.strip()))
    assert mount is not None
    return mount


def test_what_a_killed_process_left_is_swept(made: Mounts, server: Server, bucket: Bucket) -> None:
    bucket.write("x", "content")
    mount = start_and_die(made, server, bucket)
    (made.links / "x").symlink_to(mount.point / "x")
    # Its keeper detaches it, and ends with it.
    wait_for(lambda: not any(each and each.handle for each in (mount.daemon, mount.keeper)))
    assert not mount.is_mounted
    sweep(made.root)
    assert_clean(made)


def test_a_dead_daemon_is_swept_too(made: Mounts, server: Server, bucket: Bucket) -> None:
    mount = start_and_die(made, server, bucket, "MountOptions(read_write=True)")
    kill(mount)
    with pytest.raises(OSError, match="Transport endpoint is not connected"):
        os.stat(mount.point)
    sweep(made.root)
    assert_clean(made)


def test_mounts_of_the_living_are_not_swept(made: Mounts, server: Server, bucket: Bucket) -> None:
    mount = made.mount(bucket.name, server.connection)
    sweep(made.root)
    assert mount.is_healthy


def test_a_mount_whose_daemon_died_is_replaced(
    made: Mounts, server: Server, bucket: Bucket
) -> None:
    bucket.write("x", "content")
    dead = made.mount(bucket.name, server.connection)
    kill(dead)
    mount = made.mount(bucket.name, server.connection)
    assert (mount.point / "x").read_text() == "content"


def test_a_dead_daemon_is_replaced_under_a_job(
    made: Mounts, server: Server, bucket: Bucket, caplog: pytest.LogCaptureFixture
) -> None:
    bucket.write("a/x", "content")
    dead = made.mount(bucket.name, server.connection)
    link = made.links / "x"
    make_link(dead.point / "a/x", link, 1000)
    for _ in range(2):
        kill(made.all()[0])
        with pytest.raises(OSError, match="Transport endpoint is not connected"):
            link.read_text()
        deadline = time.monotonic() + 10
        while len(made.all()) != 1 or not made.all()[0].is_healthy:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert link.read_text() == "content"
        assert link.lstat().st_mtime == 1000
    assert "s3fs had ended" in caplog.text
    made.unmount_own()
    assert_clean(made)


def test_a_daemon_that_always_dies_is_not_started_for_ever(
    made: Mounts, server: Server, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mounts, "REVIVALS", 1)
    mount = made.mount(bucket.name, server.connection)
    make_link(mount.point, made.links / "x")
    for _ in range(2):
        kill(made.all()[0])
        made.revive()
    (dead,) = made.all()
    assert not dead.is_healthy
    made.unmount_own()
    assert_clean(made)


def test_links_are_found_while_their_mount_hangs(
    made: Mounts, server: Server, bucket: Bucket
) -> None:
    mount = made.mount(bucket.name, server.connection)
    link = made.links / "folder/x"
    make_link(mount.point / "not-looked-at", link)
    assert mount.daemon
    s3fs = psutil.Process(mount.daemon.pid)
    s3fs.suspend()
    found: list[tuple[Path, Path]] = []
    # It never ends if it asks the mount; then s3fs has to go on first.
    thread = threading.Thread(target=lambda: found.extend(links_into([mount.point], made.links)))
    try:
        thread.start()
        thread.join(5)
        assert found == [(link, link.readlink())]
    finally:
        s3fs.resume()
        thread.join()


def test_a_record_from_before_a_reboot_is_swept(
    made: Mounts, server: Server, bucket: Bucket
) -> None:
    mount = made.mount(bucket.name, server.connection)
    mount.save()
    unmount(mount, 1)
    for before in (replace(mount.node, boot="before"), replace(mount.node, host="another")):
        mount.point.mkdir(parents=True, exist_ok=True)
        # The owner's number has been given to a living process, as may happen.
        replace(mount, node=before).save()
        sweep(made.root)
        assert mount.directory.exists() == (before.host == "another")
    (mount.directory / RECORD).unlink()
    mount.point.rmdir()
    sweep(made.root)
    assert_clean(made)


def test_what_a_restart_leaves_of_a_mount_is_removed_or_uploaded(
    made: Mounts, server: Server, bucket: Bucket
) -> None:
    bucket.write("x", "content")
    read, written = (
        made.keep_mounted(bucket.name, server.connection, MountOptions(read_write))
        for read_write in (False, True)
    )
    (read.point / "x").read_text()
    (written.point / "y").write_text("written")
    for mount in (read, written):
        # The run-time directory goes with a restart, and so does s3fs.
        fusermount(mount, lazy=True)
        wait_for_end(mount)
        replace(mount, node=replace(mount.node, boot="before")).save()
        shutil.rmtree(mount.directory)
    # As s3fs leaves it when an upload has failed.
    listing = list_file(written, "y")
    listing.write_text(listing.read_text().replace("0:7:1:0", "0:7:1:1"))
    bucket.remove("y")
    sweep(made.root, made.cache_dir)
    assert [unsent(mount) for mount in made.all()] == [["y"]]
    assert not read.cache.exists()
    made.unmount(connection=server.connection)
    assert bucket.contents() == {"x": b"content", "y": b"written"}
    assert_clean(made)


def test_a_file_that_was_open_when_s3fs_died_is_kept(
    made: Mounts, server: Server, bucket: Bucket
) -> None:
    mount = made.keep_mounted(bucket.name, server.connection, MountOptions(True))
    code = "import sys; file = open(sys.argv[1], 'w'); file.write('half of it'); "
    code += "file.flush(); print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(mount.point / "x")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"\n"
        kill(mount)
        writer.kill()
    assert unsent(mount) == ["x"]
    sweep(made.root, made.cache_dir)
    with pytest.raises(NotUploaded, match="s3fs died while x was open"):
        made.unmount(connection=server.connection)
    assert (mount.cache / bucket.name / "x").read_text() == "half of it"
    # The user has looked at it, and put it into the bucket.
    bucket.write("x", "half of it")
    made.unmount(connection=server.connection)
    assert_clean(made)


def test_what_was_replaced_since_is_not_replaced_by_what_is_older(
    made: Mounts, server: Server, bucket: Bucket
) -> None:
    mount = made.keep_mounted(bucket.name, server.connection, MountOptions(True))
    (mount.point / "x").write_text("old")
    fusermount(mount)
    wait_for_end(mount)
    listing = list_file(mount, "x")
    listing.write_text(listing.read_text().replace("0:3:1:0", "0:3:1:1"))
    os.utime(mount.cache / bucket.name / "x", (1000, 1000))
    bucket.write("x", "newer")
    with pytest.raises(NotUploaded, match="was replaced since x was written here"):
        made.unmount(connection=server.connection)
    assert bucket.contents() == {"x": b"newer"}
    unmount_all(made.all(), 1, discarding=True)
    assert bucket.contents() == {"x": b"newer"}
    assert_clean(made)


def test_an_abandoned_mount_to_write_goes_when_nobody_writes(
    made: Mounts, server: Server, bucket: Bucket
) -> None:
    mount = made.mount(bucket.name, server.connection, MountOptions(True))
    replace(mount, owner=Process(2**22 + 1, 0)).save()
    holder = hold(mount.point / "x", "w")
    sweep(made.root)
    assert mount.is_healthy
    let_go(holder)
    sweep(made.root)
    assert_clean(made)


def test_what_lies_below_a_mount_is_never_removed(
    made: Mounts, server: Server, bucket: Bucket, caplog: pytest.LogCaptureFixture
) -> None:
    mount = made.mount(bucket.name, server.connection)
    fusermount(mount)
    wait_for_end(mount)
    mount.point.chmod(0o700)
    (mount.point / "result").write_text("in no bucket")
    with pytest.raises(MountError, match="they are in no bucket; move them"):
        made.unmount()
    replace(mount, owner=Process(2**22 + 1, 0)).save()
    sweep(made.root)
    assert "they are in no bucket" in caplog.text
    (mount.point / "result").unlink()
    made.unmount()
    assert_clean(made)


def test_a_record_that_cannot_be_read_is_no_mount(tmp_path: Path) -> None:
    (tmp_path / RECORD).write_text("{")
    assert Mount.load(tmp_path) is None
    (tmp_path / RECORD).write_text(json.dumps({"bucket": "x"}))
    assert Mount.load(tmp_path) is None


def test_no_secret_is_in_the_command_line_or_the_files(
    made: Mounts, server: Server, bucket: Bucket
) -> None:
    mount = made.mount(bucket.name, server.connection)
    assert mount.daemon is not None
    assert mount.daemon.handle is not None
    command = " ".join(mount.daemon.handle.cmdline())
    assert server.secret_key not in command
    assert server.access_key not in command
    for path in mount.directory.iterdir():
        if path.is_file():
            assert server.secret_key not in path.read_text()


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(S3FuseError, match="apt install s3fs"):
        daemon.require()


def test_a_user_whose_files_belong_to_a_group_can_mount(
    made: Mounts, server: Server, bucket: Bucket
) -> None:
    bucket.write("x", "content")
    before = os.umask(0o002)
    try:
        mount = made.mount(bucket.name, server.connection)
        assert (mount.point / "x").read_text() == "content"
        assert made.all() == [mount]
        made.unmount()
    finally:
        os.umask(before)
    assert not mount.cache.exists()
    assert not mount.directory.exists()


def test_what_is_started_ahead_becomes_the_first_mount(
    made: Mounts, server: Server, bucket: Bucket
) -> None:
    bucket.write("x", "content")
    made.prepare()
    made.prepare()
    (keeper,) = [
        each for each in psutil.Process().children() if "s3fuse.gateway.keeper" in each.cmdline()
    ]
    mount = made.mount(bucket.name, server.connection)
    assert mount.keeper
    assert mount.keeper.pid == keeper.pid
    assert (mount.point / "x").read_text() == "content"
    made.unmount_own()
    assert_clean(made)


@pytest.mark.parametrize("victim", ["nobody", "the keeper"])
def test_what_was_started_ahead_for_nothing_ends(
    made: Mounts, server: Server, bucket: Bucket, victim: str
) -> None:
    made.prepare()
    (keeper,) = [
        each for each in psutil.Process().children() if "s3fuse.gateway.keeper" in each.cmdline()
    ]
    if victim == "the keeper":
        keeper.kill()
        bucket.write("x", "content")
        mount = made.mount(bucket.name, server.connection)
        assert (mount.point / "x").read_text() == "content"
    made.unmount_own()
    assert not psutil.pid_exists(keeper.pid)
    assert_clean(made)
