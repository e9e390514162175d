"""What goes wrong is said in one sentence, soon, and costs nothing."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import iris
import pytest

from conftest import ROOT, Bucket, MakeBucket, daemons, mounted, output_of, snakemake
from fault_proxy import Faults, proxied
from integration.conftest import SAMPLES, Project
from s3fuse.embedded_server import Server

pytestmark = pytest.mark.fuse

SMALL = Path(__file__).parent / "small.smk"
KEYS = "SNAKEMAKE_STORAGE_S3FUSE_"


def run_step(
    workdir: Path,
    server: Server,
    command: str,
    source: object,
    *outputs: object,
    options: tuple[str, ...] = (),
    environment: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run the small workflow."""
    config = [f"command={command}", f"input={source}", f"outputs=[{','.join(map(str, outputs))}]"]
    return snakemake(
        workdir,
        *("--snakefile", SMALL, "--cores", "2", *options, "--config", *config),
        environment={**server.environment, **(environment or {})},
    )


def assert_no_traceback(text: str) -> None:
    assert "Traceback" not in text
    assert not re.search(r'^  File ".*", line', text, re.MULTILINE), text


@pytest.fixture
def project(tmp_path: Path, bucket: Bucket, make_bucket: MakeBucket) -> Project:
    """The real workflow with one small dataset."""
    bucket.upload(SAMPLES / "pre-industrial.pp", "pre-industrial.pp")
    project = Project(tmp_path, {})
    results = make_bucket()
    project.configure(
        {
            "results": f"s3://{results.name}",
            "datasets": {
                "one": {
                    "title": "One",
                    "files": [f"s3://{bucket.name}/pre-industrial.pp"],
                    "constraint": "air_temperature",
                    "baseline": [1860, 1860],
                }
            },
        }
    )
    project.environment["RESULTS"] = results.name
    return project


def reconfigure(project: Project, old: str, new: str) -> None:
    path = project.workdir / "config/config.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@contextlib.contextmanager
def silent_endpoint() -> Iterator[str]:
    """An endpoint that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.2)
        kept, done = [], threading.Event()

        def accept() -> None:
            while not done.is_set():
                with contextlib.suppress(TimeoutError):
                    kept.append(listener.accept()[0])

        thread = threading.Thread(target=accept)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        done.set()
        thread.join()
        for connection in kept:
            connection.close()


CASES = ["key", "secret", "no bucket", "refuses", "hangs", "no input", "no url", "climbs"]


@pytest.mark.parametrize("case", CASES)
def test_one_sentence_names_the_place_and_the_remedy(
    project: Project, server: Server, bucket: Bucket, data: Path, case: str
) -> None:
    project.environment.update(server.environment)
    hang = contextlib.ExitStack()
    match case:
        case "key":
            project.environment[KEYS + "ACCESS_KEY"] = "WRONG"
            expected = "does not know the access key used for s3://"
        case "secret":
            project.environment[KEYS + "SECRET_KEY"] = "wrong"
            expected = "rejects the secret key used for s3://"
        case "no bucket":
            reconfigure(project, bucket.name, "not-there")
            expected = f"no bucket s3://not-there at {server.endpoint_url}; check its name"
        case "refuses":
            project.environment[KEYS + "ENDPOINT_URL"] = "http://127.0.0.1:9"
            expected = "http://127.0.0.1:9 cannot be reached, so s3://"
        case "hangs":
            url = hang.enter_context(silent_endpoint())
            project.environment[KEYS + "ENDPOINT_URL"] = url
            expected = f"{url} did not answer in time when asked to list s3://"
        case "no input":
            reconfigure(project, "pre-industrial.pp", "pre-industrious.pp")
            expected = f"datasets.one.files: {bucket.url}/pre-industrious.pp is not in the bucket"
        case "no url":
            reconfigure(project, f"s3://{bucket.name}", f"http://{bucket.name}")
            expected = f"'http://{bucket.name}/pre-industrial.pp' is no S3 URL; write s3://"
        case _:
            reconfigure(project, "pre-industrial.pp", "../other/x.pp")
            expected = f"'s3://{bucket.name}/../other/x.pp' has an empty, '.' or '..' part"
    start = time.monotonic()
    with hang:
        run = project.snakemake(timeout=60)
    assert time.monotonic() - start < 30
    text = output_of(run)
    assert run.returncode != 0
    assert expected in text, text
    assert text.count(expected) == 1
    assert_no_traceback(text)
    assert mounted() == []
    assert make_listing(data / project.environment["RESULTS"]) == []
    assert server.secret_key not in text


def make_listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


def test_a_bucket_that_may_be_read_but_not_written(
    tmp_path: Path, server: Server, bucket: Bucket
) -> None:
    bucket.write("in.txt", "content")
    bucket.write("out.txt", "old")
    reading = ("GET", "HEAD")
    faults = Faults(refuse=lambda asked: None if asked.method in reading else "AccessDenied")
    with proxied(server.endpoint_url, faults) as proxy:
        start = time.monotonic()
        run = run_step(
            tmp_path,
            server,
            "cp $INPUT $OUTPUTS",
            f"{bucket.url}/in.txt",
            f"{bucket.url}/new.txt",
            environment={KEYS + "ENDPOINT_URL": proxy.endpoint_url},
        )
        assert time.monotonic() - start < 30
    assert run.returncode != 0
    text = output_of(run)
    assert f"Not allowed to write {bucket.url}/new.txt; ask the owner of {bucket.url}" in text, text
    assert_no_traceback(text)
    assert bucket.keys() == ["in.txt", "out.txt"]
    assert mounted() == []


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("baseline:", "basis:"), "datasets.one: "),
        (("- 1860\n      - 1860", "- 1860"), "datasets.one.baseline: [1860] is too short"),
        (("- 1860\n      - 1860", "- 1861\n      - 1860"), "datasets.one.baseline: 1861 comes"),
        (("title: One", "title: 1"), "datasets.one.title: 1 is not of type 'string'"),
        (("  one:", "  o/n/e:"), "'o/n/e' does not match"),
    ],
)
def test_a_wrong_entry_of_the_configuration_is_named(
    project: Project, server: Server, change: tuple[str, str], sentence: str
) -> None:
    project.environment.update(server.environment)
    path = project.workdir / "config/config.yaml"
    text = path.read_text().replace("    - 1860", "      - 1860")
    path.write_text(text)
    reconfigure(project, *change)
    run = project.snakemake()
    assert run.returncode != 0
    assert sentence in output_of(run), output_of(run)
    assert_no_traceback(output_of(run))


@pytest.mark.parametrize(
    "command",
    ["echo half > $OUTPUTS; exit 1", "exit 1", "true", "echo half > $OUTPUTS; kill -9 $$"],
    ids=["half written", "nothing written", "output forgotten", "killed"],
)
def test_a_failed_job_leaves_its_old_output(
    tmp_path: Path, server: Server, bucket: Bucket, command: str
) -> None:
    bucket.write("in.txt", "content")
    old = bucket.write("out.txt", "old").stat().st_mtime_ns
    run = run_step(
        tmp_path,
        server,
        command,
        f"{bucket.url}/in.txt",
        f"{bucket.url}/out.txt",
        options=("--forcerun", "step", "--latency-wait", "1", "--storage-s3fuse-copy-below", "1"),
    )
    assert run.returncode != 0
    assert bucket.keys() == ["in.txt", "out.txt"]
    assert (bucket.folder / "out.txt").read_text() == "old"
    assert (bucket.folder / "out.txt").stat().st_mtime_ns == old
    assert mounted() == []
    again = run_step(
        tmp_path,
        server,
        "cp $INPUT $OUTPUTS",
        f"{bucket.url}/in.txt",
        f"{bucket.url}/out.txt",
        options=("--forcerun", "step", "--rerun-incomplete"),
    )
    assert again.returncode == 0, again.stderr
    assert (bucket.folder / "out.txt").read_text() == "content"


@pytest.mark.slow
def test_of_two_outputs_one_that_cannot_become_visible_is_made_again_with_the_other(
    tmp_path: Path, server: Server, bucket: Bucket
) -> None:
    bucket.write("in.txt", "content")
    # A directory on the server's disk where the object should go: no upload fails by it,
    # and the last step of the second one does.
    (bucket.folder / "b.txt/x").mkdir(parents=True)
    arguments = (
        "for each in $OUTPUTS; do cp $INPUT $each; echo $RANDOM >> $each; done",
        f"{bucket.url}/in.txt",
        f"{bucket.url}/a.txt",
        f"{bucket.url}/b.txt",
    )
    run = run_step(tmp_path, server, *arguments)
    assert run.returncode != 0
    assert "b.txt" in output_of(run)
    before = (bucket.folder / "a.txt").read_text()
    shutil.rmtree(bucket.folder / "b.txt")
    clone = tmp_path / "clone"
    clone.mkdir()
    again = run_step(clone, server, *arguments)
    assert again.returncode == 0, again.stderr
    assert bucket.keys() == ["a.txt", "b.txt", "in.txt"]
    assert (bucket.folder / "a.txt").read_text() != before


def test_output_that_is_meant_to_go_goes(tmp_path: Path, server: Server, bucket: Bucket) -> None:
    bucket.write("in.txt", "content")
    arguments = ("cp $INPUT $OUTPUTS", f"{bucket.url}/in.txt", f"{bucket.url}/out.txt")
    assert run_step(tmp_path, server, *arguments).returncode == 0
    assert bucket.keys() == ["in.txt", "out.txt"]
    run = run_step(tmp_path, server, *arguments, options=("--delete-all-output",))
    assert run.returncode == 0, run.stderr
    assert bucket.keys() == ["in.txt"]


def test_a_holder_at_the_end_of_the_run_is_named_and_the_next_run_is_clean(
    tmp_path: Path, server: Server, bucket: Bucket
) -> None:
    bucket.write("in.txt", "content" * 1000)
    mark = tmp_path / "held"
    hold = (
        f"import pathlib, time; f = open('$INPUT'); pathlib.Path('{mark}').touch(); time.sleep(60)"
    )
    command = (
        f'(exec -a holder {sys.executable} -c "{hold}" > /dev/null 2>&1 & echo $! > {mark}.pid); '
        f"while [ ! -e {mark} ]; do sleep 0.1; done; cp $INPUT $OUTPUTS"
    )
    options = ("--storage-s3fuse-access", "mount", "--storage-s3fuse-unmount-timeout", "3")
    arguments = (f"{bucket.url}/in.txt", f"{bucket.url}/out.txt")
    run = run_step(tmp_path, server, command, *arguments, options=options)
    pid = int((tmp_path / "held.pid").read_text())
    try:
        assert run.returncode == 0, run.stderr
        text = output_of(run)
        assert re.search(
            rf"{bucket.url} is still in use by .*\(pid {pid}\) at in.txt; trying to unmount", text
        )
        assert re.search(
            rf"{bucket.url} was still in use by .*\(pid {pid}\) at in.txt after 3 s", text
        )
        assert mounted() == []
        again = run_step(
            tmp_path,
            server,
            "cp $INPUT $OUTPUTS",
            *arguments,
            options=(*options, "--forcerun", "step"),
        )
        assert again.returncode == 0, again.stderr
        assert "still in use" not in output_of(again)
        assert mounted() == []
    finally:
        os.kill(pid, 9)
    for _ in range(100):
        if not any(name.startswith("s3fs") for name in daemons()):
            break
        time.sleep(0.1)
    last = run_step(tmp_path, server, "cp $INPUT $OUTPUTS", *arguments, options=options)
    assert "Nothing to be done" in output_of(last)
    left = [path for path in Path(os.environ["XDG_RUNTIME_DIR"]).rglob("*") if path.is_file()]
    assert left == []


@pytest.mark.long
def test_without_fuse_the_workflow_copies(project: Project, server: Server, tmp_path: Path) -> None:
    # The programs that Snakemake needs, and no s3fs.
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("bash", "sh", "env", "cat"):
        (programs / name).symlink_to(shutil.which(name) or "")
    project.environment |= server.environment | {
        "PATH": f"{Path(sys.executable).parent}:{programs}"
    }
    run = project.snakemake("--storage-s3fuse-copy-below", "1")
    assert run.returncode == 0, output_of(run)
    assert output_of(run).count("copied instead of mounted: the command s3fs is missing") == 1
    assert "Mounted" not in output_of(run)


def test_lint_finds_nothing(project: Project, server: Server) -> None:
    run = snakemake(
        project.workdir,
        "--lint",
        "--snakefile",
        ROOT / "workflow/Snakefile",
        environment=server.environment,
    )
    assert "Congratulations, your workflow is in a good condition" in output_of(run), output_of(run)


@pytest.mark.slow
def test_bad_data_are_named_by_their_object(
    tmp_path: Path, server: Server, bucket: Bucket, make_bucket: MakeBucket
) -> None:
    good = (SAMPLES / "pre-industrial.pp").read_bytes()
    bucket.write("good.pp", good)
    bucket.write("cut.pp", good[: len(good) // 2])
    bucket.write("text.nc", "no cube\n" * 100)
    netcdf4 = (SAMPLES / "E1_north_america.nc").read_bytes()
    bucket.write("cut4.nc", netcdf4[: len(netcdf4) // 2])
    with iris.FUTURE.context(save_split_attrs=True):
        classic = tmp_path / "classic.nc"
        iris.save(
            iris.load_cube(SAMPLES / "pre-industrial.pp"), classic, netcdf_format="NETCDF3_CLASSIC"
        )
    bucket.write("cut3.nc", classic.read_bytes()[:-1000])
    dataset = {"title": "Bad", "constraint": "air_temperature", "baseline": [1860, 1860]}
    cases: dict[str, tuple[dict[str, object], str]] = {
        "cut_pp": ({"files": "cut.pp"}, "{url} cannot be read: PP field data containing"),
        "cut_netcdf": (
            {"files": "cut4.nc"},
            "{url} cannot be read: [Errno -101] NetCDF: HDF error.",
        ),
        "cut_classic": ({"files": "cut3.nc"}, "{url} is cut: it is shorter than its header says."),
        "no_cube": ({"files": "text.nc"}, "{url} cannot be read: No format specification could"),
        "no_match": (
            {"files": "good.pp", "constraint": "rainfall_flux"},
            "Nothing in {url} matches the constraint 'rainfall_flux'; it has: air_temperature.",
        ),
        "units": (
            {"files": "good.pp", "units": "m s-1"},
            "air_temperature in {url} has the units 'K', which cannot be converted to 'm s-1'.",
        ),
        "baseline": (
            {"files": "good.pp", "baseline": [1961, 1990]},
            "air_temperature has 0 of the 30 years 1961-1990; it covers 1860-1860. "
            "It is about {results}/annual_mean/baseline.nc.",
        ),
    }
    results = make_bucket()
    project = Project(tmp_path, dict(server.environment))
    project.configure(
        {
            "results": str(results.url),
            "datasets": {
                name: {**dataset, **entry, "files": [f"{bucket.url}/{entry['files']}"]}
                for name, (entry, _) in cases.items()
            },
        }
    )
    run = project.snakemake("--cores", "2", "--keep-going", "--retries", "0")
    text = output_of(run)
    assert run.returncode == 1
    for entry, sentence in cases.values():
        expected = sentence.format(url=f"{bucket.url}/{entry['files']}", results=results.url)
        assert expected in text, f"{expected}\n{text}"
    assert_no_traceback(text)
    # What could be done was done.
    assert results.keys() == ["annual_mean/baseline.nc", "series/baseline.nc"]
    assert mounted() == []
