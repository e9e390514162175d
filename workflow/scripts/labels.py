"""Names and units as they are set in figures."""

from __future__ import annotations

import re

from iris.cube import Cube


def quantity_label(cube: Cube, separator: str = " ") -> str:
    """Return the name of a cube's quantity and its units, for an axis."""
    units = units_label(str(cube.units))
    return readable(cube.name()) + (f"{separator}({units})" if units else "")


def part_of_year(cube: Cube) -> str:
    """Return what a title says of annual means of a part of the year; nothing for whole years."""
    months = cube.attributes.get("part_of_year")
    return f" ({months})" if months else ""


def units_label(units: str) -> str:
    """Set units as in print: exponents raised, and °C for celsius.

    Parameters
    ----------
    units : str
        As UDUNITS writes them, such as "kg m-2 s-1".

    Returns
    -------
    str
        For Matplotlib, such as "kg m$^{-2}$ s$^{-1}$"; empty for what has no units.
    """
    if units in ("1", "unknown", "no_unit"):
        return ""
    if trend := re.fullmatch(r"(.*?) / \((\d+) year\)", units):
        return f"{units_label(trend[1].strip('()'))} per {trend[2]} years".strip()
    units = re.sub(r"\b(celsius|degC|degrees?_(C|c)(elsius)?)\b", "°C", units)
    return re.sub(r"(?:\b([A-Za-zµ]+)|(\^|\*\*))(-?\d+)\b", r"\1$^{\3}$", units)


def readable(name: str) -> str:
    """Write the name of a quantity with spaces and a capital."""
    return name.replace("_", " ").capitalize()
