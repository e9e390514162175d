"""The documentation: the site is built, and the tutorial does what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from PIL import Image

from conftest import ROOT, Bucket, mounted
from demo import SAMPLES, cmip6_samples
from s3fuse.embedded_server import Server

# The notebook of the site mounts a bucket.
pytestmark = [pytest.mark.fuse, pytest.mark.s3]

TUTORIAL = (ROOT / "docs/tutorial/first-figure.md").read_text()
SHELL = (ROOT / "docs/how-to/shell.md").read_text()


class Links(HTMLParser):
    """Where a page leads to, and the places in it that others may lead to."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.targets: set[str] = set()
        self.places: set[str] = set()
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("href", "src") and value:
                self.targets.add(value)
            if name == "id" and value:
                self.places.add(value)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site; a warning of Sphinx, or a cell of the notebook that fails, ends it."""
    folder = tmp_path_factory.mktemp("site")
    words = ["--fail-on-warning", "--keep-going", "--nitpicky", "--quiet", "-b", "html"]
    built = subprocess.run(
        [sys.executable, "-m", "sphinx", *words, ROOT / "docs", folder],
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    return folder


def test_no_link_of_the_site_is_broken(site: Path) -> None:
    # What lies in _static belongs to the theme.
    pages = {page: Links(page) for page in site.rglob("*.html") if "_static" not in page.parts}
    broken = []
    for page, links in pages.items():
        for target in links.targets:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            there = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            known = pages.get(there)
            if not there.exists() or (known and parts.fragment not in (*known.places, "")):
                broken.append(f"{page.relative_to(site)}: {target}")
    assert broken == []


def test_every_page_of_the_docs_is_in_the_site(site: Path) -> None:
    sources = {*ROOT.joinpath("docs").rglob("*.md"), *ROOT.joinpath("docs").rglob("*.ipynb")}
    apart = {"intro", "further"}
    for source in sources:
        page = source.relative_to(ROOT / "docs").with_suffix("")
        assert str(page) in apart or (site / page).with_suffix(".html").exists()


def test_the_notebook_shows_its_figure(site: Path) -> None:
    page = (site / "tutorial/notebook.html").read_text()
    assert "a1b.nc" in page
    assert len(re.findall(r"<img[^>]*notebook_\d+_\d+\.png|_images/[0-9a-f]+\.png", page)) >= 1
    assert mounted() == []


def shell(text: str, bucket: Bucket, server: Server, workdir: Path) -> None:
    """Run the blocks of a page, as they are typed, in one shell."""
    blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    script = "\n".join(["set -e", *blocks]).replace("s3://my-bucket", str(bucket.url))
    programs = Path(sys.executable).parent
    run = subprocess.run(
        ["bash", "-c", f"PATH={programs}:$PATH\n{script}"],
        cwd=workdir,
        env={**os.environ, **server.environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.slow
def test_the_tutorial_leads_to_a_figure(server: Server, bucket: Bucket, tmp_path: Path) -> None:
    bucket.upload(SAMPLES / "E1_north_america.nc", "tas/e1.nc")
    # What the reader has copied.
    for name in ("Snakefile", "workflow", "profiles"):
        (tmp_path / name).symlink_to(ROOT / name)
    (config,) = re.findall(r"```yaml\n(.*?)```", TUTORIAL, re.DOTALL)
    (tmp_path / "my-data.yaml").write_text(config.replace("s3://my-bucket", str(bucket.url)))
    shell(TUTORIAL, bucket, server, tmp_path)
    with Image.open(tmp_path / "results/figures/series.png") as figure:
        # A figure has more than the colour of its paper.
        assert len(figure.convert("L").getcolors() or ()) > 10
    assert (tmp_path / "results/figures/map_mine.png").exists()
    assert "My data" in (tmp_path / "report.html").read_text()
    assert mounted() == []


@pytest.mark.slow
def test_the_study_of_many_models_leads_to_its_figures(
    server: Server, bucket: Bucket, tmp_path: Path
) -> None:
    for key, path in cmip6_samples().items():
        if "/Amon/" in key and key.split("/")[3] in ("BCC-ESM1", "CanESM5", "TaiESM1"):
            bucket.write(key, path.read_bytes())
    for name in ("Snakefile", "workflow", "profiles"):
        (tmp_path / name).symlink_to(ROOT / name)
    page = (ROOT / "docs/tutorial/many-models.md").read_text()
    (config,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert len(config.splitlines()) <= 21
    (tmp_path / "study.yaml").write_text(config.replace("s3://my-bucket", str(bucket.url)))
    shell(page, bucket, server, tmp_path)
    for name in re.findall(r"`(results/[^`]*\.(?:png|nc))`", page):
        assert (tmp_path / name).stat().st_size > 0
    with Image.open(tmp_path / "results/figures/multi_model_arctic_series.png") as figure:
        assert len(figure.convert("L").getcolors() or ()) > 10
    assert mounted() == []


@pytest.mark.slow
def test_the_recipe_for_shells(server: Server, bucket: Bucket, tmp_path: Path) -> None:
    bucket.write("x.txt", "content")
    (tmp_path / "results").mkdir()
    (tmp_path / "results/a.nc").write_bytes((SAMPLES / "E1_north_america.nc").read_bytes())
    shell(SHELL, bucket, server, tmp_path)
    assert bucket.contents()["a.nc"] == (tmp_path / "results/a.nc").read_bytes()
    assert mounted() == []
