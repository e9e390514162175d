"""Write docs/reference/settings.md from the settings of the plugin.

Run by ``make docs``; a test fails when the page is not what this writes.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from s3fuse.connection import ENVIRONMENT_PREFIX
from snakemake_storage_plugin_s3fuse.settings import StorageProviderSettings

PAGE = Path(__file__).parent.parent / "docs/reference/settings.md"

INTRODUCTION = """\
# Settings

<!-- Written by `make docs` from src/snakemake_storage_plugin_s3fuse/settings.py. -->

Each may be given in the `storage` block of a Snakefile (`copy_below="32MiB"`), in a profile
(`storage-s3fuse-copy-below: 32MiB`), on the command line (`--storage-s3fuse-copy-below 32MiB`), and
those with a variable in the environment. Endpoint and credentials belong to whoever runs a workflow
rather than to the workflow: put them into the profile or the environment.

| setting | meaning | default | variable |
| --- | --- | --- | --- |
"""


def page() -> str:
    """The whole page."""
    rows = []
    for setting in fields(StorageProviderSettings):
        default = "" if setting.default is None else f"`{setting.default}`"
        variable = ENVIRONMENT_PREFIX + setting.name.upper()
        variable = f"`{variable}`" if setting.metadata.get("env_var") else ""
        rows.append(f"| `{setting.name}` | {setting.metadata['help']} | {default} | {variable} |")
    return INTRODUCTION + "\n".join(rows) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
