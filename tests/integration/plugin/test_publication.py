"""Whole runs: outputs of a job together, folders complete, local files that can be trusted."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from conftest import Bucket, mounted, output_of, snakemake, snakemake_command, wait_for
from fault_proxy import Faults, Proxy, Request
from s3fuse.embedded_server import Server
from s3fuse.publish.manifest import NAME as MANIFEST

pytestmark = pytest.mark.fuse

HEAD = """\
storage s3:
    provider="s3fuse",


"""


class Workflow:
    """A Snakefile in a directory, on one bucket."""

    def __init__(self, folder: Path, bucket: Bucket, server: Server, text: str) -> None:
        self.folder, self.bucket = folder, bucket
        # What killed runs note there is no business of other tests.
        (folder / "run").mkdir(mode=0o700)
        self.environment = {**server.environment, "XDG_RUNTIME_DIR": str(folder / "run")}
        self.text = HEAD + text.replace("BUCKET", bucket.name)

    def prepare(self, name: str) -> Path:
        workdir = self.folder / name
        workdir.mkdir(exist_ok=True)
        (workdir / "Snakefile").write_text(self.text)
        return workdir

    def run(self, name: str, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return snakemake(
            self.prepare(name), "--cores", "1", *words, environment=self.environment | environment
        )

    def right(self, name: str, *words: str) -> str:
        run = self.run(name, *words)
        assert run.returncode == 0, output_of(run)
        return output_of(run)

    def start(self, name: str, *words: str, **environment: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            snakemake_command("--cores", "1", *words),
            cwd=self.prepare(name),
            env={**os.environ, **self.environment, **environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def contents(self) -> dict[str, str]:
        """The objects but the project's own."""
        return {
            key: body.decode()
            for key, body in self.bucket.contents().items()
            if not key.rpartition("/")[2].startswith(".s3fuse-")
        }


def endpoint(proxy: Proxy) -> dict[str, str]:
    return {"SNAKEMAKE_STORAGE_S3FUSE_ENDPOINT_URL": proxy.endpoint_url}


def kill(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


TWO = """\
rule all:
    input:
        storage.s3("s3://BUCKET/sum.txt"),


rule two:
    input:
        storage.s3("s3://BUCKET/in.txt"),
    output:
        storage.s3("s3://BUCKET/o1.txt"),
        storage.s3("s3://BUCKET/deep/o2.txt"),
    shell:
        "for f in {output}; do cp {input} $f; done"


rule sum:
    input:
        storage.s3("s3://BUCKET/o1.txt"),
        storage.s3("s3://BUCKET/deep/o2.txt"),
    output:
        storage.s3("s3://BUCKET/sum.txt"),
    shell:
        "cat {input} > {output}"
"""


#: What is in the bucket when all is made of the second version of the input.
SECOND = {"in.txt": "2", "o1.txt": "2", "deep/o2.txt": "2", "sum.txt": "22"}


def replaced(bucket: Bucket, key: str, content: str) -> None:
    """Replace an object, with a time that is later by a second at least."""
    time.sleep(1.1)
    bucket.write(key, content)


def test_when_the_second_output_is_refused_the_first_stays(
    tmp_path: Path, bucket: Bucket, server: Server, proxy: Proxy
) -> None:
    bucket.write("in.txt", "1")
    workflow = Workflow(tmp_path, bucket, server, TWO)
    workflow.right("clone")
    before = workflow.contents()
    replaced(bucket, "in.txt", "2")
    proxy.faults = Faults(
        refuse=lambda asked: "AccessDenied" if asked.method == "PUT" and "o2" in asked.key else None
    )
    run = workflow.run("clone", **endpoint(proxy))
    assert run.returncode == 1
    assert "Not allowed to write" in output_of(run)
    assert workflow.contents() == {**before, "in.txt": "2"}
    workflow.right("clone")
    assert workflow.contents() == {
        "in.txt": "2",
        "o1.txt": "2",
        "deep/o2.txt": "2",
        "sum.txt": "22",
    }


WRITTEN = """\
rule two:
    output:
        storage.s3("s3://BUCKET/o1.txt"),
        storage.s3("s3://BUCKET/deep/o2.txt"),
    params:
        config.get("content", "new"),
    shell:
        "for f in {output}; do printf {params} > $f; done"
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", range(1, 7))
def test_killed_at_any_completing_request_a_fresh_clone_repairs(
    tmp_path: Path, bucket: Bucket, server: Server, proxy: Proxy, number: int
) -> None:
    workflow = Workflow(tmp_path, bucket, server, WRITTEN)
    workflow.right("clone", "--config", "content=old")
    seen: list[Request] = []

    def stall(asked: Request) -> bool:
        # The records in two folders, two completions, and the removal of the records.
        changes = asked.method in ("PUT", "POST", "DELETE") and "partNumber" not in asked.query
        if changes and "uploads" not in asked.query:
            seen.append(asked)
        return len(seen) >= number

    proxy.faults = Faults(stall=stall)
    process = workflow.start("clone", "--forcerun", "two", **endpoint(proxy))
    wait_for(lambda: len(seen) >= number or process.poll() is not None)
    kill(process)
    proxy.faults = Faults()
    left = workflow.contents()
    # Only the bucket tells what has happened.
    workflow.right("fresh")
    found = set(workflow.contents().values())
    assert found == ({"new"} if len(set(left.values())) == 2 else set(left.values()))
    # Whether something was left or not, a run that is meant to makes both.
    workflow.right("fresh", "--forcerun", "two", "--config", "content=last")
    assert set(workflow.contents().values()) == {"last"}
    assert len(bucket.keys()) == 2


PARTS = """\
rule all:
    input:
        storage.s3("s3://BUCKET/sum.txt"),


rule parts:
    input:
        storage.s3("s3://BUCKET/in.txt"),
    output:
        storage.s3("s3://BUCKET/parts/"),
    shell:
        "mkdir -p {output}; for i in 1 2 3 4 5 6; do cp {input} {output}/$i; done;"
        " cp {input} {output}/only-$(cat {input})"


rule sum:
    input:
        storage.s3("s3://BUCKET/parts/"),
    output:
        storage.s3("s3://BUCKET/sum.txt"),
    shell:
        "cat {input}/? > {output}"
"""


def parts(content: str) -> dict[str, str]:
    folder = {f"parts/{number}": content for number in range(1, 7)}
    return {**folder, f"parts/only-{content}": content}


def test_a_folder_is_replaced_and_objects_of_others_survive(
    tmp_path: Path, bucket: Bucket, server: Server
) -> None:
    bucket.write("in.txt", "1")
    bucket.write("parts/of-a-colleague", "mine")
    workflow = Workflow(tmp_path, bucket, server, PARTS)
    workflow.right("clone")
    assert f"parts/{MANIFEST}" in bucket.contents()
    assert "Nothing to be done" in workflow.right("clone")
    assert "Nothing to be done" in workflow.right("fresh")
    replaced(bucket, "in.txt", "2")
    workflow.right("clone")
    found = workflow.contents()
    assert found.pop("sum.txt") == "222222"
    assert found == {**parts("2"), "in.txt": "2", "parts/of-a-colleague": "mine"}


def test_objects_of_others_do_not_make_a_folder(
    tmp_path: Path, bucket: Bucket, server: Server
) -> None:
    bucket.write("in.txt", "1")
    bucket.write("parts/1", "of somebody else")
    workflow = Workflow(tmp_path, bucket, server, PARTS)
    text = workflow.right("clone")
    assert f"s3://{bucket.name}/parts/ has objects and no manifest" in text
    assert workflow.contents()["parts/1"] == "1"


@pytest.mark.slow
@pytest.mark.parametrize("before", ["nothing", "old"])
@pytest.mark.parametrize("how", ["killed", "refused"])
def test_a_folder_that_is_cut_is_made_again_from_a_fresh_clone(
    tmp_path: Path, bucket: Bucket, server: Server, proxy: Proxy, before: str, how: str
) -> None:
    bucket.write("in.txt", "1")
    workflow = Workflow(tmp_path, bucket, server, PARTS)
    if before == "old":
        workflow.right("clone")
        replaced(bucket, "in.txt", "2")
    content = "2" if before == "old" else "1"
    changed: list[str] = []

    def is_fourth(asked: Request) -> bool:
        completes = asked.method == "POST" and "uploadId" in asked.query
        if asked.key.startswith("parts/") and ".s3fuse" not in asked.key:
            if completes or (asked.method == "PUT" and "partNumber" not in asked.query):
                changed.append(asked.key)
            return len(changed) > 3
        return False

    if how == "killed":
        proxy.faults = Faults(stall=is_fourth)
        process = workflow.start("clone", **endpoint(proxy))
        wait_for(lambda: len(changed) > 3)
        kill(process)
    else:
        proxy.faults = Faults(refuse=lambda a: "AccessDenied" if is_fourth(a) else None)
        assert workflow.run("clone", **endpoint(proxy)).returncode == 1
    proxy.faults = Faults()
    workflow.right("fresh")
    found = workflow.contents()
    assert found.pop("sum.txt") == content * 6
    assert found == {**parts(content), "in.txt": content}


def test_a_folder_that_fails_before_it_changes_is_as_before(
    tmp_path: Path, bucket: Bucket, server: Server, proxy: Proxy
) -> None:
    bucket.write("in.txt", "1")
    workflow = Workflow(tmp_path, bucket, server, PARTS)
    workflow.right("clone")
    replaced(bucket, "in.txt", "2")
    before = bucket.contents()
    proxy.faults = Faults(
        refuse=lambda a: "AccessDenied" if a.method == "PUT" and a.key == "parts/4" else None
    )
    assert workflow.run("clone", **endpoint(proxy)).returncode == 1
    assert bucket.contents() == before


FORCED = """\
rule all:
    input:
        storage.s3(f"s3://BUCKET/{config['content']}"),
        storage.s3("s3://BUCKET/tas/"),


rule first:
    output:
        storage.s3(f"s3://BUCKET/{config['content']}"),
    shell:
        "touch {output}"


rule folder:
    output:
        storage.s3("s3://BUCKET/tas/"),
    params:
        content=config["content"],
        wait=config.get("wait", "false"),
    shell:
        "mkdir -p {output}; printf {params.content} > {output}/x;"
        " while {params.wait} && [ ! -e ../go ]; do touch ../waits; sleep 0.1; done"
"""


def test_a_forced_output_does_not_replace_what_was_published_since_the_plan(
    tmp_path: Path, bucket: Bucket, server: Server
) -> None:
    # With it, the listing around the folder does not tell that the folder is empty.
    bucket.write("tas/foreign", "foreign")
    workflow = Workflow(tmp_path, bucket, server, FORCED)
    process = workflow.start("a", "--forceall", "--config", "content=a", "wait=true")
    wait_for(lambda: (tmp_path / "waits").exists())
    workflow.right("b", "--forceall", "--config", "content=b")
    (tmp_path / "go").touch()
    assert process.wait(100) == 1
    assert workflow.contents()["tas/x"] == "b"


LEFTOVER = """\
rule all:
    input:
        storage.s3("s3://BUCKET/used.txt"),


rule make:
    input:
        storage.s3("s3://BUCKET/in.txt"),
    output:
        storage.s3("s3://BUCKET/out.txt"),
    params:
        config.get("seconds", 0),
    shell:
        "printf half > {output}; sleep {params}; printf ' and whole' >> {output}"


rule use:
    input:
        storage.s3("s3://BUCKET/out.txt"),
    output:
        storage.s3("s3://BUCKET/used.txt"),
    shell:
        "cp {input} {output}"
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        ["--nolock"],
        ["--nolock", "--rerun-incomplete"],
        ["--nolock", "--ignore-incomplete", "--rerun-triggers", "mtime"],
        ["unlock", "--ignore-incomplete", "--rerun-triggers", "mtime"],
        ["unlock", "--rerun-incomplete"],
    ],
    ids=" ".join,
)
def test_what_a_killed_job_has_left_on_disk_is_never_read(
    tmp_path: Path, bucket: Bucket, server: Server, options: list[str]
) -> None:
    bucket.write("in.txt", "1")
    workflow = Workflow(tmp_path, bucket, server, LEFTOVER)
    workflow.right("clone", "--until", "make")
    process = workflow.start(
        "clone", "--until", "make", "--forcerun", "make", "--config", "seconds=60"
    )
    local = tmp_path / "clone/.snakemake/storage"
    wait_for(lambda: any(p.read_text() == "half" for p in local.glob("**/out.txt")))
    kill(process)
    if options[0] == "unlock":
        workflow.run("clone", "--unlock")
        options = options[1:]
    run = workflow.run("clone", *options)
    if run.returncode == 0:
        assert workflow.contents()["used.txt"] == "half and whole"
    else:
        assert "used.txt" not in workflow.contents()
    workflow.right("clone", "--nolock", "--rerun-incomplete")
    assert workflow.contents()["used.txt"] == "half and whole"


COPIES = """\
rule all:
    input:
        [storage.s3(f"s3://BUCKET/out/{config['which']}/{i}.txt") for i in range(20)],


rule copy:
    input:
        storage.s3("s3://BUCKET/{which}/{i}.txt"),
    output:
        storage.s3("s3://BUCKET/out/{which}/{i}.txt"),
    shell:
        "sleep 0.02; cp {input} {output}"
"""


@pytest.mark.parametrize("share", ["directory", "prefix"])
def test_runs_at_the_same_time_do_not_touch_each_others_files(
    tmp_path: Path, bucket: Bucket, server: Server, share: str
) -> None:
    for which in "ab":
        for number in range(20):
            bucket.write(f"{which}/{number}.txt", f"{which} {number}")
    workflow = Workflow(tmp_path, bucket, server, COPIES)
    words = ["--nolock"]
    words += ["--local-storage-prefix", str(tmp_path / "prefix")] if share == "prefix" else []
    runs = [
        workflow.start(f"clone-{w if share == 'prefix' else 1}", *words, "--config", f"which={w}")
        for w in "ab"
    ]
    assert [run.wait(200) for run in runs] == [0, 0]
    expected = {f"out/{w}/{n}.txt": f"{w} {n}" for w in "ab" for n in range(20)}
    assert {k: v for k, v in workflow.contents().items() if k.startswith("out")} == expected
    assert mounted() == []


EDITED = """\
rule all:
    input:
        storage.s3("s3://BUCKET/o2.txt"),


rule one:
    input:
        storage.s3("s3://BUCKET/in.txt"),
    output:
        storage.s3("s3://BUCKET/o1.txt"),
    shell:
        "EDIT; cp {input} {output}"


rule two:
    input:
        storage.s3("s3://BUCKET/in.txt"),
        storage.s3("s3://BUCKET/o1.txt"),
    output:
        storage.s3("s3://BUCKET/o2.txt"),
    shell:
        "cp {input[0]} {output}"
"""


@pytest.mark.parametrize("edit", ["sed -i s/original/changed/ {input}", "echo more >> {input}"])
def test_a_job_that_edits_its_input_fails_and_changes_nothing(
    tmp_path: Path, bucket: Bucket, server: Server, edit: str
) -> None:
    bucket.write("in.txt", "original")
    time.sleep(1.1)
    workflow = Workflow(tmp_path, bucket, server, EDITED.replace("EDIT", edit))
    run = workflow.run("clone")
    assert run.returncode == 1
    assert f"The local copy of s3://{bucket.name}/in.txt was changed" in output_of(run)
    assert workflow.contents() == {"in.txt": "original"}


@pytest.mark.parametrize(
    "edit", ["echo more >> {input}/deep/a.txt", "touch {input}/new", "rm {input}/deep/a.txt"]
)
def test_a_job_that_edits_a_folder_that_it_reads_fails_and_changes_nothing(
    tmp_path: Path, bucket: Bucket, server: Server, edit: str
) -> None:
    before = {"in/deep/a.txt": "a", "in/b.txt": "b"}
    for key, content in before.items():
        bucket.write(key, content)
    time.sleep(1.1)
    text = EDITED.replace("BUCKET/in.txt", "BUCKET/in/")
    text = text.replace("EDIT; cp {input}", "EDIT; cp {input}/b.txt").replace("EDIT", edit)
    text = text.replace("cp {input[0]}", "cp {input[0]}/b.txt")
    workflow = Workflow(tmp_path, bucket, server, text)
    run = workflow.run("clone")
    assert run.returncode == 1
    assert f"The local copy of s3://{bucket.name}/in/ was changed" in output_of(run)
    assert workflow.contents() == before


KEPT = """\
rule all:
    input:
        storage.s3("s3://BUCKET/out.txt"),


rule step:
    input:
        storage.s3("s3://BUCKET/in.txt"KEEP),
    output:
        storage.s3("s3://BUCKET/out.txt"),
    shell:
        "cp {input} {output}"
"""


@pytest.mark.slow
@pytest.mark.parametrize("access", ["mount", "copy"])
@pytest.mark.parametrize("how", ["flag", "option"])
def test_local_copies_are_kept_where_one_looks_for_them(
    tmp_path: Path, bucket: Bucket, server: Server, access: str, how: str
) -> None:
    bucket.write("in.txt", "content")
    text = KEPT.replace("KEEP", ", keep_local=True" if how == "flag" else "")
    workflow = Workflow(tmp_path, bucket, server, text)
    option = ["--keep-storage-local-copies"] if how == "option" else []
    workflow.right("clone", "--storage-s3fuse-access", access, *option)
    place = tmp_path / "clone/.snakemake/storage/s3" / bucket.name
    kept = {"in.txt"} if how == "flag" else {"in.txt", "out.txt"}
    assert {path.name for path in place.iterdir()} == kept
    assert all(p.read_text() == "content" and not p.is_symlink() for p in place.iterdir())
    # They are for people: the next run reads the object.
    replaced(bucket, "in.txt", "changed")
    workflow.right("clone", "--storage-s3fuse-access", access, *option)
    assert workflow.contents()["out.txt"] == "changed"


def test_touch_brings_outputs_up_to_date(tmp_path: Path, bucket: Bucket, server: Server) -> None:
    bucket.write("in.txt", "1")
    workflow = Workflow(tmp_path, bucket, server, PARTS)
    workflow.right("clone")
    before = workflow.contents()
    replaced(bucket, "in.txt", "2")
    time.sleep(1.1)
    assert "rule parts" in workflow.right("clone", "--dry-run")
    workflow.right("clone", "--touch")
    assert workflow.contents() == {**before, "in.txt": "2"}
    assert "Nothing to be done" in workflow.right("clone", "--dry-run")


def test_protected_outputs_are_refused(tmp_path: Path, bucket: Bucket, server: Server) -> None:
    bucket.write("in.txt", "1")
    text = KEPT.replace("KEEP", "").replace(
        '        storage.s3("s3://BUCKET/out.txt"),\n    shell',
        '        protected(storage.s3("s3://BUCKET/out.txt")),\n    shell',
    )
    run = Workflow(tmp_path, bucket, server, text).run("clone")
    assert run.returncode == 1
    assert "Storage and protected flags are mutually exclusive" in output_of(run)


def test_protected_outputs_of_a_default_storage_are_refused_by_name(
    tmp_path: Path, bucket: Bucket, server: Server
) -> None:
    workflow = Workflow(tmp_path, bucket, server, 'rule all:\n    output: protected("x.txt")\n')
    words = ["--default-storage-provider", "s3fuse", "--default-storage-prefix", str(bucket.url)]
    run = workflow.run("clone", *words)
    assert run.returncode == 1
    assert f"{bucket.url}/x.txt is protected()" in output_of(run)
    assert "Traceback" not in output_of(run)
