import json
from dataclasses import asdict
from pathlib import Path

import pytest

from s3fuse.errors import RunDirError
from s3fuse.node.directories import UPLOADS
from s3fuse.node.processes import Node
from s3fuse.publish.journal import Journal


@pytest.mark.parametrize("parts", [(), (UPLOADS,)])
def test_notes_that_others_could_have_written_are_not_read(
    tmp_path: Path, parts: tuple[str, ...]
) -> None:
    root = tmp_path / "root"
    notes = root / UPLOADS
    for path in (root, notes):
        path.mkdir(mode=0o700)
    journal = Journal(root)
    assert not journal.has_notes
    gone = {"node": asdict(Node.here()), "process": {"pid": 2**22 + 1, "started": 1}}
    content = {"bucket": "data", "key": "x", "upload": None, "since": 0.0, "identity": "i"}
    (notes / "a.json").write_text(json.dumps(content | gone))
    assert journal.has_notes
    assert journal.abandoned == 1
    root.joinpath(*parts).chmod(0o777)
    with pytest.raises(RunDirError, match="can be written by others"):
        assert journal.has_notes
    with pytest.raises(RunDirError, match="can be written by others"):
        assert journal.abandoned
    with pytest.raises(RunDirError, match="can be written by others"):
        journal.abort_abandoned(None)  # type: ignore[arg-type]
    assert (notes / "a.json").exists()


def test_nothing_is_noted_where_nothing_is(tmp_path: Path) -> None:
    assert not Journal(tmp_path / "root").has_notes
    assert Journal(tmp_path / "root").abandoned == 0
