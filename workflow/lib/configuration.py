"""The configuration of the workflow: checked, and filled in with defaults and archives."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match

from s3fuse.archives import Entries, Lister, Match, datasets, facets_of, find, lacking, newest
from s3fuse.errors import S3FuseError

SCHEMA = Path(__file__).parent / "../schemas/config.schema.yaml"
#: Names become names of files.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
#: Folders below the place for results.
RESULTS = frozenset(
    [
        *("annual_mean", "climatology", "anomaly", "series", "ensemble", "figures", "models"),
        *("multi_model", "monthly_climatology", "seasonal_climatology", "monthly_anomaly"),
        *("seasonal_anomaly", "extracted", "regridded", "trend", "percentiles"),
        "regional_series",
    ]
)
#: What an archive says of itself, not of its datasets.
OF_ARCHIVE = ("template", "facets", "joined", "name")
#: What a dataset says of its figures.
OF_FIGURES = ("group", "map")


class ConfigError(Exception):
    """One sentence: what is wrong with the configuration, and where."""


@dataclass
class Configuration:
    """What is to be made.

    Attributes
    ----------
    datasets : dict of str to dict
        Datasets that the configuration names, with their defaults.
    models : dict of str to dict
        Datasets that were found in archives, with their files.
    archives : dict of str to list of str
        The names of the datasets of each archive.
    incomplete : dict of str to dict of str to str
        For each archive the datasets that lack files, and which.
    ensembles, multi_models : dict of str to dict
        Their entries.
    """

    datasets: dict[str, dict[str, Any]]
    ensembles: dict[str, dict[str, Any]]
    multi_models: dict[str, dict[str, Any]]
    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    archives: dict[str, list[str]] = field(default_factory=dict)
    incomplete: dict[str, dict[str, str]] = field(default_factory=dict)


def read(config: dict[str, Any], listed: Lister) -> Configuration:
    """Check a configuration and fill it in.

    Parameters
    ----------
    config : dict
        As Snakemake has read it.  Entries of datasets are replaced by those with defaults.
    listed : callable
        Lists folders of buckets.

    Raises
    ------
    ConfigError
        If it is wrong, or nothing is found in an archive.
    """
    _fill_in_defaults(config)
    _facets_as_text(config)
    check(config)
    made = Configuration(
        config.get("datasets", {}), config.get("ensembles", {}), config.get("multi_models", {})
    )
    for name, archive in config.get("archives", {}).items():
        _expand(name, archive, listed, made)
    _check_names(made)
    _check_steps(made)
    return made


def check(config: Mapping[str, Any]) -> None:
    """Compare a configuration with its schema, and name the first key that is wrong.

    Raises
    ------
    ConfigError
        If one is.
    """
    schema = yaml.safe_load(SCHEMA.read_text())
    validator = Draft202012Validator(schema)
    errors = list(validator.iter_errors(config))
    # What is wrong with the defaults is wrong with each dataset.
    shared = [error for error in errors if list(error.absolute_path)[:1] == ["defaults"]]
    error = best_match(shared or errors)
    if error:
        key = ".".join(map(str, error.absolute_path)) or "the file"
        if error.validator == "anyOf" and not error.absolute_path:
            raise ConfigError("There are neither datasets nor archives nor ensembles; name one.")
        description = error.schema.get("description", "")
        parts = f"{error.message}. {description}", _allowed(error, schema), _example(error)
        raise ConfigError(f"{key}: {''.join(parts)}".strip())
    for kind in ("datasets", "archives"):
        for name, entry in config.get(kind, {}).items():
            first, last = entry["baseline"]
            if first > last:
                raise ConfigError(f"{kind}.{name}.baseline: {first} comes after {last}.")


def matching(pattern: str, listed: Lister) -> list[str]:
    """Find the files that a pattern with ``*`` or ``**`` stands for.

    Raises
    ------
    S3FuseError
        If there is none.
    """
    lister = listed if "://" in pattern else list_on_disk
    return [match.path for match in find(pattern, lister)]


def list_on_disk(folders: Sequence[str]) -> list[Entries]:
    """List local folders."""
    found = []
    for folder in folders:
        try:
            entries = sorted(os.scandir(folder or "."), key=lambda entry: entry.name)
        except (FileNotFoundError, NotADirectoryError):
            entries = []
        found.append(
            Entries(
                [entry.name for entry in entries if entry.is_dir()],
                [entry.name for entry in entries if not entry.is_dir()],
            )
        )
    return found


def _fill_in_defaults(config: dict[str, Any]) -> None:
    defaults = config.get("defaults")
    if not isinstance(defaults, dict):
        return
    for kind in ("datasets", "archives"):
        entries = config.get(kind)
        if isinstance(entries, dict):
            for name, entry in entries.items():
                if isinstance(entry, dict):
                    # Datasets of archives have no figures of their own.
                    skipped = OF_FIGURES if kind == "archives" else ()
                    shared = {k: v for k, v in defaults.items() if k not in skipped}
                    entries[name] = {**shared, **entry}


def _example(error: ValidationError) -> str:
    """Show what may stand where something of another type does."""
    examples = error.schema.get("examples")
    if error.validator != "type" or not examples:
        return ""
    text = yaml.safe_dump(examples[0], default_flow_style=True, sort_keys=False, width=1000)
    return f" Write it as {text.strip()}."


def _facets_as_text(config: Mapping[str, Any]) -> None:
    """Let numbers be values of facets: YAML reads an ``r`` of 1 as a number, and names are text."""
    archives = config.get("archives")
    for archive in archives.values() if isinstance(archives, dict) else ():
        facets = archive.get("facets") if isinstance(archive, dict) else None
        if isinstance(facets, dict):
            for key, value in list(facets.items()):
                values = [_text(each) for each in value] if isinstance(value, list) else value
                facets[key] = _text(values)


def _text(value: Any) -> Any:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return str(value) if is_number else value


def _allowed(error: ValidationError, schema: Mapping[str, Any]) -> str:
    """List the keys that are allowed where another one stands."""
    if error.validator not in ("additionalProperties", "unevaluatedProperties"):
        return ""
    keys = list(error.schema.get("properties", ()))
    if shared := error.schema.get("$ref", "").removeprefix("#/$defs/"):
        keys += schema["$defs"][shared].get("properties", ())
    return f" The keys are {', '.join(keys)}." if keys else ""


def _expand(name: str, archive: dict[str, Any], listed: Lister, made: Configuration) -> None:
    """Find the datasets of an archive."""
    place = f"archives.{name}"
    template, joined = archive["template"], archive.get("joined", [])
    facets = {key: _values(value) for key, value in archive.get("facets", {}).items()}
    wanted = {key: values for key, values in facets.items() if values}
    try:
        _check_facets(place, facets_of(template), facets, joined, archive)
        together = {key: wanted[key] for key in joined}
        found = newest(find(template, listed if "://" in template else list_on_disk, wanted))
        groups = datasets(found, archive["name"], together)
    except S3FuseError as error:
        raise ConfigError(f"{place}: {error}") from error
    _refuse_if_missing(place, wanted, found)
    left_out: dict[str, str] = {}
    for dataset, members in groups.items():
        if not NAME.fullmatch(dataset):
            raise ConfigError(f"{place}.name: {dataset!r} cannot be the name of a file.")
        if missing := lacking(members, together):
            left_out[dataset] = f"the archive has no files of {' and '.join(missing)}"
            continue
        entry = {key: value for key, value in archive.items() if key not in OF_ARCHIVE}
        entry["title"] = _title(place, archive["title"], members[0])
        entry["files"] = [match.path for match in members]
        if dataset in made.models:
            raise ConfigError(f"{place}.name: another archive has a dataset {dataset}, too.")
        made.models[dataset] = entry
    if len(left_out) == len(groups):
        first, reason = next(iter(left_out.items()))
        raise ConfigError(f"{place}: no dataset is complete; of {first} {reason}.")
    made.archives[name] = [dataset for dataset in groups if dataset not in left_out]
    made.incomplete[name] = left_out


def _values(value: str | list[str]) -> list[str]:
    """Return the wanted values of a facet; none for ``*``, which stands for any."""
    values = [value] if isinstance(value, str) else value
    return [] if values == ["*"] else values


def _check_facets(
    place: str,
    known: Sequence[str],
    facets: Mapping[str, list[str]],
    joined: Sequence[str],
    archive: Mapping[str, Any],
) -> None:
    for key in itertools.chain(facets, joined):
        if key not in known:
            raise ConfigError(
                f"{place}: the template has no facet {key!r}; it has {', '.join(known)}."
            )
    for key in joined:
        values = facets.get(key, ())
        if len(values) < 2 or any("*" in value for value in values):
            raise ConfigError(f"{place}.joined: name the values of {key} under facets, in order.")
        if f"{{{key}}}" in archive["name"]:
            raise ConfigError(f"{place}.name: {key} is joined, so it differs within a dataset.")


def _refuse_if_missing(
    place: str, wanted: Mapping[str, Sequence[str]], found: Sequence[Match]
) -> None:
    """Refuse a value that was named, and of which nothing is there."""
    for key, values in wanted.items():
        there = {match.facets[key] for match in found if key in match.facets}
        missing = [value for value in values if value not in there and "*" not in value]
        if missing and there:
            raise ConfigError(
                f"{place}.facets.{key}: nothing was found of {', '.join(missing)}, together with "
                f"the other facets; there is {', '.join(sorted(there))}."
            )


def _title(place: str, title: str, match: Match) -> str:
    try:
        return title.format(**match.facets)
    except (KeyError, IndexError, ValueError):
        raise ConfigError(
            f"{place}.title: {title!r} cannot be filled in; the facets are "
            f"{', '.join(match.facets)}."
        ) from None


def _check_names(made: Configuration) -> None:
    kinds = {
        "a dataset": made.datasets,
        "an ensemble": made.ensembles,
        "a dataset of an archive": made.models,
    }
    names: dict[str, str] = {}
    for kind, entries in kinds.items():
        for name in entries:
            if name in names:
                raise ConfigError(f"{name} is {names[name]} and {kind}; give one another name.")
            names[name] = kind
    for name, entry in made.multi_models.items():
        if entry["archive"] not in made.archives:
            raise ConfigError(
                f"multi_models.{name}.archive: there is no archive {entry['archive']!r}."
            )


def _check_steps(made: Configuration) -> None:
    """Refuse a step whose results would lie where others do."""
    for name, entry in (made.datasets | made.models).items():
        for step in entry.get("steps", {}):
            if step in RESULTS:
                raise ConfigError(
                    f"{name}: the step {step} has the name of a result of the workflow; choose "
                    "another."
                )
