"""What the tests of mounts share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import daemons, mounted
from s3fuse.mount.mounts import Mounts


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Mounts]:
    """The mounts of a working directory of their own, with short patience."""
    made = Mounts(
        links=tmp_path / "links",
        workdir=tmp_path,
        root=tmp_path / "run",
        cache_dir=tmp_path / "cache",
        unmount_timeout=2,
    )
    made.links.mkdir()
    yield made
    made.unmount()
    assert not any(str(tmp_path) in line for line in mounted())
    assert not any(str(tmp_path) in line for line in daemons())
