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
from units import difference_units

OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}


def evaluate(expression: str, variables: Mapping[str, Cube], name: str) -> Cube:
    """Compute an expression over cubes, lazily.

    Sums and differences convert the second cube to the units of the first, and products
    and quotients have the units that follow; a number has none.

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
        found = _value(ast.parse(expression, mode="eval").body, variables)
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


def _value(node: ast.AST, variables: Mapping[str, Cube]) -> Any:
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return number
        case ast.Name(id=name):
            return variables[name]
        case ast.UnaryOp(op=sign, operand=operand):
            value = _value(operand, variables)
            # Iris has no sign.
            return value if isinstance(sign, ast.UAdd) else value * -1
        case ast.BinOp(left=left, op=sign, right=right):
            one, other = _value(left, variables), _value(right, variables)
            found = OPERATORS[type(sign)](*_alike(sign, one, other))
            is_difference = isinstance(sign, ast.Sub) and isinstance(one, Cube)
            if is_difference and isinstance(other, Cube):
                # A difference of temperatures has no zero to convert.
                found.units, factor = difference_units(found.units)
                found.data = found.core_data() * factor if factor != 1 else found.core_data()
            return found
    raise TypeError(type(node).__name__)


def _alike(sign: ast.operator, one: Any, other: Any) -> tuple[Any, Any]:
    """Bring two terms of a sum to the same units."""
    is_sum = isinstance(sign, ast.Add | ast.Sub)
    if is_sum and isinstance(one, Cube) and isinstance(other, Cube) and one.units != other.units:
        if not other.units.is_convertible(one.units):
            raise ValueError(
                f"{one.name()} is in {one.units}, and {other.name()} in {other.units}."
            )
        other = other.copy()
        other.convert_units(one.units)
    return one, other
