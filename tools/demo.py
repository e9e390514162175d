"""The demo: real data in a bucket, through Iris, and results back in a bucket.

Run by ``make demo``, which does the set-up first.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import iris_sample_data
import yaml

from register_profile import registered_profile
from s3fuse.embedded_server import Server, serving
from s3fuse.errors import S3FuseError
from s3fuse.node.directories import default_mount_root
from s3fuse.publish.journal import Journal
from s3fuse.publish.publisher import publish_file
from s3fuse.s3.store import Store
from s3fuse.urls import S3Url

ROOT = Path(__file__).parent.parent
DEMO = ROOT / ".demo"
REPORT = DEMO / "report.html"
RESULTS = "climate-results"
SAMPLES = Path(iris_sample_data.path)
#: The files of the demo are small; with this it copies some and mounts others.
COPY_BELOW = "--storage-s3fuse-copy-below=1MiB"


def iris_samples() -> dict[str, Path]:
    """Two scenarios, three years of the globe, ten years of months, an ensemble, an ocean."""
    names = [
        "A1B_north_america.nc",
        "E1_north_america.nc",
        "pre-industrial.pp",
        "A1B.2098.pp",
        "E1.2098.pp",
        *sorted(f"UM/{path.name}" for path in (SAMPLES / "UM").glob("*.pp")),
        *sorted(f"GloSea4/{path.name}" for path in (SAMPLES / "GloSea4").glob("*.pp")),
        *sorted(f"NEMO/{path.name}" for path in (SAMPLES / "NEMO").glob("*.nc")),
    ]
    return {name: SAMPLES / name for name in names}


def cmip6_samples() -> dict[str, Path]:
    """Air temperature of 42 models of CMIP6 near the North Pole, in the layout of CMIP6."""
    package = find_spec("esmvaltool_sample_data")
    assert package, "esmvaltool-sample-data is not installed"
    assert package.origin
    folder = Path(package.origin).parent / "data/timeseries"
    return {str(path.relative_to(folder)): path for path in sorted(folder.glob("CMIP6/**/*.nc"))}


#: What lies in which bucket.
DATA = {"climate-data": iris_samples, "cmip6": cmip6_samples}


def load_data(server: Server, bucket: str) -> tuple[int, int]:
    """Upload what is not in a bucket yet; return how many objects it has, and how many are new."""
    store = Store(server.connection)
    files = DATA[bucket]()
    there = store.list(S3Url(bucket), recursive=True).objects
    missing = [
        name
        for name, path in files.items()
        if name not in there or there[name].size != path.stat().st_size
    ]
    journal = Journal(default_mount_root())
    with ThreadPoolExecutor(16) as pool:
        uploads = [
            pool.submit(
                publish_file, store, journal, files[name], S3Url(bucket, name), there.get(name)
            )
            for name in missing
        ]
        for upload in uploads:
            upload.result()
    return len(files), len(missing)


def run(server: Server, *arguments: str) -> None:
    """Run Snakemake in the root of the project; end with it where it fails."""
    command = [sys.executable, "-m", "snakemake", *arguments]
    print(f"$ snakemake {' '.join(arguments)}", flush=True)
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **server.environment})
    # Ctrl-C reaches Snakemake too, which then unmounts; wait for it.
    with _interrupts_ignored():
        status = process.wait()
    if status:
        raise SystemExit(status if status > 0 else 128 - status)


@contextlib.contextmanager
def _interrupts_ignored():  # type: ignore[no-untyped-def]
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def main() -> None:
    """Serve, load, run, report, and say where everything is."""
    warnings.filterwarnings("ignore")
    config = sys.argv[1] if len(sys.argv) > 1 else "config/config.yaml"
    text = (ROOT / config).read_text()
    buckets = [bucket for bucket in DATA if f"s3://{bucket}/" in text]
    for bucket in (*buckets, RESULTS):
        (DEMO / "data" / bucket).mkdir(parents=True, exist_ok=True)
    profile = registered_profile()
    with serving(DEMO / "data") as server:
        print(f"An S3 server for this demo listens at {server.endpoint_url}.")
        for bucket in buckets:
            count, new = load_data(server, bucket)
            print(f"s3://{bucket}: {count} files of sample data, {new} of them new.")
        results = S3Url.parse(yaml.safe_load(text)["results"])
        folder = DEMO.relative_to(ROOT) / "data" / results.bucket / results.key
        words = ["--profile", profile, COPY_BELOW, "--configfile", config]
        run(server, *words)
        run(server, *words, "--report", str(REPORT), "--quiet", "all")
    print(
        f"""
Results   {results}, which the demo keeps in {folder}
Figures   {folder}/figures
Report    {REPORT.relative_to(ROOT)}, to be opened in a browser"""
    )


if __name__ == "__main__":
    try:
        main()
    except S3FuseError as error:
        sys.exit(f"demo: {error}")
