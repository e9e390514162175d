"""Patterns and facets: which files they stand for, and what is said where there are none."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest

from s3fuse.archives import Entries, Match, datasets, facets_of, find, lacking, newest
from s3fuse.errors import QueryError

FILES = [
    "CMIP6/CMIP/MOHC/UKESM/historical/r1/tas/gn/v2/tas_1850.nc",
    "CMIP6/CMIP/MOHC/UKESM/historical/r1/tas/gn/v2/tas_1950.nc",
    "CMIP6/CMIP/MOHC/UKESM/historical/r1/tas/gn/v10/tas_1850.nc",
    "CMIP6/CMIP/MOHC/UKESM/historical/r2/tas/gn/v1/tas_1850.nc",
    "CMIP6/CMIP/AWI/AWI-CM/historical/r1/tas/gn/v20190101/tas_1850.nc",
    "CMIP6/CMIP/AWI/AWI-CM/historical/r1/tas/gr/v20190101/tas_1850.nc",
    "CMIP6/ScenarioMIP/MOHC/UKESM/ssp585/r1/tas/gn/v3/tas_2015.nc",
    "CMIP6/CMIP/.hidden/X/historical/r1/tas/gn/v1/tas_1850.nc",
    "obs/2001/01/era5.nc",
    "obs/2001/02/era5.nc",
    "obs/era5.nc",
    "obs/notes [1].txt",
]
TEMPLATE = (
    "s3://b/CMIP6/{activity}/{institute}/{model}/{experiment}/{member}/{var}/{grid}/{version}/*.nc"
)


class Archive:
    """A tree of files that notes which folders were listed."""

    def __init__(self, root: str) -> None:
        self.paths = [root + file for file in FILES]
        self.listed: list[str] = []

    def __call__(self, folders: Sequence[str]) -> list[Entries]:
        self.listed += folders
        return [self.entries(folder) for folder in folders]

    def entries(self, folder: str) -> Entries:
        below = [path.removeprefix(folder) for path in self.paths if path.startswith(folder)]
        folders = sorted({path.split("/")[0] for path in below if "/" in path})
        return Entries(folders, {path for path in below if "/" not in path})


@pytest.fixture
def archive() -> Archive:
    return Archive("s3://b/")


def paths(matches: list[Match]) -> list[str]:
    return [match.path.removeprefix("s3://b/") for match in matches]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("s3://b/obs/era5.nc", ["obs/era5.nc"]),
        ("s3://b/obs/*.nc", ["obs/era5.nc"]),
        ("s3://b/obs/*/*/era5.nc", ["obs/2001/01/era5.nc", "obs/2001/02/era5.nc"]),
        (
            "s3://b/obs/**/era5.nc",
            ["obs/2001/01/era5.nc", "obs/2001/02/era5.nc", "obs/era5.nc"],
        ),
        ("s3://b/**/0*/e*5.nc", ["obs/2001/01/era5.nc", "obs/2001/02/era5.nc"]),
        ("s3://b/obs/notes [1].*", ["obs/notes [1].txt"]),
        ("s3://b/obs/*era5*.nc*", ["obs/era5.nc"]),
        ("s3://b/CMIP6/CMIP/.h*/*/*/*/*/*/*/*", [FILES[7]]),
    ],
)
def test_stars(archive: Archive, pattern: str, found: list[str]) -> None:
    assert paths(find(pattern, archive)) == found


def test_paths_on_disk() -> None:
    assert [m.path for m in find("/data/obs/*/*/*", Archive("/data/"))] == [
        "/data/obs/2001/01/era5.nc",
        "/data/obs/2001/02/era5.nc",
    ]
    assert [m.path for m in find("data/obs/*.nc", Archive("data/"))] == ["data/obs/era5.nc"]
    assert [m.path for m in find("*.nc", lambda _: [Entries([], ["a.nc"])])] == ["a.nc"]


def test_facets_are_read_from_names(archive: Archive) -> None:
    wanted = {"activity": ["CMIP"], "model": ["AWI-CM"], "grid": ["gr"]}
    (match,) = find(TEMPLATE, archive, wanted)
    assert match.path == f"s3://b/{FILES[5]}"
    assert match.facets == {
        "activity": "CMIP",
        "institute": "AWI",
        "model": "AWI-CM",
        "experiment": "historical",
        "member": "r1",
        "var": "tas",
        "grid": "gr",
        "version": "v20190101",
    }


def test_only_folders_that_fit_are_listed(archive: Archive) -> None:
    find(TEMPLATE, archive, {"activity": ["ScenarioMIP"]})
    assert all("/CMIP/" not in folder for folder in archive.listed)
    # One for each facet that is to be found, and one for the files.
    assert len(archive.listed) == 9


def test_a_value_may_have_a_star(archive: Archive) -> None:
    wanted = {"activity": ["CMIP"], "model": ["UK*", "X"], "member": ["*2"]}
    assert paths(find(TEMPLATE, archive, wanted)) == [FILES[3]]


def test_a_facet_is_the_same_everywhere() -> None:
    tree = {"": Entries(["a", "b"], []), "a/": Entries([], ["x_a_a.nc", "x_a_b.nc", "x_b_b.nc"])}
    listed = lambda folders: [tree.get(folder, Entries([], [])) for folder in folders]  # noqa: E731
    (match,) = find("{m}/{v}_{m}_{m}.nc", listed)
    assert match == Match("a/x_a_a.nc", {"m": "a", "v": "x"})
    flat = lambda _: [Entries([], ["x_x.nc", "x_y.nc"])]  # noqa: E731
    assert [match.path for match in find("{m}_{m}.nc", flat)] == ["x_x.nc"]


@pytest.mark.parametrize(
    ("pattern", "facets", "sentence"),
    [
        (
            "s3://b/obs/*.grib",
            {},
            "nothing matches 's3://b/obs/*.grib': there is no file *.grib in s3://b/obs/; it has "
            "era5.nc, notes [1].txt.",
        ),
        (
            "s3://b/obs/1999/*.nc",
            {},
            "there is no file *.nc in s3://b/obs/1999/; it has no file.",
        ),
        (
            TEMPLATE,
            {"activity": ["CMIP"], "institute": ["MOHX", "NCAR"]},
            "there is no folder MOHX or NCAR in s3://b/CMIP6/CMIP/; it has AWI, MOHC.",
        ),
        (
            "s3://b/CMIP6/CMIP/*/{model}/ssp*/x/*",
            {},
            "there is no folder ssp* in s3://b/CMIP6/CMIP/AWI/AWI-CM/ and 1 more; "
            "they have historical.",
        ),
    ],
)
def test_where_nothing_fits(
    archive: Archive, pattern: str, facets: dict[str, list[str]], sentence: str
) -> None:
    with pytest.raises(QueryError, match=re.escape(sentence)):
        find(pattern, archive, facets)


def test_a_long_folder_is_cut_in_the_message() -> None:
    with pytest.raises(QueryError, match=r"it has 00, .*, 07 and 12 more"):
        find("x*", lambda _: [Entries([], [f"{n:02}" for n in range(20)])])


def test_the_newest_version_is_taken(archive: Archive) -> None:
    found = newest(find(TEMPLATE, archive, {"activity": ["CMIP"], "model": ["UKESM"]}))
    assert [(m.facets["member"], m.path.split("/")[-2]) for m in found] == [
        ("r1", "v10"),
        ("r2", "v1"),
    ]
    assert "version" not in found[0].facets


def test_files_are_put_together_by_name(archive: Archive) -> None:
    found = newest(find(TEMPLATE, archive, {"model": ["UKESM"], "member": ["r1"]}))
    joined = {"experiment": ["historical", "ssp585"], "activity": ["CMIP", "ScenarioMIP"]}
    (members,) = datasets(found, "{model}", joined).values()
    assert [match.facets["experiment"] for match in members] == ["historical", "ssp585"]
    assert lacking(members, joined) == []
    assert lacking(members[:1], joined) == ["ssp585", "ScenarioMIP"]


@pytest.mark.parametrize(
    ("name", "facet", "values"),
    [("{model}", "member", "r1, r2"), ("{model}_{member}", "grid", "gn, gr")],
)
def test_what_differs_within_a_dataset_is_refused(
    archive: Archive, name: str, facet: str, values: str
) -> None:
    found = newest(find(TEMPLATE, archive, {"activity": ["CMIP"]}))
    sentence = f"has files of 2 values of {facet}: {values}; choose one, or put {{{facet}}}"
    with pytest.raises(QueryError, match=re.escape(sentence)):
        datasets([m for m in found if (m.facets["model"] == "UKESM") == (facet == "member")], name)


@pytest.mark.parametrize("name", ["{modell}", "{}", "{model", "{0}"])
def test_a_name_of_unknown_facets_is_refused(name: str) -> None:
    with pytest.raises(QueryError, match="the facets are grid, model"):
        datasets([Match("x", {"model": "A", "grid": "gn"})], name)


def test_facets_of_a_pattern() -> None:
    assert facets_of("s3://b/{a}/{b}_{a}.nc") == ["a", "b"]
    for wrong in ("{a", "a}", "{a!}", "{1}"):
        with pytest.raises(QueryError, match="belongs to no"):
            facets_of(wrong)
