import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import messages
import reference
from conftest import ROOT

#: Folders that are not the project.
ELSEWHERE = {".venv", ".venv-slurm", ".demo", ".bench", ".snakemake", "build"}
PAGES = [path for path in ROOT.rglob("*.md") if not ELSEWHERE & set(path.relative_to(ROOT).parts)]


@pytest.mark.parametrize("name", reference.PAGES)
def test_the_reference_is_what_the_code_says(name: str) -> None:
    # So no command, option, setting or key exists that it lacks.
    page = reference.PAGES[name]()
    assert (reference.REFERENCE / name).read_text() == page, "run `make docs`"


def test_every_message_is_explained() -> None:
    page = (ROOT / "docs/how-to/troubleshooting.md").read_text()
    explained = re.findall(r"^`(.*)`\n\n\S", page, re.MULTILINE)
    assert len(explained) == len(set(explained))
    said = {message.replace("`", "").strip() for message in messages.messages()}
    assert set(explained) == said


def test_what_is_promised_is_tested() -> None:
    text = (ROOT / "docs/reference/semantics.md").read_text()
    promises = text[: text.index("## What you cannot rely on")]
    for promise in re.findall(r"^- (.*)$", promises, re.MULTILINE):
        named = re.findall(r"`([\w/]+\.py)::(\w+)`", promise)
        assert named, promise
        for file, test in named:
            assert f"def {test}(" in (ROOT / "tests" / file).read_text(), f"{file}::{test}"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_within_the_project_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page}: {target}"


def test_every_key_of_the_configuration_has_an_example() -> None:
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
