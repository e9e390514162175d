"""A derived quantity and a function of the user's own, as config/README.md shows them."""

from __future__ import annotations

import re
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import yaml
from iris.coords import DimCoord
from iris.cube import Cube

import steps
from conftest import ROOT, Bucket, MakeBucket, output_of
from integration.conftest import Project
from s3fuse.embedded_server import Server

README = (ROOT / "config/README.md").read_text()
VALUES = {"toa_incoming_shortwave_flux": 340, "toa_outgoing_shortwave_flux": 100}


def blocks(language: str, after: str) -> str:
    """The first block of a language below a heading of the page."""
    found = re.search(rf"```{language}\n(.*?)```", README[README.index(after) :], re.DOTALL)
    assert found
    return found[1]


def yearly(name: str, value: float) -> Cube:
    """Two years of months on a small grid; half of the months have 70 more."""
    edges = np.arange(25) * 365 / 12
    time = DimCoord(
        (edges[1:] + edges[:-1]) / 2,
        "time",
        units="days since 2001-01-01",
        bounds=np.stack([edges[:-1], edges[1:]], axis=1),
    )
    y = DimCoord([0.0, 10.0, 20.0], "latitude", units="degrees")
    x = DimCoord([0.0, 10.0], "longitude", units="degrees")
    data = np.full((24, 3, 2), value, "f4")
    return Cube(data, name, units="W m-2", dim_coords_and_dims=[(time, 0), (y, 1), (x, 2)])


@pytest.mark.fuse
def test_the_examples_of_the_page(
    tmp_path: Path, server: Server, bucket: Bucket, make_bucket: MakeBucket
) -> None:
    results = make_bucket()
    fields = {name: yearly(name, value) for name, value in VALUES.items()}
    longwave = yearly("toa_outgoing_longwave_flux", -100)
    longwave.data[::2] += 50
    for cube in (*fields.values(), longwave):
        steps.save(cube, str(tmp_path / "x.nc"))
        bucket.write(f"{cube.name()}.nc", (tmp_path / "x.nc").read_bytes())

    entry = yaml.safe_load(blocks("yaml", "## Derived quantities"))
    entry |= yaml.safe_load(blocks("yaml", "## Steps of your own"))
    entry |= {"title": "Net", "files": [f"{bucket.url}/*.nc"], "baseline": [2001, 2001]}
    project = Project(tmp_path, server.environment)
    project.configure({"results": str(results.url), "datasets": {"net": entry}})
    (tmp_path / "studies.py").write_text(blocks("python", "## Steps of your own"))
    run = project.snakemake("--until", "step_hot_days", "annual_mean")
    assert run.returncode == 0, output_of(run)
    with netCDF4.Dataset(results.folder / "hot_days/net.nc") as file:
        (name,) = (each for each in file.variables if each.startswith("toa_net"))
        # 340 - 100 - (-50 or -100) is 290 or 340 W m-2, and 12 months are above 303.15.
        assert file[name][:].tolist() == [[12, 12]] * 3
        assert "hot_days" in file.history
        assert len(file.source_objects.splitlines()) == 3
    with netCDF4.Dataset(results.folder / "annual_mean/net.nc") as file:
        assert file["time"].shape == (2,)

    again = project.snakemake("--dry-run", "--until", "step_hot_days", "annual_mean")
    assert re.search(r"^total +0$", output_of(again), re.MULTILINE), output_of(again)
    (tmp_path / "studies.py").write_text(blocks("python", "## Steps of your own") + "# Changed.\n")
    again = project.snakemake("--dry-run", "--until", "step_hot_days", "annual_mean")
    assert re.search(r"^step_hot_days +1$", again.stdout + again.stderr, re.MULTILINE)
