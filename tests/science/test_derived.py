"""Derived variables, against numbers worked out by hand; and functions of the user's own."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import iris
import numpy as np
import pytest
from iris.coords import CellMethod, DimCoord
from iris.cube import Cube, CubeList

import derived
import loading
import own_functions
from bad_data import DataError
from units import convert_units

LATITUDE = DimCoord([0.0, 10.0, 20.0], "latitude", units="degrees")


def yearly(name: str, units: str, values: Any, **options: Any) -> Cube:
    """A lazy cube of shape (time, latitude)."""
    reference = options.get("reference", "days since 2000-01-01")
    days = np.array([15.0, 45.0]) + options.get("offset", 0)
    time = DimCoord(days, "time", units=reference)
    latitude = LATITUDE.copy(LATITUDE.points + options.get("rounding", 0.0))
    data = np.full((2, 3), values, "f4")
    cube = Cube(data, name, units=units, dim_coords_and_dims=[(time, 0), (latitude, 1)])
    return cube.copy(data=cube.lazy_data())


FLUXES = {
    "rsdt": yearly("toa_incoming_shortwave_flux", "W m-2", 340),
    "rsut": yearly("toa_outgoing_shortwave_flux", "W m-2", 100),
    # Of another file: its own reference of time, and latitudes that differ by rounding.
    "rlut": yearly(
        "toa_outgoing_longwave_flux",
        "mW cm-2",
        23.9,
        reference="days since 1999-12-31",
        offset=1,
        rounding=1e-9,
    ),
}


@pytest.mark.parametrize(
    ("expression", "value", "units"),
    [
        # 23.9 mW cm-2 are 239 W m-2.
        ("rsdt - rsut - rlut", 1, "W m-2"),
        ("rsut / rsdt", 100 / 340, "1"),
        ("1 - rsut / rsdt", 240 / 340, "1"),
        ("-(rsut + rlut) * 2", -678, "W m-2"),
        ("rsdt * rsut", 34000, "W2 m-4"),
        ("rsut ** 2", 10000, "W2 m-4"),
    ],
)
def test_expressions_have_units(expression: str, value: float, units: str) -> None:
    copies = {name: cube.copy() for name, cube in FLUXES.items()}
    cube = derived.evaluate(expression, copies, "result")
    assert cube.has_lazy_data()
    np.testing.assert_allclose(cube.data, value, rtol=1e-5)
    assert cube.units == units
    assert cube.name() == "result"
    assert cube.attributes["expression"] == expression
    assert cube.coord("time").shape == (2,)


# 20 and 12 degrees Celsius; 12 in kelvin and in Fahrenheit.
TEMPERATURES = {
    "tx": yearly("air_temperature", "celsius", 20),
    "tn": yearly("air_temperature", "celsius", 12),
    "tk": yearly("air_temperature", "K", 285.15),
    "tf": yearly("air_temperature", "fahrenheit", 53.6),
}


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("tx - tn", 8),
        ("tx - tk", 8),
        ("tk - tx", -8),
        ("tf - tx", -8),
        ("tx - tf", 8),
        ("-(tx - tn) / 2", -4),
        ("(tx - tn) - (tn - tx)", 16),
        ("(tx - tn) + (tk - tn)", 8),
        # A temperature again.
        ("tn + (tx - tn) / 2", 273.15 + 16),
        ("tf + (tx - tn) / 2", 273.15 + 16),
        ("(tx - tn) / 2 + tn", 273.15 + 16),
        ("tx - (tx - tn)", 273.15 + 12),
        ("tx - 2 * (tx - tn)", 273.15 + 4),
        ("(tx + tk) / 2", 273.15 + 16),
        ("(tx + tn) / 2", 273.15 + 16),
        ("0.5 * tx + tk * 0.5", 273.15 + 16),
        ("(tx + tn + tf) / 3", 273.15 + 44 / 3),
        ("-tn + tx", 8),
        ("tx + -1 * tk", 8),
        ("tx - 5", 273.15 + 15),
    ],
)
def test_differences_of_temperatures_have_no_zero_to_convert(expression: str, value: float) -> None:
    copies = {name: cube.copy() for name, cube in TEMPERATURES.items()}
    cube = derived.evaluate(expression, copies, "result")
    assert cube.has_lazy_data()
    convert_units(cube, "K")
    np.testing.assert_allclose(cube.data, value, atol=1e-4)


def test_a_difference_of_temperatures_is_in_kelvin() -> None:
    copies = {name: cube.copy() for name, cube in TEMPERATURES.items()}
    assert derived.evaluate("tx - tn", copies, "range").units == "K"
    assert derived.evaluate("tx - 5", copies, "less").units == "celsius"


def test_only_cell_methods_of_all_variables_stay() -> None:
    variables = {name: TEMPERATURES[name].copy() for name in ("tx", "tn")}
    area, month = CellMethod("mean", "area"), CellMethod("mean", "time", comments="over days")
    for cube, method in zip(variables.values(), ("maximum", "minimum"), strict=True):
        cube.cell_methods = (area, CellMethod(method, "time", comments="within days"), month)
    found = derived.evaluate("tx - tn", variables, "range")
    assert found.cell_methods == (area, month)


@pytest.mark.parametrize(
    "expression",
    ["rsdt -", "rsdt - other", "__import__('os')", "rsdt.data", "rsdt[0]", "rsdt and rsut", "True"],
)
def test_what_is_no_expression_is_refused(expression: str) -> None:
    sentence = f"{expression!r} is no expression of rsdt, rsut, rlut and numbers with + - * / **"
    with pytest.raises(DataError, match=re.escape(sentence)):
        derived.evaluate(expression, {n: c.copy() for n, c in FLUXES.items()}, "result")


def test_a_number_is_no_result() -> None:
    with pytest.raises(DataError, match="has no variable in it"):
        derived.evaluate("1 + 1", {"rsdt": FLUXES["rsdt"].copy()}, "result")


def test_what_does_not_fit_together_is_refused() -> None:
    other = yearly("air_temperature", "K", 280)
    variables = {"rsdt": FLUXES["rsdt"].copy(), "tas": other}
    with pytest.raises(DataError, match=r"is in W m-2, and air_temperature in K"):
        derived.evaluate("rsdt - tas", variables, "result")
    longer = CubeList([other, yearly("air_temperature", "K", 281, offset=60)]).concatenate_cube()
    with pytest.raises(DataError, match="cannot be computed"):
        derived.evaluate("rsdt * tas", {"rsdt": FLUXES["rsdt"].copy(), "tas": longer}, "result")


def test_variables_come_from_the_files_of_the_dataset(tmp_path: Path) -> None:
    files = []
    for name, cube in FLUXES.items():
        files.append(str(tmp_path / f"{name}.nc"))
        iris.save(cube, files[-1])
    spec = {
        "name": "toa_net_downward_radiative_flux",
        "expression": "rsdt - rsut - rlut",
        "variables": {
            "rsdt": "toa_incoming_shortwave_flux",
            "rsut": {"name": "toa_outgoing_shortwave_flux"},
            "rlut": "toa_outgoing_longwave_flux",
        },
        "coordinates": {"latitude": [5, 25]},
    }
    cube = loading.load(files, spec, "mW m-2")
    np.testing.assert_allclose(cube.data, np.full((2, 2), 1000), rtol=2e-5)
    assert cube.long_name == "toa_net_downward_radiative_flux" or cube.standard_name
    spec["variables"] = {**spec["variables"], "rlut": "surface_temperature"}  # type: ignore[dict-item]
    with pytest.raises(DataError, match="matches the constraint 'surface_temperature'"):
        loading.load(files, spec)


def test_functions_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_study.py").write_text(
        "def doubled(cube, times=2):\n    return cube * times\n"
        "def nothing(cube):\n    return None\n"
    )
    monkeypatch.chdir(tmp_path)
    cube = FLUXES["rsdt"].copy()
    found = own_functions.run({"function": "own_study:doubled", "times": 3}, cube)
    assert isinstance(found, Cube)
    np.testing.assert_allclose(found.data, 1020)
    with pytest.raises(DataError, match="own_study:nothing has returned no cube"):
        own_functions.run({"function": "own_study:nothing"}, cube)
    with pytest.raises(DataError, match="module own_study has no function 'tripled'"):
        own_functions.run({"function": "own_study:tripled"}, cube)
    with pytest.raises(DataError, match=r"own_studies cannot be imported.*has to be installed"):
        own_functions.run({"function": "own_studies:doubled"}, cube)
    assert "." not in sys.path
    del sys.modules["own_study"]
