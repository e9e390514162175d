"""What the source promises of itself: no state without an owner, and short ways."""

from __future__ import annotations

import dataclasses
import enum
import graphlib
import importlib
import inspect
import logging
import pkgutil
import re
import struct
import types
import typing
from pathlib import Path

import click
import grimp
import pytest

import s3fuse
import snakemake_on_schedule
import snakemake_storage_plugin_s3fuse

PACKAGES = (s3fuse, snakemake_on_schedule, snakemake_storage_plugin_s3fuse)
MODULES = sorted(
    {package.__name__ for package in PACKAGES}
    | {
        module.name
        for package in PACKAGES
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        if not module.name.endswith("__main__")
    }
)
#: Values that nobody can change.
IMMUTABLE = (bool, int, float, str, bytes, re.Pattern, struct.Struct, Path, type(None), enum.Enum)
#: What the language and libraries keep at the level of modules.
OF_PYTHON = (
    types.ModuleType,
    logging.Logger,
    typing.TypeVar,
    types.UnionType,
    types.GenericAlias,
    click.Command,
)
OURS = tuple(package.__name__ for package in PACKAGES)


def is_immutable(value: object) -> bool:
    if isinstance(value, tuple | frozenset):
        return all(map(is_immutable, value))
    if isinstance(value, types.MappingProxyType):
        return all(map(is_immutable, value.values()))
    if isinstance(value, type):
        return True
    if dataclasses.is_dataclass(value):
        return bool(type(value).__dataclass_params__.frozen)  # type: ignore[attr-defined]
    if inspect.isroutine(value) or hasattr(value, "cache_info"):
        # A cache would be state of the module; those of the standard library are its own.
        return not (hasattr(value, "cache_info") and value.__module__.startswith(OURS))
    if type(value).__module__ in ("typing", "__future__", "collections.abc", "datetime"):
        return True
    return isinstance(value, (*IMMUTABLE, *OF_PYTHON))


@pytest.mark.parametrize("name", MODULES)
def test_no_module_has_state(name: str) -> None:
    values = vars(importlib.import_module(name)).items()
    mutable = {key for key, value in values if not key.startswith("__") and not is_immutable(value)}
    assert mutable == set()


@pytest.mark.parametrize("value", [[], {}, set(), ([],), object(), types.SimpleNamespace()])
def test_state_is_recognised(value: object) -> None:
    assert not is_immutable(value)


def test_a_cached_function_is_state() -> None:
    import functools

    cached = functools.lru_cache(is_immutable)
    cached.__module__ = OURS[0]
    assert not is_immutable(cached)


def test_imports_have_no_circle() -> None:
    graph = grimp.build_graph(*(package.__name__ for package in PACKAGES))
    imports = {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}
    # Raises `CycleError`, which names the circle.
    graphlib.TopologicalSorter(imports).prepare()


#: What an input passes on its way from a query to bytes at a local path.
WAY_OF_AN_INPUT = (
    "snakemake_storage_plugin_s3fuse.storage_object",
    "snakemake_storage_plugin_s3fuse.run",
    "snakemake_storage_plugin_s3fuse.versions",
    "snakemake_storage_plugin_s3fuse.workflow_state",
    "s3fuse.session",
    "s3fuse.inputs.placement",
    "s3fuse.inputs.download",
    "s3fuse.inputs.prefetch",
    "s3fuse.mount.mounts",
    "s3fuse.mount.daemon",
    "s3fuse.node.links",
    "s3fuse.s3.store",
    "s3fuse.s3.listings",
)


@pytest.mark.parametrize("name", WAY_OF_AN_INPUT)
def test_calls_on_the_way_of_an_input_have_at_most_five_parameters(name: str) -> None:
    module = importlib.import_module(name)
    functions = [
        member
        for owner in (module, *(c for c in vars(module).values() if inspect.isclass(c)))
        for member in vars(owner).values()
        if inspect.isfunction(member) and member.__module__ == name
    ]
    assert functions
    long = [
        function.__qualname__
        for function in functions
        if not function.__qualname__.endswith("__init__") or not _is_generated(function)
        if sum(parameter != "self" for parameter in inspect.signature(function).parameters) > 5
    ]
    assert long == []


def _is_generated(function: types.FunctionType) -> bool:
    return function.__code__.co_filename == "<string>"


def test_the_storage_object_only_translates() -> None:
    path = Path(snakemake_storage_plugin_s3fuse.__file__).with_name("storage_object.py")
    assert len(path.read_text().splitlines()) < 220
