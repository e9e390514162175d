import os
import re
import shutil
import subprocess
import sys
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


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
def test_systemd_takes_the_unit_and_the_timer(tmp_path: Path) -> None:
    page = (ROOT / "docs/how-to/schedule.md").read_text()
    for kind, text in zip(
        ("service", "timer"), re.findall(r"```ini\n(.*?)```", page, re.DOTALL), strict=True
    ):
        # A program that is there, as the one of the page is not.
        text = text.replace("%h/climate/.venv/bin/snakemake-on-schedule", sys.executable)
        (tmp_path / f"climate.{kind}").write_text(text)
    run = subprocess.run(
        ["systemd-analyze", "verify", "--user", "--man=no", *tmp_path.iterdir()],
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")
