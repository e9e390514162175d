"""The report, opened in a browser: every figure and caption shows, and nothing is fetched."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, sync_playwright

from conftest import ROOT, output_of
from integration.conftest import Demo

#: What people may look at after the test.
PICTURES = ROOT / "build/report"
#: The browser asks nobody for updates, and runs as root in containers.
OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
pytestmark = [pytest.mark.fuse, pytest.mark.slow]


@pytest.fixture(scope="module")
def report(demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    made = demo.project.snakemake("--report", path)
    assert made.returncode == 0, output_of(made)
    return path


@pytest.fixture
def page(report: Path) -> Iterator[Page]:
    """The report in a browser, which must ask no other host."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=OPTIONS)
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(report.as_uri())
        yield page
        browser.close()
    assert [url for url in asked if not url.startswith((report.as_uri(), "data:"))] == []


def row(page: Page, category: str, *texts: str) -> Locator:
    page.reload()
    page.get_by_text(category, exact=True).click()
    found = page.get_by_role("row")
    for text in texts:
        found = found.filter(has=page.get_by_role("cell", name=text, exact=True))
    return found


def keep(page: Page, name: str) -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=PICTURES / f"{name}.png")


def test_every_figure_and_its_caption(demo: Demo, page: Page) -> None:
    datasets = demo.config["datasets"]
    assert isinstance(datasets, dict)
    figures = {f"map_{name}": ("Anomaly", name) for name in datasets}
    figures["series"] = ("Area-weighted annual means", "all")
    for name, labels in figures.items():
        shown = row(page, "Figures", *labels)
        shown.locator("[iconname=eye]").click()
        figure = page.locator(f"img[src*='filename={name}.png']")
        figure.wait_for(state="visible")
        box = figure.bounding_box()
        assert box
        # One that says why there is no map is a line of text.
        assert box["width"] > 300
        assert box["height"] > 200
        assert figure.evaluate("image => image.naturalWidth") > 500
        keep(page, name)

        shown.locator("[iconname=information-circle]").click()
        page.get_by_text("DESCRIPTION").or_(page.get_by_text("Description")).first.wait_for()
        caption = page.inner_text("body")
        assert "System Message" not in caption
        names = datasets if name == "series" else [labels[1]]
        for dataset in names:
            entry = datasets[dataset]
            assert entry["title"] in caption
            first = re.escape(entry["files"][0]).replace(r"\*", r"\S+")
            version = r", ETag [0-9a-f]{32}, written \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC, \d+ bytes"
            assert re.search(first + version, caption), caption
        assert "units" in caption
        keep(page, f"{name}_caption")


def test_the_record(demo: Demo, page: Page) -> None:
    row(page, "Record", "all").locator("[iconname=eye]").click()
    frame = page.frame_locator("iframe, object, embed").first
    frame.get_by_role("heading", name="What was read").wait_for(state="visible")
    text = frame.locator("body").inner_text()
    keep(page, "record")
    objects = demo.inputs.keys()
    read = [key for key in objects if f"{demo.inputs.url}/{key}" in text]
    assert len(read) == 125
    for step in ("annual_mean", "climatology", "anomaly", "series", "map_figure", "series_figure"):
        assert re.search(rf"{step}\s+\w+\s+\d+\.\d", text), text
    moved = re.findall(r"UTC\s+([\d.]+ [KM]B)\s+([\d.]+ [KM]B)", text)
    # What was copied was moved as a whole, and of what was mounted no more than is there.
    assert len(moved) == 126
    assert ("312.46 KB", "312.46 KB") in moved
    for program in ("Python", "scitools-iris", "snakemake-storage-plugin-s3fuse", "s3fs-fuse"):
        assert re.search(rf"{program}\s+\d+\.\d+", text)
