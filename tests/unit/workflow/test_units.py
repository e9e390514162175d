"""Units of results; expected numbers are worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from cf_units import Unit
from iris.cube import Cube

import units
from bad_data import DataError


@pytest.mark.parametrize(
    ("name", "source", "target", "value", "new_name"),
    [
        ("precipitation_flux", "kg m-2 s-1", "mm day-1", 86400, "lwe_precipitation_rate"),
        ("precipitation_flux", "kg m-2 s-1", "m s-1", 1e-3, "lwe_precipitation_rate"),
        ("precipitation_flux", "kg m-2 day-1", "mm day-1", 1, "lwe_precipitation_rate"),
        ("lwe_precipitation_rate", "mm day-1", "kg m-2 s-1", 1 / 86400, "precipitation_flux"),
        ("snowfall_flux", "kg m-2 s-1", "cm day-1", 8640, "lwe_snowfall_rate"),
        ("water_evaporation_flux", "kg m-2 s-1", "mm h-1", 3600, "lwe_water_evaporation_rate"),
        ("runoff_flux", "kg m-2 s-1", "mm day-1", 86400, "runoff_rate"),
        ("precipitation_flux", "g m-2 s-1", "mm day-1", 86.4, "lwe_precipitation_rate"),
    ],
)
def test_fluxes_of_water(name: str, source: str, target: str, value: float, new_name: str) -> None:
    cube = Cube(np.ones(3), standard_name=name, var_name="pr", units=source)
    cube = cube.copy(data=cube.lazy_data())
    units.convert_units(cube, target)
    assert cube.has_lazy_data()
    np.testing.assert_allclose(cube.data, value)
    assert (cube.name(), cube.units) == (new_name, target)
    assert cube.attributes["density_of_water"] == "1000 kg m-3"


def test_a_change_of_units_alone_keeps_the_name() -> None:
    cube = Cube(1.0, standard_name="precipitation_flux", units="kg m-2 s-1")
    units.convert_units(cube, "kg m-2 day-1")
    assert (cube.name(), float(cube.data)) == ("precipitation_flux", 86400)
    assert "density_of_water" not in cube.attributes


@pytest.mark.parametrize(
    ("name", "source", "target"),
    [
        ("surface_upward_mass_flux_of_carbon_dioxide_expressed_as_carbon_due_to_emission_from_"
         "fires", "kg m-2 s-1", "mm day-1"),
        ("air_temperature", "K", "mm day-1"),
        ("precipitation_flux", "kg m-2 s-1", "K"),
        ("precipitation_flux", "unknown", "mm day-1"),
    ],
)  # fmt: skip
def test_other_quantities_are_refused(name: str, source: str, target: str) -> None:
    cube = Cube(1.0, long_name=name, units=source)
    if "fires" not in name:
        cube.standard_name = name
    with pytest.raises(DataError, match=f"has the units '{source}', which cannot be converted"):
        units.convert_units(cube, target)


@pytest.mark.parametrize(
    ("source", "target", "factor"),
    [
        ("K", "K", 1),
        ("celsius", "K", 1),
        ("degF", "K", 5 / 9),
        ("degC", "K", 1),
        ("m s-1", "m s-1", 1),
        ("1", "1", 1),
        ("mK", "mK", 1),
        ("unknown", "unknown", 1),
    ],
)
def test_units_of_differences(source: str, target: str, factor: float) -> None:
    found, found_factor = units.difference_units(Unit(source))
    assert found == Unit(target)
    assert found_factor == pytest.approx(factor, rel=1e-10)


def test_units_that_are_none() -> None:
    with pytest.raises(DataError, match="'mm daay-1' is not a unit"):
        units.convert_units(Cube(1.0, units="K"), "mm daay-1")
