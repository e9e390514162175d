"""Files of an archive: found by a pattern, chosen by facets, and put together as datasets.

An archive names its files by what they hold, such as the layout of CMIP6
(``CMIP6/CMIP/MOHC/HadGEM3-GC31-LL/historical/r1i1p1f3/Amon/tas/gn/v20190624``).
A pattern says which part of a name is which facet: ``{model}``, ``{experiment}``.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from s3fuse.errors import QueryError

_TOKEN = re.compile(r"\{([A-Za-z_]\w*)\}|(\*)")
_HAS_TOKEN = re.compile(r"[*{]")
#: Names that a message lists.
_SHOWN = 8


@dataclass(frozen=True)
class Entries:
    """What lies directly in a folder, by name."""

    folders: Collection[str]
    files: Collection[str]


@dataclass(frozen=True)
class Match:
    """A file that a pattern stands for.

    Attributes
    ----------
    path : str
        Its path or URL.
    facets : dict of str to str
        What stands in it for each facet.
    """

    path: str
    facets: dict[str, str]


#: Lists folders, which end with a slash; a folder that is not there has no entries.
Lister = Callable[[Sequence[str]], Sequence[Entries]]
#: For each facet the values that are wanted; any, where it has none.
Facets = Mapping[str, Collection[str]]


def find(pattern: str, listed: Lister, facets: Facets | None = None) -> list[Match]:
    """Find the files that a pattern stands for, one level of folders after the other.

    Only folders that fit are listed, so the rest of an archive may be large.

    Parameters
    ----------
    pattern : str
        A path, or the URL of a bucket and a key.  ``*`` stands for any part of a name,
        ``**`` for any folders, ``{facet}`` for a part of a name that is the same
        wherever the facet occurs.  As in a shell, names that begin with a dot are
        found only by a pattern that does.
    listed : callable
        Lists folders, several at once.
    facets : mapping of str to collection of str, optional
        The wanted values; a ``*`` in one stands for any part.

    Returns
    -------
    list of Match
        By path; at least one.

    Raises
    ------
    QueryError
        If nothing fits; the message has the first part of the pattern that nothing fits.
    """
    facets = facets or {}
    root, parts = _split(pattern)
    places = [Match(root, {})]
    for number, part in enumerate(parts):
        is_last = number == len(parts) - 1
        if part == "**" and not is_last:
            places = _with_all_below(places, listed)
        elif not is_last and not _HAS_TOKEN.search(part):
            places = [Match(f"{place.path}{part}/", place.facets) for place in places]
        else:
            places = _step(places, part, listed, facets, pattern, is_last)
    return sorted(places, key=lambda match: match.path)


def newest(matches: Iterable[Match], facet: str = "version") -> list[Match]:
    """Leave out files of which there is a newer version, and the facet with them.

    Versions are compared as people do: v9 is older than v10, and v20190101 than v20200101.
    """
    matches = list(matches)
    greatest: dict[tuple[str, ...], str] = {}
    for match in matches:
        others = _without(match, facet)
        version = match.facets.get(facet, "")
        greatest[others] = max(greatest.get(others, version), version, key=_natural)
    return [
        Match(match.path, {name: v for name, v in match.facets.items() if name != facet})
        for match in matches
        if match.facets.get(facet, "") == greatest[_without(match, facet)]
    ]


def datasets(
    matches: Iterable[Match], name: str, joined: Mapping[str, Sequence[str]] | None = None
) -> dict[str, list[Match]]:
    """Put the files together that are one dataset.

    Parameters
    ----------
    matches : iterable of Match
        Files with facets.
    name : str
        What a dataset is called, such as ``{model}_{member}``.
    joined : mapping of str to sequence of str, optional
        Facets that differ within a dataset, with all the values that each dataset must
        have, in their order: ``{"experiment": ["historical", "ssp585"]}``.

    Returns
    -------
    dict of str to list of Match
        Files by name of the dataset, in the order of the joined values.

    Raises
    ------
    QueryError
        If another facet differs within a dataset, or the name has a facet that the files
        have not.
    """
    joined = joined or {}
    found: dict[str, list[Match]] = {}
    for match in matches:
        try:
            title = name.format(**match.facets)
        except (KeyError, IndexError, ValueError):
            known = ", ".join(sorted(match.facets))
            raise QueryError(f"{name!r} cannot be filled in; the facets are {known}.") from None
        found.setdefault(title, []).append(match)
    for title, members in found.items():
        _refuse_mixture(title, members, joined)
        for facet, values in joined.items():
            order = {value: number for number, value in enumerate(values)}
            members.sort(key=lambda match: order[match.facets[facet]])
    return dict(sorted(found.items()))


def lacking(members: Iterable[Match], joined: Mapping[str, Sequence[str]]) -> list[str]:
    """Name the values of joined facets that a dataset has no files of."""
    members = list(members)
    return [
        value
        for facet, values in joined.items()
        for value in values
        if all(match.facets[facet] != value for match in members)
    ]


def facets_of(pattern: str) -> list[str]:
    """Name the facets of a pattern, in their order.

    Raises
    ------
    QueryError
        If it has a brace that belongs to no facet.
    """
    try:
        names = [name for _, name, spec, conversion in string.Formatter().parse(pattern) if name]
        if all(name.isidentifier() for name in names):
            return list(dict.fromkeys(names))
    except ValueError:
        pass
    raise QueryError(f"{pattern!r} has a brace that belongs to no {{facet}}.")


def _split(pattern: str) -> tuple[str, list[str]]:
    """Take a pattern apart: what is in front of the first folder, and the names."""
    scheme, mark, rest = pattern.rpartition("://")
    if mark:
        bucket, _, rest = rest.partition("/")
        return f"{scheme}{mark}{bucket}/", rest.split("/")
    root = "/" if pattern.startswith("/") else ""
    return root, pattern.removeprefix("/").split("/")


def _step(
    places: list[Match], part: str, listed: Lister, facets: Facets, pattern: str, is_last: bool
) -> list[Match]:
    """Go from folders to what fits in them: folders, or files at the end."""
    found, available = [], set[str]()
    for place, entries in zip(places, listed([place.path for place in places]), strict=True):
        names = entries.files if is_last else entries.folders
        expression = _expression(part, facets, place.facets)
        for name in names:
            if name.startswith(".") and not part.startswith("."):
                continue
            available.add(name)
            if match := expression.fullmatch(name):
                path = f"{place.path}{name}{'' if is_last else '/'}"
                found.append(Match(path, {**place.facets, **match.groupdict()}))
    if not found:
        raise QueryError(_nothing(places, part, facets, pattern, available, is_last))
    return found


def _with_all_below(places: list[Match], listed: Lister) -> list[Match]:
    """Add all folders at any depth."""
    found, level = list(places), places
    while level:
        level = [
            Match(f"{place.path}{name}/", place.facets)
            for place, entries in zip(level, listed([each.path for each in level]), strict=True)
            for name in entries.folders
            if not name.startswith(".")
        ]
        found += level
    return found


def _expression(part: str, facets: Facets, known: Mapping[str, str]) -> re.Pattern[str]:
    """Turn a part of a pattern into a regular expression."""
    text, end, here = "", 0, set[str]()
    for token in _TOKEN.finditer(part):
        text += re.escape(part[end : token.start()])
        end, facet = token.end(), token[1]
        if facet is None:
            text += ".*"
        elif facet in known:
            text += re.escape(known[facet])
        elif facet in here:
            text += f"(?P={facet})"
        else:
            here.add(facet)
            wanted = [re.escape(value).replace(r"\*", ".*") for value in facets.get(facet, ())]
            text += f"(?P<{facet}>{'|'.join(wanted) or '.+?'})"
    return re.compile(text + re.escape(part[end:]), re.DOTALL)


def _nothing(
    places: list[Match],
    part: str,
    facets: Facets,
    pattern: str,
    available: Collection[str],
    is_last: bool,
) -> str:
    """Say where the search ended, and what is there."""
    wish = _TOKEN.sub(lambda token: _wish(token[0], facets.get(token[1], ())), part)
    kind = "file" if is_last else "folder"
    where = places[0].path + (f" and {len(places) - 1} more" if len(places) > 1 else "")
    have, they = ("has", "it") if len(places) == 1 else ("have", "they")
    there = sorted(available)
    shown = ", ".join(there[:_SHOWN])
    if len(there) > _SHOWN:
        shown += f" and {len(there) - _SHOWN} more"
    ends = f"{they} {have} {shown or f'no {kind}'}"
    return f"nothing matches {pattern!r}: there is no {kind} {wish} in {where}; {ends}."


def _wish(token: str, values: Collection[str]) -> str:
    return " or ".join(values) or token


def _natural(version: str) -> list[tuple[int, str]]:
    """Compare digits as numbers."""
    return [(int(p), "") if p.isdigit() else (-1, p) for p in re.split(r"(\d+)", version)]


def _without(match: Match, facet: str) -> tuple[str, ...]:
    return tuple(value for name, value in sorted(match.facets.items()) if name != facet)


def _refuse_mixture(
    title: str, members: Sequence[Match], joined: Mapping[str, Sequence[str]]
) -> None:
    for facet in members[0].facets:
        if facet in joined:
            continue
        values = sorted({match.facets[facet] for match in members})
        if len(values) > 1:
            raise QueryError(
                f"{title} has files of {len(values)} values of {facet}: {', '.join(values)}; "
                f"choose one, or put {{{facet}}} into its name."
            )
