"""Results follow the conventions of CF, by the judgement of compliance-checker."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import iris_sample_data
import numpy as np
import pytest
from compliance_checker.runner import CheckSuite, ComplianceChecker
from iris.cube import Cube, CubeList

import area_statistics
import climate_data as data
import loading
import multi_model
import products
import provenance
import spread
import steps

SAMPLES = Path(iris_sample_data.path)
BASELINE = (1890, 1899)

#: What the checker says, and CF does not.
EXCEPTIONS = [
    # A coordinate without a dimension has bounds of one dimension (CF 1.7, section 7.1).
    r"Boundary variable \w+ specified by \w+ should have at least two dimensions",
    # A method may name a standard name that is no coordinate of the variable (section 7.3).
    r"cell_methods name component (longitude|latitude|realization) does not match a dimension",
    # The dimensions of a curvilinear grid are no axes (section 5.2).
    r"not in the recommended order T, Z, Y, X .*are time \(T\), j \(U\), i \(U\)",
]


@pytest.fixture(scope="module", autouse=True)
def _checkers() -> None:
    CheckSuite.load_all_available_checkers()


def complaints(path: Path) -> list[str]:
    """All that the checker has to say of a file, but the exceptions."""
    report = path.with_suffix(".json")
    ComplianceChecker.run_checker(
        str(path),
        ["cf:1.7"],
        0,
        "strict",
        output_filename=str(report),
        output_format="json",
    )
    found = json.loads(report.read_text())["cf:1.7"]
    assert found["scored_points"] > 20
    said = [
        text
        for priority in ("high", "medium", "low")
        for check in found[f"{priority}_priorities"]
        if check["value"][0] < check["value"][1]
        for text in check["msgs"]
    ]
    return [text for text in said if not any(re.search(known, text) for known in EXCEPTIONS)]


def save(cubes: Cube | CubeList, path: Path) -> None:
    each = [cubes] if isinstance(cubes, Cube) else cubes
    provenance.add(each, "s3fuse 0.2.0", "Made for a test", "step")
    steps.save(cubes, str(path))


@pytest.fixture(scope="module")
def velocity() -> Cube:
    """Monthly means of twelve years of sea ice."""
    files = sorted((SAMPLES / "UM").glob("northward_sea_ice_velocity.*.pp"))
    return loading.load(map(str, files), "northward_sea_ice_velocity")


PRODUCTS: dict[str, dict[str, object]] = {
    "monthly_climatology": {},
    "seasonal_climatology": {},
    "monthly_anomaly": {},
    "seasonal_anomaly": {},
    "trend": {},
    "percentiles": {"percents": [5, 50, 95]},
    "regridded": {"step": 5},
    "extracted": {"region": [0, 60, 90, 90]},
    "regional_series": {"regions": ["ARO", [0, 60, 90, 90]]},
}


def test_every_product_is_tried() -> None:
    assert PRODUCTS.keys() == products.MAKE.keys()


@pytest.mark.parametrize("product", PRODUCTS)
def test_products(velocity: Cube, tmp_path: Path, product: str) -> None:
    result = products.MAKE[product](velocity, BASELINE, **PRODUCTS[product])
    save(result, tmp_path / "result.nc")
    assert complaints(tmp_path / "result.nc") == []


def steps_of(cube: Cube) -> Iterator[tuple[str, Cube]]:
    annual = steps.annual_mean(cube)
    normal = steps.climatology(annual, BASELINE)
    yield "annual_mean", annual
    yield "climatology", normal
    yield "anomaly", steps.anomaly(annual, normal)
    yield "series", area_statistics.area_mean(annual)


def test_steps(velocity: Cube, tmp_path: Path) -> None:
    for name, result in steps_of(velocity):
        save(result, tmp_path / f"{name}.nc")
        assert complaints(tmp_path / f"{name}.nc") == [], name


def test_an_ensemble(tmp_path: Path) -> None:
    files = sorted((SAMPLES / "GloSea4").glob("*.pp"))
    members = [loading.load([str(file)], "surface_temperature") for file in files]
    save(spread.mean_and_spread(spread.ensemble(members)), tmp_path / "ensemble.nc")
    assert complaints(tmp_path / "ensemble.nc") == []


def test_many_models(velocity: Cube, tmp_path: Path) -> None:
    models = multi_model.Models()
    series = {}
    for number in range(3):
        cube = velocity + 0.01 * number
        cube.metadata = velocity.metadata
        by_step = dict(steps_of(cube))
        change = multi_model.change(by_step["anomaly"], (1895, 1899))
        models.add(f"model {number}", partial(multi_model.on_grid, change, {"step": 5}))
        series[f"model {number}"] = by_step["series"]
    assert len(models.kept) == 3
    models.left_out["model 3"] = "It is broken."
    maps = multi_model.statistics(models.kept, signed=True)
    for name, cubes in (("map", maps), ("series", multi_model.series(series))):
        multi_model.describe(cubes, models, ["s3://bucket/key"])
        save(cubes, tmp_path / f"{name}.nc")
        assert complaints(tmp_path / f"{name}.nc") == [], name


@pytest.mark.parametrize("make", [data.regular, data.rotated, data.tripolar])
def test_grids(make: Callable[..., Cube], tmp_path: Path) -> None:
    field = make(lambda x, y: 280 + y / 9)
    annual = data.in_years(field, np.arange(12.0), 1890)
    save(steps.anomaly(annual, steps.climatology(annual, BASELINE)), tmp_path / "anomaly.nc")
    assert complaints(tmp_path / "anomaly.nc") == []


def test_the_checker_sees_what_is_wrong(velocity: Cube, tmp_path: Path) -> None:
    cube = velocity[0]
    cube.units = "K"
    cube.attributes["title"] = ""
    steps.save(cube, str(tmp_path / "wrong.nc"))
    said = " ".join(complaints(tmp_path / "wrong.nc"))
    assert "title" in said
    assert "units" in said
