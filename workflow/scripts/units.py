"""Units of results: fluxes of water, and differences of temperatures."""

from __future__ import annotations

import iris.exceptions
from cf_units import Unit
from iris.cube import Cube

from bad_data import DataError

#: Of liquid water, which relates a mass of water on an area to the thickness of its layer.
WATER_DENSITY = Unit("1000 kg m-3")

#: Standard names of fluxes of water as mass, and as the thickness of a layer of liquid
#: water.  Not all have a name for the second.
WATER_FLUXES = {
    "precipitation_flux": "lwe_precipitation_rate",
    "convective_precipitation_flux": "lwe_convective_precipitation_rate",
    "stratiform_precipitation_flux": "lwe_stratiform_precipitation_rate",
    "rainfall_flux": "rainfall_rate",
    "convective_rainfall_flux": "convective_rainfall_rate",
    "stratiform_rainfall_flux": "stratiform_rainfall_rate",
    "snowfall_flux": "lwe_snowfall_rate",
    "convective_snowfall_flux": "lwe_convective_snowfall_rate",
    "stratiform_snowfall_flux": "lwe_stratiform_snowfall_rate",
    "solid_precipitation_flux": "lwe_solid_precipitation_rate",
    "water_evaporation_flux": "lwe_water_evaporation_rate",
    "water_evapotranspiration_flux": None,
    "water_potential_evaporation_flux": None,
    "water_evaporation_flux_from_canopy": None,
    "water_evaporation_flux_from_soil": None,
    "transpiration_flux": None,
    "surface_snow_melt_flux": None,
    "surface_snow_and_ice_sublimation_flux": None,
    "runoff_flux": None,
    "surface_runoff_flux": None,
    "subsurface_runoff_flux": None,
}


def convert_units(cube: Cube, units: str, file: str | None = None) -> None:
    """Convert the data of a cube to other units, in place; lazy data stays lazy.

    A flux of water as mass, such as ``kg m-2 s-1``, is converted to the thickness of a
    layer of liquid water in a time, such as ``mm day-1``, and back, as
    ``esmvalcore.preprocessor.convert_units`` does: thickness = mass / density, with
    `WATER_DENSITY`.  The standard name becomes that of the other quantity, and the
    attribute ``density_of_water`` says what was assumed.

    Parameters
    ----------
    cube : Cube
        With any units.
    units : str
        The new units.
    file : str, optional
        What the cube was read from, for messages.

    Raises
    ------
    DataError
        If the units are those of another quantity, or are none.
    """
    try:
        Unit(units)
    except ValueError as error:
        raise DataError(f"{units!r} is not a unit; write it as in UDUNITS.") from error
    try:
        cube.convert_units(units)
    except (ValueError, iris.exceptions.UnitConversionError) as error:
        if not _convert_water_flux(cube, units):
            place = f" in {file}" if file else ""
            raise DataError(
                f"{cube.name()}{place} has the units {str(cube.units)!r}, which cannot be "
                f"converted to {units!r}."
            ) from error


def difference_units(units: Unit) -> tuple[Unit, float]:
    """Find the units of a difference between two values.

    The difference of two temperatures in degrees Celsius is in kelvin: converting it
    must not add 273.15.

    Parameters
    ----------
    units : Unit
        Of both values.

    Returns
    -------
    units : Unit
        The same, or kelvin for units of temperature with another zero.
    factor : float
        What differences have to be multiplied by.
    """
    kelvin = Unit("K")
    if units.is_unknown() or units.is_no_unit() or not units.is_convertible(kelvin):
        return units, 1.0
    zero = units.convert(0.0, kelvin)
    if zero == 0:
        return units, 1.0
    factor = round(float(units.convert(1000.0, kelvin) - zero) / 1000, 12)
    return kelvin, factor


def use_difference_units(cube: Cube) -> None:
    """Give a cube whose data are differences the units for these; lazy data stays lazy."""
    units, factor = difference_units(cube.units)
    if factor != 1:
        cube.data = cube.core_data() * factor
    cube.units = units


def _convert_water_flux(cube: Cube, units: str) -> bool:
    name, other = cube.standard_name, dict[str | None, str | None](WATER_FLUXES)
    other |= {rate: flux for flux, rate in WATER_FLUXES.items() if rate}
    if name not in other or cube.units.is_unknown():
        return False
    for converted in (cube.units / WATER_DENSITY, cube.units * WATER_DENSITY):
        if converted.is_convertible(units):
            cube.units = converted
            cube.convert_units(units)
            cube.standard_name, cube.var_name = other[name], None
            cube.long_name = None if other[name] else name.removesuffix("_flux") + "_rate"
            cube.attributes.locals["density_of_water"] = str(WATER_DENSITY)
            return True
    return False
