"""Functions of the user's own, by name."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

from iris.cube import Cube, CubeList

from bad_data import DataError


def run(step: Mapping[str, Any], cube: Cube) -> Cube | CubeList:
    """Call a function with a cube.

    Parameters
    ----------
    step : mapping
        ``function``, its module and name, such as ``studies.heat:days_above``, and its other
        arguments.
    cube : Cube
        The first argument; of shape (time, …).

    Raises
    ------
    DataError
        If there is no such function, or it returns no cube.
    """
    arguments = dict(step)
    name = arguments.pop("function")
    result = _find(name)(cube, **arguments)
    if isinstance(result, Cube) or (isinstance(result, CubeList) and result):
        return result
    raise DataError(f"The function {name} has returned no cube.")


def _find(name: str) -> Callable[..., Any]:
    module, _, function = name.partition(":")
    # Where snakemake runs, as Python looks beside a script.
    sys.path.insert(0, ".")
    try:
        found: Callable[..., Any] = getattr(importlib.import_module(module), function)
    except ImportError as error:
        raise DataError(
            f"The module {module} cannot be imported: {error}. It has to be installed, or lie in "
            "the folder in which snakemake runs."
        ) from error
    except AttributeError as error:
        raise DataError(f"The module {module} has no function {function!r}.") from error
    finally:
        sys.path.remove(".")
    return found
