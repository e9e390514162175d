"""What the schema refuses, and in which words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import configuration
import pytest
from configuration import ConfigError

from s3fuse.archives import Entries

DATASET = {"title": "A", "files": ["a.nc"], "constraint": "x", "baseline": [1, 2]}


def nothing(folders: Sequence[str]) -> list[Entries]:
    raise AssertionError(f"{folders} were listed")


def refused(entry: dict[str, Any]) -> str:
    """Check a dataset, and return what is said."""
    try:
        configuration.read({"results": "results", "datasets": {"a": {**DATASET, **entry}}}, nothing)
    except ConfigError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    "entry",
    [
        {"level": {"pressure": "850 hPa"}},
        {"level": {"height": ["2 m", "1e2 m"]}},
        {"level": {"depth": {"nearest": "100.5 m"}}},
        *(
            {"constraint": {"name": "x", "coordinates": {"y": wanted}}}
            for wanted in (
                850,
                -2.5,
                "850 hPa",
                "Atlantic",
                [1, 2],
                ["-1 m", 2],
                {"nearest": "1 m"},
            )
        ),
        *(
            {"products": {"extracted": {"levels": {"pressure": wanted}}}}
            for wanted in ("850 hPa", [50000, 85000], ["500 hPa", "850 hPa"], {"nearest": 85000})
        ),
    ],
    ids=str,
)
def test_what_may_be_asked_for(entry: dict[str, Any]) -> None:
    assert refused(entry) == ""


@pytest.mark.parametrize(
    ("entry", "key", "sentence"),
    [
        (
            {"level": {"pressure": 850}},
            "level.pressure",
            "A number and its units, such as 850 hPa.",
        ),
        ({"level": {"pressure": "850"}}, "level.pressure", "A number and its units"),
        ({"level": {"pressure": ["850 hPa"]}}, "level.pressure", "A range has two ends."),
        ({"level": {"presure": "850 hPa"}}, "level", "'presure' was unexpected"),
        ({"level": {}}, "level", "should be non-empty. One level or a range"),
        ({"level": {"depth": {"near": "1 m"}}}, "level.depth", "'near' was unexpected"),
        ({"level": {"depth": {"nearest": "m"}}}, "level.depth.nearest", "A number and its units"),
        (
            {"constraint": {"name": "x", "coordinates": {"y": [1, 2, 3]}}},
            "constraint.coordinates.y",
            "A range has two ends.",
        ),
        (
            {"constraint": {"name": "x", "coordinates": {"y": ["a", 2]}}},
            "constraint.coordinates.y.0",
            "A number, or a text of a number and units",
        ),
        (
            {"constraint": {"name": "x", "coordinates": {"y": {"nearest": [1, 2]}}}},
            "constraint.coordinates.y.nearest",
            "A number, or a text of a number and units",
        ),
        (
            {"products": {"extracted": {"levels": {"pressure": None}}}},
            "products.extracted.levels.pressure",
            "A number, a text such as '850 hPa', a list of two",
        ),
    ],
    ids=str,
)
def test_what_is_refused(entry: dict[str, Any], key: str, sentence: str) -> None:
    said = refused(entry)
    assert said.startswith(f"datasets.a.{key}: ")
    assert sentence in said
    assert said.count("\n") == 0


def test_the_keys_that_are_allowed_are_listed() -> None:
    said = refused({"unit": "K"})
    assert "'unit' was unexpected" in said
    for key in ("title", "files", "constraint", "level", "units", "baseline", "products"):
        assert key in said.partition("The keys are ")[2]


def test_datasets_share_defaults() -> None:
    defaults = {"constraint": "x", "baseline": [1, 2], "units": "K"}
    config = {
        "results": "results",
        "defaults": defaults,
        "datasets": {
            "a": {"title": "A", "files": ["a.nc"]},
            "b": {"title": "B", "files": ["b.nc"], "units": "celsius"},
        },
    }
    made = configuration.read(config, nothing)
    assert made.datasets["a"] == {**defaults, "title": "A", "files": ["a.nc"]}
    assert made.datasets["b"]["units"] == "celsius"
    # Captions of the report read them there.
    assert config["datasets"]["a"]["units"] == "K"


def test_what_is_wrong_with_the_defaults_is_said_of_them() -> None:
    config = {
        "results": "results",
        "defaults": {"level": {"pressure": 850}},
        "datasets": {"a": DATASET},
    }
    with pytest.raises(ConfigError, match=r"^defaults\.level\.pressure: "):
        configuration.read(config, nothing)


def test_an_ensemble_needs_no_datasets() -> None:
    entry = {"title": "E", "files": ["*.nc"], "constraint": "x"}
    made = configuration.read({"results": "results", "ensembles": {"e": entry}}, nothing)
    assert made.ensembles == {"e": entry}
    with pytest.raises(ConfigError, match="There are neither datasets nor archives"):
        configuration.read({"results": "results"}, nothing)


ARCHIVE = {
    "template": "s3://b/{activity}/{model}/{experiment}/{member}/{version}/*.nc",
    "facets": {"member": "r1"},
    "name": "{model}",
    "title": "{model} of CMIP6",
    "constraint": "x",
    "baseline": [1, 2],
}
FILES = [
    "s3://b/CMIP/UKESM/historical/r1/v9/a.nc",
    "s3://b/CMIP/UKESM/historical/r1/v10/a.nc",
    "s3://b/CMIP/UKESM/historical/r1/v10/b.nc",
    "s3://b/CMIP/AWI/historical/r1/v1/a.nc",
    "s3://b/CMIP/AWI/historical/r2/v1/a.nc",
    "s3://b/ScenarioMIP/UKESM/ssp585/r1/v1/c.nc",
]


def listed(folders: Sequence[str]) -> list[Entries]:
    found = []
    for folder in folders:
        below = [file.removeprefix(folder) for file in FILES if file.startswith(folder)]
        names = sorted({path.split("/")[0] for path in below if "/" in path})
        found.append(Entries(names, [path for path in below if "/" not in path]))
    return found


def expanded(**changes: Any) -> configuration.Configuration:
    config = {"results": "results", "archives": {"cmip6": {**ARCHIVE, **changes}}}
    return configuration.read(config, listed)


def test_an_archive_becomes_datasets_of_the_newest_version() -> None:
    made = expanded(facets={"member": "r1", "experiment": "historical"})
    assert made.archives == {"cmip6": ["AWI", "UKESM"]}
    assert made.models["UKESM"] == {
        "title": "UKESM of CMIP6",
        "files": FILES[1:3],
        "constraint": "x",
        "baseline": [1, 2],
    }


def test_experiments_are_joined_and_who_lacks_one_is_left_out() -> None:
    made = expanded(
        facets={
            "member": "r1",
            "activity": ["CMIP", "ScenarioMIP"],
            "experiment": ["historical", "ssp585"],
        },
        joined=["activity", "experiment"],
    )
    assert made.models["UKESM"]["files"] == [*FILES[1:3], FILES[5]]
    assert made.incomplete == {
        "cmip6": {"AWI": "the archive has no files of ScenarioMIP and ssp585"}
    }


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"facets": {"modell": "X"}}, "the template has no facet 'modell'; it has activity, model"),
        ({"template": "s3://b/{model/*.nc"}, "has a brace that belongs to no {facet}"),
        ({"facets": {"activity": "CMIP"}}, "has files of 2 values of member: r1, r2; choose one"),
        ({"facets": {"activity": "CMIP7"}}, "no folder CMIP7 in s3://b/; it has CMIP, ScenarioMIP"),
        (
            {"facets": {"member": "r1", "activity": "CMIP", "model": ["AWI", "MOHC"]}},
            "archives.cmip6.facets.model: nothing was found of MOHC",
        ),
        (
            {"facets": {"activity": "CMIP", "member": "r1"}, "title": "{modell}"},
            "archives.cmip6.title: '{modell}' cannot be filled in; the facets are activity, model",
        ),
        ({"joined": ["experiment"]}, "name the values of experiment under facets"),
        ({"name": "a{"}, "cannot be filled in"),
        ({"name": "{model}/x"}, "cannot be the name of a file"),
    ],
    ids=str,
)
def test_what_is_refused_of_an_archive(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as error:
        expanded(**{"facets": {"activity": "CMIP", "member": "r1"}, **changes})
    assert sentence in str(error.value)
    assert str(error.value).startswith("archives.cmip6")


def test_a_multi_model_entry_needs_its_archive() -> None:
    entry = {"title": "M", "archive": "cmip5", "grid": {"step": 5}}
    config = {
        "results": "results",
        "archives": {"cmip6": {**ARCHIVE, "facets": {"activity": "CMIP", "member": "r1"}}},
        "multi_models": {"all": entry},
    }
    with pytest.raises(
        ConfigError, match=r"^multi_models\.all\.archive: there is no archive 'cmip5'"
    ):
        configuration.read(config, listed)


def test_files_on_disk(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/x.nc").touch()
    (tmp_path / "a/y.nc").touch()
    found = configuration.matching(f"{tmp_path}/**/*.nc", nothing)
    assert found == [f"{tmp_path}/a/b/x.nc", f"{tmp_path}/a/y.nc"]


def refusal(config: dict[str, object]) -> str:
    with pytest.raises(configuration.ConfigError) as caught:
        configuration.check(config)
    return str(caught.value)


@pytest.mark.parametrize(
    ("products", "example"),
    [
        (["trend"], "Write it as {trend: true, monthly_climatology: true}."),
        (None, "Write it as {trend: true, monthly_climatology: true}."),
        ({"regridded": 2.5}, "Write it as {step: 2.5, scheme: linear}."),
        ({"percentiles": [5, 95]}, "Write it as {percents: [5, 95]}."),
        ({"regional_series": ["MED"]}, "Write it as {regions: [MED, [-10, 35, 40, 70]]}."),
        ({"trend": False}, "False is not one of [None, True, {}]"),
    ],
)
def test_a_refusal_shows_what_may_be_written(products: object, example: str) -> None:
    config = {"results": "r", "datasets": {"x": {**DATASET, "products": products}}}
    assert example in refusal(config)


def test_a_refusal_of_other_entries_shows_what_may_be_written() -> None:
    def said(**entry: object) -> str:
        return refusal({"results": "r", "datasets": {"x": {**DATASET, **entry}}})

    assert "Write it as {projection: robinson}." in said(map="robinson")
    assert "Write it as {function: 'studies.heat:days_above'}." in said(steps={"a": "mod.func"})


@pytest.mark.parametrize("wish", [None, True, {}])
def test_a_product_may_be_wished_in_any_way(wish: object) -> None:
    products = {"trend": wish, "monthly_climatology": wish}
    configuration.check({"results": "r", "datasets": {"x": {**DATASET, "products": products}}})


def test_something_has_to_be_computed() -> None:
    for more in ({}, {"multi_models": {}}):
        assert refusal({"results": "r", **more}) == (
            "There are neither datasets nor archives nor ensembles; name one."
        )


def test_ensembles_have_names_of_files() -> None:
    entry = {"title": "x", "files": ["a.nc"], "constraint": "air_temperature"}
    assert "e f/g" in refusal({"results": "r", "ensembles": {"e f/g": entry}})


def test_numbers_are_values_of_facets(tmp_path: Path) -> None:
    for year in (1, 2):
        (tmp_path / f"{year}").mkdir()
        (tmp_path / f"{year}/a.nc").touch()
    archive = {
        **DATASET,
        "template": f"{tmp_path}/{{y}}/a.nc",
        "facets": {"y": [1]},
        "name": "y{y}",
    }
    del archive["files"]
    config = {"results": "r", "archives": {"x": archive}}
    made = configuration.read(config, configuration.list_on_disk)
    assert list(made.models) == ["y1"]


def test_joined_values_are_named(tmp_path: Path) -> None:
    archive = {
        **DATASET,
        "template": f"{tmp_path}/{{e}}/{{m}}.nc",
        "facets": {"e": ["historical", "ssp*"]},
        "joined": ["e"],
        "name": "{m}",
    }
    del archive["files"]
    for name in ("historical", "ssp585"):
        (tmp_path / name).mkdir()
        (tmp_path / f"{name}/a.nc").touch()
    with pytest.raises(configuration.ConfigError, match="name the values of e under facets, in"):
        configuration.read({"results": "r", "archives": {"x": archive}}, configuration.list_on_disk)
