"""Profiles set what a user of the workflow needs, and nothing for the sake of the demo."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from conftest import ROOT

PROFILES = sorted((ROOT / "profiles").glob("*/profile.yaml"))


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.parent.name)
def test_profiles_leave_the_size_of_copies_to_its_default(path: Path) -> None:
    assert "storage-s3fuse-copy-below" not in yaml.safe_load(path.read_text())


def test_the_demo_mounts_and_copies() -> None:
    demo = pytest.importorskip("demo")
    sizes = [path.stat().st_size for path in demo.iris_samples().values()]
    assert demo.COPY_BELOW == "--storage-s3fuse-copy-below=1MiB"
    assert min(sizes) < 2**20 < max(sizes)
