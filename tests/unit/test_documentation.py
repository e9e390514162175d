import re
from pathlib import Path

import pytest
import yaml

import settings_reference
from conftest import ROOT

#: Folders that are not the project.
ELSEWHERE = {".venv", ".venv-slurm", ".demo", ".bench", ".snakemake"}
PAGES = [
    path
    for path in ROOT.rglob("*.md")
    if not {".venv", ".venv-slurm", ".demo", ".bench", ".snakemake"}
    & set(path.relative_to(ROOT).parts)
]


def test_the_reference_of_settings_is_what_the_code_says() -> None:
    assert settings_reference.PAGE.read_text() == settings_reference.page(), "run `make docs`"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_within_the_project_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page}: {target}"


def test_every_key_of_the_configuration_is_explained() -> None:
    schema = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text())
    text = (ROOT / "config/README.md").read_text()
    dataset = schema["properties"]["datasets"]["additionalProperties"]["properties"]
    for key in (*schema["properties"], *(f"NAME.{name}" for name in dataset)):
        assert key in text
