"""What a mount shows, also after its gateway was started again."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from s3fuse.gateway import answers
from s3fuse.gateway.answers import Page
from s3fuse.gateway.catalogue import CATALOGUE, VIEWS, Catalogue, Seen, View
from s3fuse.gateway.failures import FAILURES, Failure, Failures, read_failures
from s3fuse.s3.objects import ObjectInfo

OLD = ObjectInfo("a/x", 3, 1000.0, "old")
NEW = ObjectInfo("a/x", 3, 1000.0, "new")
NAMES = st.text("ab/é\U0001f30d", min_size=1, max_size=6)


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    return Catalogue(tmp_path)


def test_two_versions_are_at_two_paths(catalogue: Catalogue) -> None:
    old, new = View.of_object(OLD), View.of_object(NEW)
    assert old.path != new.path
    assert old.path.endswith("/x")
    for view in (old, new):
        catalogue.show(view)
    assert catalogue.entry(old.path) == OLD
    assert catalogue.entry(new.path) == NEW
    assert catalogue.is_folder(old.folder)
    assert not catalogue.is_folder(f"{VIEWS}other/")


def test_how_it_is_read_does_not_change_where_it_is() -> None:
    assert View.of_object(OLD).path == View.of_object(OLD, sequential=True).path


def test_names_that_are_too_long_for_a_directory_are_cut() -> None:
    for letter in ("x", "é", "\U0001f30d"):
        info = ObjectInfo(f"{letter * (1000 // len(letter.encode()))}.nc", 1, 0.0, "e")
        name = View.of_object(info).name
        assert len(os.fsencode(name)) <= 255
        assert name.endswith(".nc")


def test_what_was_said_holds_after_a_death(tmp_path: Path) -> None:
    before = Catalogue(tmp_path)
    view = View.of_folder("a/", [OLD, ObjectInfo("a/b/é", 0, 0.0, "e")])
    before.show(view)
    assert before.pin("seen", OLD) == OLD
    before.see("open", Seen(OLD, 7.0))
    before.see("open", Seen(NEW, 8.0))
    before.see("gone", Seen(OLD, 7.0))
    before.see("gone", None)
    for info in (OLD, NEW):
        before.compare(info)
    before.compared(OLD)
    # Without being closed, and while the last line was written.
    with (tmp_path / CATALOGUE).open("a") as file:
        file.write('{"pin": "cut", "in')
    after = Catalogue(tmp_path)
    assert after.entry(f"{view.path}/x") == OLD
    assert after.entry(f"{view.path}/b/é") is not None
    assert after.pin("seen", NEW) == OLD
    assert after.pinned("missing") is None
    assert after.pinned("cut") is None
    assert after.seen == {"open": Seen(NEW, 8.0)}
    assert after.uncompared() == [NEW]
    after.pin("later", NEW)
    assert Catalogue(tmp_path).pin("later", OLD) == NEW


def test_failures_hold_after_a_death(tmp_path: Path) -> None:
    failures = Failures(tmp_path)
    gone = Failure.of_version(OLD, "It is gone.")
    assert failures.add(gone)
    assert not failures.add(gone)
    later = Failure("folder/", "It does not answer.", 100.0)
    assert failures.add(later)
    assert not failures.add(replace(later, at=100.1))
    assert not failures.add(replace(later, at=200.0))
    assert failures.all() == [gone, replace(later, at=200.0)]
    with (tmp_path / "failures.jsonl").open("a") as file:
        file.write('{"info": ')
    assert Failures(tmp_path).reason(OLD) == "It is gone."
    assert Failures(tmp_path).reason(NEW) is None
    assert read_failures(tmp_path) == [gone, later, replace(later, at=200.0)]


def test_a_failure_that_cannot_be_written_is_known(tmp_path: Path) -> None:
    failures = Failures(tmp_path)
    (tmp_path / FAILURES).mkdir()
    gone = Failure.of_version(OLD, "It is gone.")
    with pytest.raises(IsADirectoryError):
        failures.add(gone)
    assert failures.all() == [gone]


def listed(names: set[str], prefix: str, delimiter: str) -> tuple[list[str], list[str]]:
    """What S3 says of some keys, all on one page."""
    objects, folders = set(), set()
    for name in names:
        if name.startswith(prefix):
            head, found, _ = name[len(prefix) :].partition(delimiter or "\0")
            (folders if found else objects).add(prefix + head + found)
    return sorted(objects), sorted(folders)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(paths={"/", "/a"}, prefix="/", delimiter="/", most=1)
@given(
    paths=st.sets(NAMES, max_size=30),
    prefix=st.text("ab/é", max_size=3),
    delimiter=st.sampled_from(["/", ""]),
    most=st.integers(1, 5),
)
def test_pages_are_those_of_s3(
    tmp_path: Path, paths: set[str], prefix: str, delimiter: str, most: int
) -> None:
    catalogue = Catalogue(tmp_path)
    infos = {path: ObjectInfo(path, 1, 0.0, path) for path in paths}
    view = View("name", infos)
    catalogue.show(view)
    start = f"{view.path}/"
    objects: list[str] = []
    folders: list[str] = []
    after = ""
    for _ in range(100):
        page = catalogue.page(start + prefix, delimiter, after, most)
        assert len(page.objects) + len(page.folders) <= most
        objects += [each.key.removeprefix(start) for each in page.objects]
        folders += [each.removeprefix(start) for each in page.folders]
        after = page.next
        if not after:
            break
    assert (objects, folders) == listed(paths, prefix, delimiter)


@given(
    keys=st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), unique=True),
    second=st.booleans(),
)
def test_listings_can_be_read(keys: list[str], second: bool) -> None:
    objects = [ObjectInfo(key, 5, 1e9, 'e"&') for key in keys]
    query = {"list-type": "2"} if second else {}
    text = answers.listing("bucket", query | {"prefix": "<&>"}, Page(objects, ["a&b/"], "n<"))
    space = "{http://s3.amazonaws.com/doc/2006-03-01/}"
    root = ElementTree.fromstring(text)
    found = [each.findtext(f"{space}Key") for each in root.findall(f"{space}Contents")]
    # XML 1.0 has no way to write most control characters.
    control = {chr(number) for number in range(32)} - set("\t\n\r") | {"\ufffe", "\uffff"}
    assert found == [key for key in keys if not control & set(key)]
    assert root.findtext(f"{space}CommonPrefixes/{space}Prefix") == "a&b/"
    assert root.findtext(f"{space}{'NextContinuationToken' if second else 'NextMarker'}") == "n<"
    assert root.findtext(f"{space}Contents/{space}LastModified") in (
        None,
        "2001-09-09T01:46:40.000Z",
    )
