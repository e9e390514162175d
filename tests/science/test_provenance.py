"""History and sources of results, read with netCDF4."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import netCDF4
import numpy as np
import pytest
from iris.cube import Cube

import job
import loading
import programs
import spread
import steps
from science.netcdf import write

LINE = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ: ours 1\.2, Iris \d+\.\d+\S*: "
SOURCES = [
    {"name": "s3://b/a.nc", "etag": "0123", "bytes": 5, "written": "2026"},
    {"name": "data/b.nc", "etag": "", "bytes": 7, "written": "2026-01-02 03:04:05 UTC"},
]


class Params(SimpleNamespace):
    """The parameters of a rule, by attribute and by name."""

    def get(self, name: str) -> Any:
        return getattr(self, name, None)


def save(result: Cube, path: Path, rule: str, sources: object = (), **options: object) -> None:
    """Save in the way of the scripts."""
    params = Params(provenance={"program": "ours 1.2", "sources": list(sources)}, **options)  # type: ignore[call-overload]
    wildcards = ["e1"]
    job.save(
        SimpleNamespace(params=params, rule=rule, wildcards=wildcards, output=[str(path)]), result
    )


def attributes(path: Path) -> dict[str, Any]:
    """Read the attributes of the file, which belong to all of its variables."""
    with netCDF4.Dataset(path) as file:
        return {name: file.getncattr(name) for name in file.ncattrs()}


@pytest.fixture
def source(tmp_path: Path) -> str:
    days = 30.0 * np.arange(24) + 15
    values = np.random.default_rng(0).normal(280, 10, (24, 3, 4)).astype("f4")
    of_file = {
        "history": "2019-01-01T00:00:00Z: made by a model",
        "source_id": "M1",
        "experiment_id": "historical",
        "variant_label": "r1i1p1f1",
    }
    return write(tmp_path / "in.nc", values, days, calendar="360_day", of_file=of_file)


def test_each_step_adds_a_line_and_keeps_the_sources(tmp_path: Path, source: str) -> None:
    annual, normal, anomaly = (tmp_path / f"{name}.nc" for name in ("annual", "normal", "anomaly"))
    cube = loading.load([source], "air_temperature", "celsius")
    wish = {"name": "air_temperature", "coordinates": {"latitude": [-60, 60]}}
    save(steps.annual_mean(cube), annual, "annual_mean", SOURCES, constraint=wish, units="celsius")
    yearly = steps.load_result(str(annual))
    save(steps.climatology(yearly, [2000, 2001]), normal, "climatology", baseline=[2000, 2001])
    save(steps.anomaly(yearly, steps.load_result(str(normal))), anomaly, "anomaly")
    found = attributes(anomaly)
    lines = found["history"].split("\n")
    assert lines[0] == "2019-01-01T00:00:00Z: made by a model"
    assert re.fullmatch(
        rf"{LINE}annual_mean of e1 with constraint {re.escape(str(wish))}, units celsius", lines[1]
    )
    assert re.fullmatch(f"{LINE}anomaly of e1", lines[2])
    assert len(lines) == 3
    for path in (annual, normal, anomaly):
        found = attributes(path)
        assert found["source_objects"].split("\n") == [
            "s3://b/a.nc ETag 0123",
            "data/b.nc 7 bytes written 2026-01-02 03:04:05 UTC",
        ]
        assert found["source_id"] == "M1"
        assert found["experiment_id"] == "historical"
        assert found["variant_label"] == "r1i1p1f1"
    last = attributes(normal)["history"].split("\n")[-1]
    assert re.fullmatch(rf"{LINE}climatology of e1 with baseline \[2000, 2001\]", last)


def test_data_without_a_history(tmp_path: Path, source: str) -> None:
    cube = loading.load([source], "air_temperature")
    del cube.attributes["history"]
    save(cube, tmp_path / "out.nc", "extracted", SOURCES, options={"years": [1, 2]})
    found = attributes(tmp_path / "out.nc")["history"]
    assert re.fullmatch(rf"{LINE}extracted of e1 with options \{{'years': \[1, 2\]\}}", found)


def test_the_members_of_an_ensemble_stay_named(tmp_path: Path, source: str) -> None:
    members = [loading.load([source], "air_temperature") for _ in range(3)]
    for number, member in enumerate(members):
        member.attributes["variant_label"] = f"r{number}i1p1f1"
        member.attributes["history"] = f"{number}"
    result = spread.mean_and_spread(spread.ensemble(members))
    save(result, tmp_path / "out.nc", "ensemble", SOURCES)  # type: ignore[arg-type]
    found = attributes(tmp_path / "out.nc")
    assert found["variant_label"] == "r0i1p1f1, r1i1p1f1, r2i1p1f1"
    assert found["source_id"] == "M1"
    assert found["attributes_that_differed"] == "history"
    assert re.fullmatch(f"{LINE}ensemble of e1", found["history"])


def test_thousands_of_sources(tmp_path: Path, source: str) -> None:
    many = [{**SOURCES[0], "name": f"s3://bucket/{'x' * 100}/{number}"} for number in range(5000)]
    cube = loading.load([source], "air_temperature")
    save(cube, tmp_path / "out.nc", "extracted", many)
    found = steps.load_result(str(tmp_path / "out.nc")).attributes["source_objects"]
    assert len(found.split("\n")) == 5000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Amazon Simple Storage Service File System V1.93 (commit:unknown) with OpenSSL", "1.93"),
        ("something else", None),
    ],
)
def test_the_version_of_the_mounting_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, expected: str | None
) -> None:
    command = tmp_path / "s3fs"
    command.write_text(f"#!/bin/sh\necho '{text}'\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert programs.versions().get("s3fs-fuse") == expected
    # The Python package of that name does not mount.
    assert "s3fs" not in programs.versions()
    command.unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert programs.mounting_program() is None
