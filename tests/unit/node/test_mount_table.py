import os
from pathlib import Path

import pytest

from s3fuse.node.mount_table import mount_points, unescaped


@pytest.mark.parametrize(
    ("field", "path"),
    [
        (rb"/a\040b", "/a b"),
        (rb"/a\011b", "/a\tb"),
        (rb"/a\012b", "/a\nb"),
        (rb"/a\134b", "/a\\b"),
        (rb"/a\043b", "/a#b"),
        # A directory whose name looks like an escape.
        (rb"/a\134040b", r"/a\040b"),
        (b"/gr\xc3\xb6\xc3\x9fe", "/gr\xf6\xdfe"),
        (b"/latin-\xe9", os.fsdecode(b"/latin-\xe9")),
    ],
)
def test_paths_are_read_as_the_kernel_writes_them(field: bytes, path: str, tmp_path: Path) -> None:
    assert unescaped(field) == Path(path)
    table = tmp_path / "mounts"
    table.write_bytes(
        b"proc /proc proc rw 0 0\ns3fs " + field + b" fuse.s3fs ro,user_id=0 0 0\nx\x85 /y z\n"
    )
    assert mount_points(table) == {Path("/proc"), Path(path), Path("/y")}


def test_the_table_of_this_process_has_its_mounts() -> None:
    assert Path("/proc") in mount_points()
