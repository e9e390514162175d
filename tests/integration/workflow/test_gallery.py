"""The gallery: each configuration on the page leads to the figures beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from conftest import ROOT
from demo import load_data
from gallery import PICTURES, Section, draw, sections
from s3fuse.embedded_server import Server, serving


def kinds_of_figures() -> set[str]:
    """What the names of figures begin with, from the rules that draw them."""
    import products

    rules = "".join(path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk"))
    found = set(re.findall(r'result\("figures/([a-z_]+?)(?:_?\{\w+\})?(_[a-z]+)?\.png"\)', rules))
    assert ("series", "") in found
    return {*(start for start, _ in found), *products.MAKE, "ensemble"}


def test_each_kind_of_figure_is_on_the_page() -> None:
    shown = [name for section in sections() for name in section.figures]
    for kind in kinds_of_figures():
        assert any(name.startswith(kind) for name in shown), kind
    # What is drawn of several models is two figures.
    assert {name.rpartition("_")[2] for name in shown if name.startswith("multi_model")} == {
        "map.png",
        "series.png",
    }


def test_each_picture_is_there_and_none_is_left_over() -> None:
    shown = sorted(name for section in sections() for name in section.figures)
    assert shown == sorted(path.name for path in PICTURES.iterdir())


#: Those of archives run elsewhere: with all models in `test_archive`, with three in `test_site`.
RUN = [section for section in sections() if "archives:" not in section.configuration]


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with the data of the demo."""
    folder = tmp_path_factory.mktemp("samples")
    (folder / "climate-data").mkdir()
    with serving(folder) as server:
        load_data(server, "climate-data")
        yield server


@pytest.mark.fuse
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "section",
    [
        pytest.param(RUN[0], marks=pytest.mark.slow),
        *(pytest.param(each, marks=pytest.mark.long) for each in RUN[1:]),
    ],
    ids=lambda section: section.figures[0],
)
def test_the_configuration_leads_to_its_figures(
    samples: Server, tmp_path: Path, section: Section
) -> None:
    figures = draw(section.configuration, samples, tmp_path)
    for name in section.figures:
        with Image.open(figures / name) as new, Image.open(PICTURES / name) as old:
            assert new.width / new.height == pytest.approx(old.width / old.height, rel=0.05)
            assert len(new.convert("L").getcolors() or range(300)) > 20
        assert (figures / name).with_suffix(".pdf").read_bytes().startswith(b"%PDF")
