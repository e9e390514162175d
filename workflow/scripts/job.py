"""What all scripts share: their log, and one sentence for what the user can mend."""

from __future__ import annotations

import html
import json
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask
from iris.cube import Cube, CubeList

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
    names = dict(zip(map(str, snakemake.input), unescaped(snakemake.params.names), strict=True))
    with open(snakemake.log[0], "w", buffering=1) as log:
        try:
            try:
                yield
            except DataError:
                raise
            except Exception:
                # Only what is wrong with no input is a fault of the program.
                refuse_if_broken(list(names))
                traceback.print_exc(file=log)
                raise
        except DataError as error:
            sentence = named(str(error), names)
            print(sentence, file=log)
            sys.exit(f"{snakemake.rule}: {sentence}")
        print("done", file=log)
    _count(names, Path(snakemake.log[0]).with_suffix(READS))


def save(result: Cube | CubeList, snakemake: Any) -> None:
    """Save the result of a job with its history, and the objects that it is made of."""
    params = snakemake.params
    names = ("constraint", "units", "baseline", "options")
    options = {name: unescaped(params.get(name)) for name in names}
    provenance.add(
        [result] if isinstance(result, Cube) else result,
        params.provenance["program"],
        provenance.step(snakemake.rule, snakemake.wildcards.dataset, options),
        unescaped(params.provenance["sources"]),
    )
    steps.save(result, snakemake.output[0])


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


def _count(names: Mapping[str, str], path: Path) -> None:
    try:
        from s3fuse.mount.s3fs_cache.page_list import moved
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
