"""Variables that are derived from others by an expression, with units."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any

import iris.exceptions
from iris.cube import Cube

import equalise
from bad_data import DataError
from units import use_difference_units

OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}

#: A difference has this many zeros of its units, but for rounding.
NO_ZERO = 1e-9


def evaluate(expression: str, variables: Mapping[str, Cube], name: str) -> Cube:
    """Compute an expression over cubes, lazily.

    Sums and differences convert the second cube to the units of the first, and products
    and quotients have the units that follow; a number has none.  The difference of two
    temperatures is in kelvin, see `units.difference_units`.  Cell methods that not all
    variables have are left out.

    Parameters
    ----------
    expression : str
        Names of variables and numbers, with ``+ - * / **`` and parentheses.
    variables : mapping of str to Cube
        Of one shape; they are changed where they differ by rounding.
    name : str
        What the result is called; by its standard name if CF has it.

    Raises
    ------
    DataError
        If the expression is none of these, or the cubes do not fit together.
    """
    cubes = list(variables.values())
    equalise.equalise_attributes(cubes)
    equalise.equalise_times(cubes)
    equalise.equalise_coordinates(cubes)
    try:
        found, _ = _value(ast.parse(expression, mode="eval").body, variables)
    except (SyntaxError, KeyError, TypeError) as error:
        raise DataError(
            f"{expression!r} is no expression of {', '.join(variables)} and numbers with "
            "+ - * / ** and parentheses."
        ) from error
    except (ValueError, iris.exceptions.IrisError) as error:
        raise DataError(f"{expression!r} cannot be computed: {error}") from error
    if not isinstance(found, Cube):
        raise DataError(f"{expression!r} has no variable in it.")
    found.rename(name)
    for attribute, value in cubes[0].attributes.items():
        if all(cube.attributes.get(attribute) == value for cube in cubes):
            found.attributes[attribute] = value
    found.attributes["expression"] = expression
    found.cell_methods = tuple(
        method
        for method in cubes[0].cell_methods
        if all(method in cube.cell_methods for cube in cubes)
    )
    return found


def _value(node: ast.AST, variables: Mapping[str, Cube]) -> tuple[Any, float]:
    """Compute an expression, and count how many times the zero of its units is in it.

    It is once in a temperature and in the mean of two, and not at all in a difference of
    two.  Converting from degrees Celsius to kelvin adds 273.15 so many times.
    """
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return number, 0.0
        case ast.Name(id=name):
            return variables[name], 1.0
        case ast.UnaryOp(op=sign, operand=operand):
            value, zeros = _value(operand, variables)
            # Iris has no sign.
            return (value, zeros) if isinstance(sign, ast.UAdd) else (_scaled(value, -1), -zeros)
        case ast.BinOp(left=left, op=sign, right=right):
            return _combined(sign, *_value(left, variables), *_value(right, variables))
    raise TypeError(type(node).__name__)


def _combined(
    sign: ast.operator, one: Any, zeros: float, other: Any, others: float
) -> tuple[Any, float]:
    """Apply an operator to two terms, each with its number of zeros; see `_value`."""
    are_cubes = isinstance(one, Cube), isinstance(other, Cube)
    match sign:
        case ast.Add() | ast.Sub():
            if all(are_cubes):
                other = _converted(other, one, others)
            zeros = OPERATORS[type(sign)](zeros, others)
            found = OPERATORS[type(sign)](one, other)
            if isinstance(found, Cube) and abs(zeros) < NO_ZERO:
                use_difference_units(found)
            return found, zeros
        case ast.Mult() if are_cubes == (True, False):
            return _scaled(one, other), zeros * other
        case ast.Mult() if are_cubes == (False, True):
            return _scaled(other, one), others * one
        case ast.Div() if are_cubes == (True, False) and other != 0:
            return _scaled(one, 1 / other), zeros / other
    # Products of units have no zero of their own.
    return OPERATORS[type(sign)](one, other), 1.0 if any(are_cubes) else 0.0


def _scaled(value: Any, number: float) -> Any:
    """Multiply by a number; Iris makes kelvin of degrees Celsius, and the same numbers."""
    found = value * number
    if isinstance(value, Cube):
        found.units = value.units
    return found


def _converted(other: Cube, one: Cube, zeros: float) -> Cube:
    """Convert the second term of a sum to the units of the first.

    Units of temperature a and b relate as b = f a + z; a term in which the zero of its
    units is n times becomes f a + n z.

    Raises
    ------
    ValueError
        If the units cannot be converted.
    """
    if other.units == one.units:
        return other
    if not other.units.is_convertible(one.units):
        raise ValueError(f"{one.name()} is in {one.units}, and {other.name()} in {other.units}.")
    zero = other.units.convert(0.0, one.units)
    other = other.copy()
    other.convert_units(one.units)
    if zero != 0 and zeros != 1:
        other.data = other.core_data() + (zeros - 1) * zero
    return other
