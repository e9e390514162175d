"""Units of results; expected numbers are worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from cf_units import Unit
from iris.cube import Cube

import seasons
import spread
import steps
import units
from bad_data import DataError
from science.test_steps import DAYS, LEAP, monthly


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


@pytest.mark.parametrize(("scale", "factor"), [("celsius", 1.0), ("degF", 5 / 9)])
def test_differences_of_temperatures_are_in_kelvin(scale: str, factor: float) -> None:
    values = np.random.default_rng(4).normal(280, 10, (24, 3, 4))
    cube = monthly(np.concatenate([DAYS, LEAP]), values)
    kelvin = cube.copy()
    cube.convert_units(scale)

    annual = steps.annual_mean(cube)
    assert annual.units == scale
    anomaly = steps.anomaly(annual, steps.climatology(annual, [2003, 2003]))
    means = [np.tensordot(days, values[start : start + 12], 1) / days.sum()
             for start, days in ((0, DAYS), (12, LEAP))]  # fmt: skip
    np.testing.assert_allclose(anomaly.data[1], means[1] - means[0], atol=1e-9)
    assert anomaly.units == "K"
    anomaly.convert_units("mK")
    np.testing.assert_allclose(anomaly.data[1], 1000 * (means[1] - means[0]), atol=1e-6)

    result = spread.trend(annual)
    assert result.units == "K / (10 year)"
    np.testing.assert_allclose(result.data, 10 * (means[1] - means[0]), atol=1e-8)

    months = seasons.anomaly(cube, seasons.climatology(cube, [2003, 2003], "month"), "month")
    assert months.units == "K"
    np.testing.assert_allclose(months.data[12:], values[12:] - values[:12], atol=1e-9)

    other = cube.copy(data=cube.data + 3 / factor)
    mean, deviation = spread.mean_and_spread(spread.ensemble([cube, other]))
    assert (mean.units, deviation.units) == (scale, "K")
    np.testing.assert_allclose(deviation.data, 3 / np.sqrt(2))
    mean.convert_units("K")
    np.testing.assert_allclose(mean.data, kelvin.data + 1.5)
