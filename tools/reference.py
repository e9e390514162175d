"""Write the pages of docs/reference that come from the code.

Run by ``make docs``; a test fails when a page is not what this writes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
import yaml

import snakemake_on_schedule
from s3fuse import cli
from s3fuse.s3.connection import ENVIRONMENT_PREFIX
from snakemake_storage_plugin_s3fuse.settings import StorageProviderSettings

ROOT = Path(__file__).parent.parent
REFERENCE = ROOT / "docs/reference"

SETTINGS = """\
# Settings of the plugin

<!-- Written by `make docs` from src/snakemake_storage_plugin_s3fuse/settings.py. -->

Each may be given in the `storage` block of a Snakefile (`copy_below="32MiB"`), in a profile
(`storage-s3fuse-copy-below: 32MiB`), on the command line (`--storage-s3fuse-copy-below 32MiB`), and
those with a variable in the environment. Endpoint and credentials belong to whoever runs a workflow
rather than to the workflow: put them into the profile or the environment.

| setting | meaning | default | variable |
| --- | --- | --- | --- |
"""

CONFIGURATION = """\
# Configuration of the workflow

<!-- Written by `make docs` from workflow/schemas/config.schema.yaml. -->

What `config/config.yaml`, or a file that is named with `--configfile`, may say. A wrong entry is
named before anything runs. `config/README.md` has examples, and says which results are made.

| key | needed | meaning |
| --- | --- | --- |
"""

COMMANDS = """\
# Commands

<!-- Written by `make docs` from src/s3fuse/cli.py and src/snakemake_on_schedule. -->

What each prints with `--help`. Errors are one sentence, which
[Troubleshooting](../how-to/troubleshooting.md) explains. Exit status: 0 if all went well, 1 if
something failed, 2 for a mistake in what was typed or set.
"""


def settings() -> str:
    """The settings of the plugin."""
    rows = []
    for setting in fields(StorageProviderSettings):
        default = "" if setting.default is None else f"`{setting.default}`"
        variable = ENVIRONMENT_PREFIX + setting.name.upper()
        variable = f"`{variable}`" if setting.metadata.get("env_var") else ""
        rows.append(f"| `{setting.name}` | {setting.metadata['help']} | {default} | {variable} |\n")
    return SETTINGS + "".join(rows)


def configuration() -> str:
    """The keys of the configuration."""
    schema = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text())
    keys = _keys(schema, schema["$defs"], set())
    rows = [f"| `{key}` | {'yes' if needed else ''} | {text} |\n" for key, needed, text in keys]
    return CONFIGURATION + "".join(rows)


def _keys(
    schema: Mapping[str, Any], shared: Mapping[str, Any], told: set[str], above: str = ""
) -> Iterator[tuple[str, bool, str]]:
    """List keys; those of a part that several have in common where it comes first."""
    needed = [*schema.get("required", ())]
    reference = schema.get("$ref", "").rpartition("/")[2]
    properties = dict(schema.get("properties", {}))
    if reference in shared and reference not in told:
        told.add(reference)
        properties |= shared[reference].get("properties", {})
        needed += shared[reference].get("required", ())
    for name, entry in properties.items():
        key = f"{above}{name}"
        yield key, name in needed, entry.get("description", "")
        for inner in (entry, *entry.get("anyOf", ())):
            yield from _keys(inner, shared, told, f"{key}.")
            if isinstance(named := inner.get("additionalProperties"), dict):
                yield from _keys(named, shared, told, f"{key}.NAME.")


def commands() -> str:
    """What each command says of itself."""
    group = _context(cli.main, "s3fuse")
    names = sorted(cli.main.commands)
    contexts = [group, *(_context(cli.main.commands[name], name, group) for name in names)]
    contexts.append(_context(snakemake_on_schedule.main, "snakemake-on-schedule"))
    return COMMANDS + "".join(
        f"\n## {each.command_path}\n\n```text\n{each.get_help()}\n```\n" for each in contexts
    )


def _context(
    command: click.Command, name: str, parent: click.Context | None = None
) -> click.Context:
    return command.make_context(name, [], parent=parent, resilient_parsing=True)


PAGES: Mapping[str, Callable[[], str]] = {
    "settings.md": settings,
    "configuration.md": configuration,
    "commands.md": commands,
}


if __name__ == "__main__":
    for name, page in PAGES.items():
        (REFERENCE / name).write_text(page())
