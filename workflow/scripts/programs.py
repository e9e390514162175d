"""Versions of the programs that make results."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("scitools-iris", "snakemake", "snakemake-storage-plugin-s3fuse", "numpy", "dask")


def versions() -> dict[str, str]:
    """Find the versions of Python, packages and the mounting program, as far as they are here."""
    found = {"Python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    if mounting := mounting_program():
        found["s3fs-fuse"] = mounting
    return found


def mounting_program() -> str | None:
    """Ask the command s3fs, which mounts buckets, for its version.

    The Python package of the same name is another program.
    """
    command = shutil.which("s3fs")
    if command is None:
        return None
    run = subprocess.run([command, "--version"], capture_output=True, text=True, check=False)
    match = re.search(r"\bV(\d+(?:\.\d+)+)", run.stdout)
    return match[1] if match else None
