"""What the schema refuses, and in which words."""

from __future__ import annotations

import ast
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from conftest import ROOT


def rules(*functions: str, **names: Any) -> dict[str, Any]:
    """Take functions of the rules, which are no module."""
    tree = ast.parse((ROOT / "workflow/rules/common.smk").read_text())
    chosen = [node for node in tree.body if getattr(node, "name", "") in functions]
    assert len(chosen) == len(functions)
    exec(compile(ast.Module(chosen, []), "common.smk", "exec"), names)
    return names


def refused(entry: dict[str, Any]) -> str:
    """Check a dataset with the function of the rules, and return what it says."""
    config = {
        "results": "results",
        "datasets": {
            "a": {"title": "A", "files": ["a.nc"], "constraint": "x", "baseline": [1, 2], **entry}
        },
    }
    said: list[str] = []
    place = str(ROOT / "workflow/rules")
    basedir = SimpleNamespace(get_path_or_uri=lambda secret_free: place)
    names = rules(
        "check_config",
        config=config,
        refuse=said.append,
        located=lambda _: None,
        workflow=SimpleNamespace(current_basedir=basedir),
        Path=Path,
        yaml=yaml,
        Draft202012Validator=Draft202012Validator,
        best_match=best_match,
        S3FuseError=Exception,
    )
    names["check_config"]()
    return "".join(said)


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
