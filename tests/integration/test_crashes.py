"""A run that is cut leaves the bucket whole; the next one takes down what it left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from conftest import (
    Bucket,
    daemons,
    mounted,
    output_of,
    s3fuse,
    snakemake,
    snakemake_command,
    wait_for,
)
from s3fuse.embedded_server import Server
from s3fuse.gateway.keeper import GATEWAY, KEEPER

pytestmark = pytest.mark.fuse

SMALL = Path(__file__).parent / "small.smk"
OPTIONS = ("--cores", "2", "--storage-s3fuse-access", "mount", "--rerun-incomplete")


def words(command: str, bucket: Bucket, *options: str, snakefile: Path = SMALL) -> list[str]:
    config = [
        f"command={command}",
        f"input={bucket.url}/in.txt",
        f"outputs=[{bucket.url}/out.txt]",
    ]
    return ["--snakefile", str(snakefile), *OPTIONS, *options, "--config", *config]


def assert_clean() -> None:
    for _ in range(50):
        if not mounted() and not any(each.startswith("s3fs") for each in daemons()):
            break
        time.sleep(0.1)
    assert mounted() == []
    assert [each for each in daemons() if each.startswith("s3fs")] == []
    runtime = Path(os.environ["XDG_RUNTIME_DIR"])
    assert [path for path in runtime.rglob("*") if path.is_file()] == []


class Running:
    """A run whose job waits in the middle, with its input mounted and its output half written."""

    def __init__(self, workdir: Path, server: Server, bucket: Bucket, *options: str) -> None:
        bucket.write("in.txt", "content")
        bucket.write("out.txt", "old")
        self.workdir, self.server, self.bucket = workdir, server, bucket
        mark = workdir / "mark"
        # Nothing but the last program is ever waited for by the shell: a SIGINT that comes while
        # bash waits for a program that ends well by itself would go unheard.
        command = f"echo half > $OUTPUTS; : > {mark}; exec sleep 60"
        self.process = subprocess.Popen(
            snakemake_command(*words(command, bucket, "--forcerun", "step", *options)),
            cwd=workdir,
            env={**os.environ, **server.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # A terminal's Ctrl-C reaches all of the group.
            process_group=0,
        )
        deadline = time.monotonic() + 30
        while not mark.exists():
            assert self.process.poll() is None, self.process.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert len(mounted()) == 1

    def end(self) -> str:
        try:
            text, _ = self.process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            text, _ = self.process.communicate()
            pytest.fail(f"the run did not end: {text}")
        return text

    def kill_jobs(self) -> None:
        for child in psutil.Process(self.process.pid).children(recursive=True):
            if child.name() not in (KEEPER, GATEWAY, "s3fs"):
                child.kill()

    def run_again(self) -> subprocess.CompletedProcess[str]:
        return snakemake(
            self.workdir,
            *words("cp $INPUT $OUTPUTS", self.bucket, "--forcerun", "step"),
            environment=self.server.environment,
        )

    def assert_old_and_then_new(self) -> None:
        assert self.bucket.keys() == ["in.txt", "out.txt"]
        assert (self.bucket.folder / "out.txt").read_text() == "old"
        again = self.run_again()
        assert again.returncode == 0, output_of(again)
        assert (self.bucket.folder / "out.txt").read_text() == "content"
        assert self.bucket.keys() == ["in.txt", "out.txt"]
        assert_clean()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("options", [(), ("--no-hooks",)], ids=["", "no hooks"])
def test_a_signal_unmounts(
    tmp_path: Path,
    server: Server,
    bucket: Bucket,
    number: signal.Signals,
    options: tuple[str, ...],
) -> None:
    running = Running(tmp_path, server, bucket, *options)
    if number == signal.SIGINT:
        os.killpg(running.process.pid, number)
    else:
        running.process.send_signal(number)
        running.kill_jobs()
    text = running.end()
    assert running.process.returncode != 0
    assert "Traceback" not in text
    assert_clean()
    running.assert_old_and_then_new()


def test_killed_with_its_job(tmp_path: Path, server: Server, bucket: Bucket) -> None:
    running = Running(tmp_path, server, bucket)
    os.killpg(running.process.pid, signal.SIGKILL)
    running.end()
    # The keeper of a mount notices; the next run removes what else is left.
    wait_for(lambda: mounted() == [])
    snakemake_unlock(running)
    running.assert_old_and_then_new()


def test_the_daemon_killed_under_a_job(tmp_path: Path, server: Server, bucket: Bucket) -> None:
    running = Running(tmp_path, server, bucket)
    (daemon,) = (
        each
        for each in psutil.Process(running.process.pid).children(recursive=True)
        if each.name() == "s3fs"
    )
    daemon.kill()
    os.killpg(running.process.pid, signal.SIGINT)
    running.end()
    assert_clean()
    running.assert_old_and_then_new()


def snakemake_unlock(running: Running) -> None:
    """Snakemake's own lock of a killed run; ours need no such thing."""
    arguments = words("true", running.bucket, "--unlock")
    unlocked = snakemake(running.workdir, *arguments, environment=running.server.environment)
    assert unlocked.returncode == 0, output_of(unlocked)


def test_an_error_in_the_snakefile_and_in_a_hook(
    tmp_path: Path, server: Server, bucket: Bucket
) -> None:
    bucket.write("in.txt", "content")
    for number, code in enumerate(
        ("onsuccess:\n    raise ValueError('in the hook')\n", "raise ValueError('in the file')\n")
    ):
        snakefile = tmp_path / f"{number}.smk"
        snakefile.write_text(f"{SMALL.read_text()}\n\n{code}")
        run = snakemake(
            tmp_path,
            *words("cp $INPUT $OUTPUTS", bucket, snakefile=snakefile),
            environment=server.environment,
        )
        assert run.returncode != 0
        assert "ValueError" in output_of(run)
        assert_clean()


def test_two_runs_in_two_directories_do_not_disturb_each_other(
    tmp_path: Path, server: Server, bucket: Bucket
) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    running = Running(tmp_path / "one", server, bucket)
    other = snakemake(
        tmp_path / "two",
        *words("cp $INPUT $OUTPUTS", bucket, "--forcerun", "step"),
        environment=server.environment,
    )
    assert other.returncode == 0, output_of(other)
    assert len(mounted()) == 1
    os.killpg(running.process.pid, signal.SIGINT)
    running.end()
    assert_clean()


def test_a_mount_by_hand_outlives_the_run_beside_it(
    tmp_path: Path, server: Server, bucket: Bucket
) -> None:
    running = Running(tmp_path, server, bucket)
    made = s3fuse("mount", str(bucket.url), workdir=tmp_path, environment=server.environment)
    assert made.returncode == 0, made.stderr
    point = Path(made.stdout.strip())
    os.killpg(running.process.pid, signal.SIGINT)
    running.end()
    assert (point / "in.txt").read_text() == "content"
    assert s3fuse("unmount", workdir=tmp_path).returncode == 0
    assert_clean()


def test_two_runs_in_one_directory_read_what_each_has_planned(
    tmp_path: Path, server: Server, bucket: Bucket
) -> None:
    """The first is at work when the input is replaced and the second starts, and ends first."""
    bucket.write("in.txt", "1" * 1000)
    mark = tmp_path / "mark"
    commands = {
        "first": f"cp $INPUT $OUTPUTS; : > {mark}; sleep 4",
        "second": "cp $INPUT $OUTPUTS; sleep 6; cmp $INPUT $OUTPUTS",
    }
    runs = {}
    for name, command in commands.items():
        if name == "second":
            wait_for(mark.exists)
            bucket.write("in.txt", "2" * 1000)
        config = [f"command={command}", f"input={bucket.url}/in.txt"]
        config.append(f"outputs=[{bucket.url}/{name}.txt]")
        runs[name] = subprocess.Popen(
            snakemake_command("--snakefile", str(SMALL), *OPTIONS, "--nolock", "--config", *config),
            cwd=tmp_path,
            env={**os.environ, **server.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    said = {name: run.communicate(timeout=60)[0] for name, run in runs.items()}
    assert {name: run.returncode for name, run in runs.items()} == {"first": 0, "second": 0}, said
    assert (bucket.folder / "first.txt").read_text() == "1" * 1000
    assert (bucket.folder / "second.txt").read_text() == "2" * 1000
    assert_clean()


@pytest.mark.parametrize("access", ["mount", "copy"])
@pytest.mark.parametrize("when", ["before it is read", "while it is read"])
def test_an_input_that_is_replaced_during_the_run(
    tmp_path: Path, server: Server, bucket: Bucket, access: str, when: str
) -> None:
    bucket.write("in.txt", "first")
    bucket.write("new.txt", "second, and longer")
    bucket.write("out.txt", "old")
    # What another program does, at the worst moment.
    script = tmp_path / "replace.py"
    script.write_text(
        "from s3fuse import Store\n"
        "from s3fuse.s3.connection import Connection\n"
        "files = Store(Connection.from_environment()).filesystem\n"
        f"files.copy('{bucket.name}/new.txt', '{bucket.name}/in.txt')\n"
    )
    replace = f"{sys.executable} {script}"
    snakefile = tmp_path / "Snakefile"
    text = SMALL.read_text()
    if when == "before it is read":
        text += f"\n\nonstart:\n    shell({replace!r})\n"
        command = "cp $INPUT $OUTPUTS"
    else:
        command = f"cp $INPUT $OUTPUTS; {replace}"
    snakefile.write_text(text)
    arguments = words(command, bucket, "--forcerun", "step", snakefile=snakefile)
    arguments[arguments.index("mount")] = access
    run = snakemake(tmp_path, *arguments, environment=server.environment)
    result = (bucket.folder / "out.txt").read_text()
    if when == "while it is read":
        # What was planned had come, so the result is right for what the input was.
        assert (run.returncode, result) == (0, "first"), output_of(run)
    else:
        assert run.returncode != 0
        assert f"{bucket.url}/in.txt was replaced" in output_of(run)
        assert "start the run again" in output_of(run)
        assert result == "old"
    assert_clean()
