"""The command ``s3fuse``, as typed."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from conftest import Bucket, mounted, s3fuse
from fault_proxy import proxied
from s3fuse.embedded_server import Server

pytestmark = pytest.mark.fuse


def mount_to_write(bucket: Bucket, workdir: Path, environment: dict[str, str]) -> Path:
    words = ("mount", "--read-write", str(bucket.url))
    made = s3fuse(*words, workdir=workdir, environment=environment)
    assert made.returncode == 0, made.stderr
    return Path(made.stdout.strip())


def test_mount_and_unmount_by_hand(tmp_path: Path, server: Server, bucket: Bucket) -> None:
    bucket.write("x.txt", "content")
    made = s3fuse("mount", str(bucket.url), workdir=tmp_path, environment=server.environment)
    assert made.returncode == 0, made.stderr
    point = Path(made.stdout.strip())
    assert (point / "x.txt").read_text() == "content"
    status = s3fuse("status", workdir=tmp_path)
    assert status.stdout == f"{bucket.url}\tread-only\thealthy\t{point}\n"
    assert s3fuse("status", workdir=tmp_path.parent).stdout == ""
    assert s3fuse("unmount", str(bucket.url), workdir=tmp_path).returncode == 0
    assert mounted() == []
    assert not point.exists()
    again = s3fuse("unmount", workdir=tmp_path)
    assert again.returncode == 0
    assert again.stderr.startswith("Nothing is mounted for this directory; `s3fuse status --all`")


def test_a_folder_and_a_mount_seen_from_elsewhere(
    tmp_path: Path, server: Server, bucket: Bucket
) -> None:
    bucket.write("tas/x.txt", "content")
    (tmp_path / "here").mkdir()
    made = s3fuse(
        *("mount", f"{bucket.url}/tas/"),
        workdir=tmp_path / "here",
        environment=server.environment,
    )
    folder = Path(made.stdout.strip())
    assert [path.name for path in folder.iterdir()] == ["x.txt"]
    rows = json.loads(s3fuse("status", "--all", "--json", workdir=tmp_path).stdout)
    assert [(row["url"], row["directory"]) for row in rows] == [
        (str(bucket.url), str(tmp_path / "here"))
    ]
    # By what `mount` has printed.
    unmounted = s3fuse("unmount", str(folder), workdir=tmp_path)
    assert (unmounted.returncode, unmounted.stderr) == (0, f"Unmounted {bucket.url}.\n")
    assert mounted() == []


def test_what_was_written_is_in_the_bucket_after_unmount(
    tmp_path: Path, server: Server, bucket: Bucket
) -> None:
    point = mount_to_write(bucket, tmp_path, server.environment)
    files = {f"{number}.bin": os.urandom(10_000 * number) for number in range(1, 51)}
    for name, content in files.items():
        (point / name).write_bytes(content)
    assert s3fuse("unmount", workdir=tmp_path).returncode == 0
    assert bucket.contents() == files
    assert mounted() == []


def test_what_could_not_be_uploaded_is_named_kept_and_uploaded_later(
    tmp_path: Path, server: Server, bucket: Bucket
) -> None:
    with proxied(server.endpoint_url) as proxy:
        environment = replace(server, endpoint_url=proxy.endpoint_url).environment
        point = mount_to_write(bucket, tmp_path, environment)
        (point / "before.txt").write_text("uploaded")
        files = [(point / name).open("w") for name in ("a.txt", "b.txt")]
        for file in files:
            file.write("x" * 100_000)
        proxy.drop(300)
        with ThreadPoolExecutor(2) as pool:
            for closed in [pool.submit(file.close) for file in files]:
                with pytest.raises(OSError, match="Input/output error"):
                    closed.result()

        for words in (["unmount"], ["unmount", str(point)], ["clean"]):
            run = s3fuse(*words, workdir=tmp_path, environment=environment)
            assert f"Not uploaded to {bucket.url} yet: a.txt, b.txt." in run.stderr
            assert run.returncode == (words != ["clean"])
            assert "Traceback" not in run.stderr
        status = s3fuse("status", workdir=tmp_path).stdout
        assert "  not uploaded: a.txt, b.txt\n" in status
        # Somebody else cannot send them elsewhere.
        elsewhere = s3fuse("unmount", workdir=tmp_path, environment=server.environment)
        assert "needs the endpoint and keys" in elsewhere.stderr
        assert bucket.keys() == ["before.txt"]

        proxy.drop(0)
        run = s3fuse("unmount", workdir=tmp_path, environment=environment)
        assert run.returncode == 0, run.stderr
    written = b"x" * 100_000
    assert bucket.contents() == {"a.txt": written, "b.txt": written, "before.txt": b"uploaded"}
    assert s3fuse("status", workdir=tmp_path).stdout == ""
    assert mounted() == []


def test_a_terminal_shows_what_is_waited_for(
    tmp_path: Path, server: Server, bucket: Bucket
) -> None:
    point = mount_to_write(bucket, tmp_path, server.environment)
    ours, terminal = pty.openpty()
    with (point / "out.txt").open("w") as file:
        unmounting = subprocess.Popen(
            [sys.executable, "-m", "s3fuse", "unmount"],
            cwd=tmp_path,
            env={**os.environ, **server.environment, "TERM": "xterm", "COLUMNS": "200"},
            stderr=terminal,
        )
        os.close(terminal)
        shown = ""
        while "0:00:02" not in shown:
            shown += os.read(ours, 1000).decode()
        file.write("whole")
    assert unmounting.wait(30) == 0
    os.close(ours)
    assert f"Unmounting {bucket.url}" in shown
    assert f"(pid {os.getpid()}) at out.txt; trying to unmount it for up to 60 s." in shown
    assert bucket.contents() == {"out.txt": b"whole"}


def test_a_notebook_that_uses_a_mount_keeps_it(
    tmp_path: Path, server: Server, bucket: Bucket
) -> None:
    bucket.write("x.txt", "content")
    code = "import s3fuse, sys\n"
    code += "with s3fuse.mounted(sys.argv[1]) as path: print(path, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(bucket.url)],
        cwd=tmp_path,
        env={**os.environ, **server.environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as notebook:
        assert notebook.stdout
        point = Path(notebook.stdout.readline().strip())
        busy = s3fuse("unmount", "--timeout", "1", workdir=tmp_path)
        assert busy.returncode == 1
        assert f"(pid {notebook.pid})" in busy.stderr
        assert s3fuse("clean", workdir=tmp_path).returncode == 0
        assert (point / "x.txt").read_text() == "content"
        notebook.communicate("\n")
    assert mounted() == []


SHELLS = {
    "bash": 'eval "$(s3fuse completion bash)"; COMP_WORDS=(s3fuse un); COMP_CWORD=1; '
    "_s3fuse_completion s3fuse; echo ${COMPREPLY[@]}",
    # The function of zsh works in its line editor only, so what it calls is asked.
    "zsh": "autoload -U compinit; compinit -u; "
    'eval "$(s3fuse completion zsh)"; (( $+functions[_s3fuse_completion] )) && '
    'COMP_WORDS="s3fuse un" COMP_CWORD=1 _S3FUSE_COMPLETE=zsh_complete s3fuse',
    "fish": 's3fuse completion fish | source; complete --do-complete "s3fuse un"',
}


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.skipif(not shutil.which("zsh") or not shutil.which("fish"), reason="no such shell")
def test_shells_complete_the_command(tmp_path: Path, shell: str) -> None:
    scripts = sysconfig.get_path("scripts")
    run = subprocess.run(
        [shell, "-c", SHELLS[shell]],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{scripts}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "unmount" in run.stdout, run.stderr


def test_a_busy_read_write_mount_stays_and_the_status_says_so(
    tmp_path: Path, server: Server, bucket: Bucket
) -> None:
    point = mount_to_write(bucket, tmp_path, server.environment)
    with (point / "out.txt").open("w") as file:
        file.write("half")
        with subprocess.Popen(["cat"], stdin=subprocess.PIPE, cwd=point) as holder:
            busy = s3fuse("unmount", "--timeout", "1", workdir=tmp_path)
            assert busy.returncode == 1
            assert f"cat (pid {holder.pid})" in busy.stderr
            assert f"-u {point}" in busy.stderr
            assert "Traceback" not in busy.stderr
        file.write(" and half")
    assert s3fuse("unmount", workdir=tmp_path).returncode == 0
    assert (bucket.folder / "out.txt").read_text() == "half and half"
    assert mounted() == []


@pytest.mark.parametrize(
    ("words", "status", "sentence"),
    [
        (["mount", "data"], 2, "s3fuse: 'data' is no S3 URL; write s3://"),
        (["mount", "s3://data/x"], 2, "is an object; name its folder or bucket, as in s3://data."),
        (["unmount", "data"], 2, "'data' is neither s3://BUCKET nor in a mount; `s3fuse status"),
        (["mount", "s3://not-there"], 1, "s3fuse: There is no bucket s3://not-there"),
        (["mount"], 2, "Missing argument"),
        (["serve", "--", "no-such-program"], 2, "no-such-program cannot be run"),
    ],
)
def test_mistakes_get_a_sentence_and_a_status(
    tmp_path: Path, server: Server, words: list[str], status: int, sentence: str
) -> None:
    run = s3fuse(*words, workdir=tmp_path, environment=server.environment)
    assert run.returncode == status
    assert sentence in run.stderr
    assert "Traceback" not in run.stderr


def test_serve_gives_its_command_a_store_and_its_status_back(tmp_path: Path) -> None:
    (tmp_path / "data/my-bucket").mkdir(parents=True)
    (tmp_path / "data/my-bucket/x.txt").write_text("content")
    code = "from s3fuse import Connection, Store, S3Url; import sys; "
    code += "store = Store(Connection.from_environment()); "
    code += "sys.exit(store.head(S3Url('my-bucket', 'x.txt')).size)"
    run = s3fuse("serve", "--data", "data", "--", sys.executable, "-c", code, workdir=tmp_path)
    assert run.returncode == 7, run.stderr


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_server_never_outlives_the_command(tmp_path: Path, number: signal.Signals) -> None:
    words = [sys.executable, "-m", "s3fuse", "serve", "--data", "data", "--", "cat"]
    serve = subprocess.Popen(
        words, cwd=tmp_path, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert serve.stderr is not None
    assert serve.stdin is not None
    assert "Serving data at http://127.0.0.1:" in serve.stderr.readline()
    children = psutil.Process(serve.pid).children()
    while len(children) < 2:
        time.sleep(0.05)
        children = psutil.Process(serve.pid).children()
    servers = [child for child in children if child.name() == "rclone"]
    assert len(servers) == 1
    serve.send_signal(number)
    serve.wait(20)
    gone, alive = psutil.wait_procs(servers, timeout=20)
    assert (len(gone), alive) == (1, [])
    serve.stdin.close()
    serve.stderr.close()
