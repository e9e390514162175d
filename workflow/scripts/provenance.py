"""What a result is made of and by what, as attributes of its file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import iris
from iris.cube import Cube

#: Names each object that a result is made of, with its ETag; one a line.
SOURCES = "source_objects"


def add(
    cubes: Iterable[Cube],
    program: str,
    title: str,
    step: str,
    sources: Iterable[Mapping[str, Any]] = (),
) -> None:
    """Give cubes a title, a line of history, and the objects that they are made of.

    The history is as the conventions of netCDF and CF ask for it: each line begins with
    date and time, and follows those of the programs before.

    Parameters
    ----------
    cubes : iterable of Cube
        They are changed.
    program : str
        Name and version of the program.
    title : str
        What the file has.
    step : str
        What the program has done, in one line.
    sources : iterable of mapping
        For each object ``name``, ``etag``, ``bytes`` and ``written``.  Without any, the
        sources that the cubes have from an earlier step stay.
    """
    time = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    line = f"{time}: {program}, Iris {iris.__version__}: {' '.join(step.split())}"
    listed = "\n".join(map(_version, sources))
    for cube in cubes:
        earlier = str(cube.attributes.pop("history", "")).rstrip("\n")
        cube.attributes.pop("title", None)
        cube.attributes.globals["title"] = title
        cube.attributes.globals["history"] = f"{earlier}\n{line}" if earlier else line
        if listed:
            cube.attributes.pop(SOURCES, None)
            cube.attributes.globals[SOURCES] = listed


def step(rule: str, dataset: str, options: Mapping[str, Any]) -> str:
    """Describe the step of a rule, with its options as they are configured."""
    given = ", ".join(f"{name} {value}" for name, value in options.items() if value)
    return f"{rule} of {dataset}{f' with {given}' if given else ''}"


def _version(source: Mapping[str, Any]) -> str:
    """Name the version of an object, or of a file by its size and time."""
    if source["etag"]:
        return f"{source['name']} ETag {source['etag']}"
    return f"{source['name']} {source['bytes']} bytes written {source['written']}"
