"""Draw the pictures of the gallery, each from its configuration on the page: ``make gallery``."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from demo import COPY_BELOW, DATA, ROOT, load_data
from s3fuse.embedded_server import Server, serving

PAGE = ROOT / "docs/gallery.md"
PICTURES = ROOT / "docs/figures/gallery"

#: Pixels of pictures on the page.
WIDTH = 900


class Section(NamedTuple):
    """A configuration of the page.

    Attributes
    ----------
    configuration : str
        YAML, with results in a folder of this name.
    figures : list of str
        Names of files that it leads to.
    """

    configuration: str
    figures: list[str]


def sections() -> list[Section]:
    """Read the page."""
    found = []
    for part in PAGE.read_text().split("\n## ")[1:]:
        (configuration,) = re.findall(r"```yaml\n(.*?)```", part, re.DOTALL)
        found.append(Section(configuration, re.findall(r"\(figures/gallery/([^)]*)\)", part)))
    return found


def draw(configuration: str, server: Server, folder: Path) -> Path:
    """Run the workflow with a configuration in a folder; return where its figures are.

    Raises
    ------
    CalledProcessError
        If the run fails.
    """
    for name in ("Snakefile", "workflow", "profiles"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "gallery.yaml").write_text(configuration)
    command = [sys.executable, "-m", "snakemake", "--profile", "profiles/s3", COPY_BELOW]
    command += ["--configfile", "gallery.yaml", "--quiet", "all"]
    subprocess.run(command, cwd=folder, env={**os.environ, **server.environment}, check=True)
    return folder / "results/figures"


def main() -> None:
    """Serve the data of the demo, and draw all sections."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="gallery-") as base:
        for bucket in DATA:
            (Path(base) / "data" / bucket).mkdir(parents=True)
        with serving(Path(base) / "data") as server:
            for bucket in DATA:
                load_data(server, bucket)
            for number, section in enumerate(sections()):
                folder = Path(base) / str(number)
                folder.mkdir()
                figures = draw(section.configuration, server, folder)
                for name in section.figures:
                    with Image.open(figures / name) as picture:
                        size = (WIDTH, round(WIDTH * picture.height / picture.width))
                        small = picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)
                    # Maps have few colours, and 64 of them are a third of the bytes.
                    small.quantize(64).save(PICTURES / name, optimize=True)
                    print(PICTURES.relative_to(ROOT) / name)


if __name__ == "__main__":
    main()
