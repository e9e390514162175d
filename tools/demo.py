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
INPUTS, RESULTS = "climate-data", "climate-results"
SAMPLES = Path(iris_sample_data.path)
#: The files of the demo are small; with this it copies some and mounts others.
COPY_BELOW = "--storage-s3fuse-copy-below=1MiB"
#: Two emission scenarios, three years of the globe, ten years of months, an ensemble.
DATA = [
    "A1B_north_america.nc",
    "E1_north_america.nc",
    "pre-industrial.pp",
    "A1B.2098.pp",
    "E1.2098.pp",
    *sorted(f"UM/{path.name}" for path in (SAMPLES / "UM").glob("*.pp")),
    *sorted(f"GloSea4/{path.name}" for path in (SAMPLES / "GloSea4").glob("*.pp")),
]


def load_data(server: Server) -> int:
    """Upload what is not in the bucket yet; return how many objects that was."""
    store = Store(server.connection)
    there = store.list(S3Url(INPUTS), recursive=True).objects
    missing = [
        name
        for name in DATA
        if name not in there or there[name].size != (SAMPLES / name).stat().st_size
    ]
    journal = Journal(default_mount_root())
    with ThreadPoolExecutor(16) as pool:
        uploads = [
            pool.submit(
                publish_file, store, journal, SAMPLES / name, S3Url(INPUTS, name), there.get(name)
            )
            for name in missing
        ]
        for upload in uploads:
            upload.result()
    return len(missing)


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
    for bucket in (INPUTS, RESULTS):
        (DEMO / "data" / bucket).mkdir(parents=True, exist_ok=True)
    profile = registered_profile()
    with serving(DEMO / "data") as server:
        print(f"An S3 server for this demo listens at {server.endpoint_url}.")
        loaded = load_data(server)
        print(f"s3://{INPUTS}: {len(DATA)} files of Iris sample data, {loaded} of them new.")
        config = sys.argv[1] if len(sys.argv) > 1 else "config/config.yaml"
        results = S3Url.parse(yaml.safe_load((ROOT / config).read_text())["results"])
        folder = DEMO.relative_to(ROOT) / "data" / results.bucket / results.key
        words = ["--profile", profile, COPY_BELOW, "--configfile", config]
        run(server, *words)
        run(server, *words, "--report", str(REPORT), "--quiet", "all")
    print(
        f"""
Results   {results}, which the demo keeps in {folder}
Figure    {folder}/figures/series.png
Report    {REPORT.relative_to(ROOT)}, to be opened in a browser"""
    )


if __name__ == "__main__":
    try:
        main()
    except S3FuseError as error:
        sys.exit(f"demo: {error}")
