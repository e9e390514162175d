"""Colours and levels by quantity."""

from __future__ import annotations

import re

import numpy as np
from iris.cube import Cube

from units import difference_units

#: What the names of water quantities contain.
WATER = re.compile(
    "precipitation|rain|snow|evapor|transpir|moisture|humidity|runoff|river|water(?!.*temperature)"
)


#: Colours of what has no middle.
SEQUENTIAL = "viridis"


def scale(values: np.ma.MaskedArray, field: Cube, is_difference: bool) -> tuple[np.ndarray, str]:
    """Choose levels and colours of a quantity.

    Zero has a colour of its own for differences, and for what goes both ways, such as a
    velocity or a balance of fluxes; not for temperatures in degrees, whose zero is arbitrary.
    """
    known = np.ma.compressed(values)
    low, high = np.percentile(known, [5, 95]) if known.size else (0.0, 0.0)
    goes_both_ways = min(-low, high) > 0.1 * max(-low, high)
    has_zero = difference_units(field.units)[0] == field.units
    if is_difference or (goes_both_ways and has_zero):
        return symmetric_levels(values), colour_map(field.name())
    return sequential_levels(values), SEQUENTIAL


def symmetric_levels(values: np.ma.MaskedArray) -> np.ndarray:
    """Choose round levels around zero, beyond which lies about a hundredth of the values.

    Returns
    -------
    ndarray
        From 9 to 17 levels, with steps of 1, 2, 2.5 or 5 times a power of ten.
    """
    known = np.abs(np.ma.compressed(values))
    limit = float(np.percentile(known, 99)) if known.size else 0.0
    if not limit:
        limit = 1.0
    power = 10.0 ** np.floor(np.log10(limit / 8))
    factor = next(each for each in (1, 2, 2.5, 5, 10) if each * power >= 0.999 * limit / 8)
    count = int(np.ceil(0.999 * limit / (factor * power)))
    levels: np.ndarray = np.round(factor * np.arange(-count, count + 1), 1) * power
    return levels


def sequential_levels(values: np.ma.MaskedArray) -> np.ndarray:
    """Choose from 8 to 16 round levels, beyond which lies about a hundredth of the values."""
    known = np.ma.compressed(values)
    low, high = np.percentile(known, [1, 99]) if known.size else (0.0, 1.0)
    if high <= low:
        high = low + (abs(low) or 1.0)
    power = 10.0 ** np.floor(np.log10((high - low) / 8))
    factor = next(each for each in (1, 2, 2.5, 5, 10) if each * power >= 0.999 * (high - low) / 12)
    step = factor * power
    levels: np.ndarray = step * np.arange(np.floor(low / step), np.ceil(high / step) + 1)
    return levels


def colour_map(name: str) -> str:
    """Choose the colours for anomalies of a quantity: one of Matplotlib's, light at zero.

    Blue to red for temperatures, brown to green for water, purple to orange for others;
    all are of ColorBrewer, and can be told apart by the colour-blind.
    """
    if WATER.search(name):
        return "BrBG"
    return "RdBu_r" if "temperature" in name else "PuOr_r"
