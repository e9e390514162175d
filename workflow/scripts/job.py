"""What all scripts share: their log, and one sentence for what the user can mend."""

from __future__ import annotations

import html
import json
import sys
import traceback
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask
from iris.cube import Cube, CubeList
from iris.warnings import IrisVagueMetadataWarning

import provenance
import steps
from bad_data import DataError, refuse_if_broken

#: Beside its log a job leaves how many bytes of each input came to its node.
READS = ".reads.json"


@contextmanager
def logged(snakemake: Any) -> Iterator[None]:
    """Send what goes wrong to the log of the rule, and say it on standard error.

    Inputs are called what they are called in their bucket.
    """
    dask.config.set(num_workers=snakemake.threads)
    # That a mean over years has no bounds of its own is no news to anybody.
    warnings.simplefilter("ignore", IrisVagueMetadataWarning)
    names = _names(snakemake)
    with open(snakemake.log[0], "w", buffering=1) as log:
        try:
            try:
                with naming_broken_inputs(snakemake):
                    yield
            except DataError:
                raise
            except Exception:
                traceback.print_exc(file=log)
                raise
        except DataError as error:
            text = sentence(error, snakemake)
            print(text, file=log)
            sys.exit(f"{snakemake.rule}: {text}")
        print("done", file=log)
    _count(names, Path(snakemake.log[0]).with_suffix(READS))


@contextmanager
def naming_broken_inputs(snakemake: Any) -> Iterator[None]:
    """Turn what goes wrong with an input that is broken into a sentence that names it."""
    try:
        yield
    except DataError:
        raise
    except Exception:
        # Only what is wrong with no input is a fault of the program.
        refuse_if_broken(list(_names(snakemake)))
        raise


def sentence(error: Exception, snakemake: Any) -> str:
    """Say what went wrong with an input, by the names that inputs have in their bucket."""
    text = str(error) if isinstance(error, DataError) else f"{type(error).__name__}: {error}"
    return named(" ".join(text.split()), _names(snakemake))


def save(snakemake: Any, result: Cube | CubeList, path: Path | None = None) -> None:
    """Save a result of a job with its history, and the objects that it is made of.

    Parameters
    ----------
    snakemake
        The job.
    result : Cube or CubeList
        What to save.
    path : Path, optional
        Where to; the output of the job if left out.
    """
    params = snakemake.params
    names = ("constraint", "units", "baseline", "options", "settings")
    options = {name: unescaped(params.get(name)) for name in names}
    what = path.stem if path is not None else snakemake.rule
    provenance.add(
        [result] if isinstance(result, Cube) else result,
        params.provenance["program"],
        f"{what.replace('_', ' ').capitalize()} of {', '.join(snakemake.wildcards)}",
        provenance.step(snakemake.rule, ", ".join(snakemake.wildcards), options),
        unescaped(params.provenance["sources"]),
    )
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
    steps.save(result, str(path or snakemake.output[0]))


def unescaped(value: Any) -> Any:
    """Undo the escapes that keep parameters harmless in Snakemake's report."""
    match value:
        case str():
            return html.unescape(value)
        case dict():
            return {unescaped(key): unescaped(inner) for key, inner in value.items()}
        case list():
            return [unescaped(inner) for inner in value]
    return value


def _names(snakemake: Any) -> dict[str, str]:
    return dict(zip(map(str, snakemake.input), unescaped(snakemake.params.names), strict=True))


def _count(names: Mapping[str, str], path: Path) -> None:
    try:
        from s3fuse.mount.mounts import moved
    except ImportError:
        # In an environment of its own, a job has no plugin to ask.
        return
    found = {name: moved(Path(file)) for file, name in names.items() if Path(file).is_file()}
    path.write_text(json.dumps(found))


def named(sentence: str, names: Mapping[str, str]) -> str:
    """Put the names of objects for the paths of their copies; say which it is about."""
    for path, name in names.items():
        sentence = sentence.replace(path, name)
    if not any(name in sentence for name in names.values()):
        first, *others = names.values()
        sentence += f" It is about {first}{f' and {len(others)} more' if others else ''}."
    return sentence
