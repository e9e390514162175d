"""Every format that Iris loads, through every way in which an object comes to a node.

With ``--write-pages`` the table in docs/reference/formats.md is written anew.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import iris
import numpy as np
import pytest
from iris.cube import CubeList

from conftest import ROOT, MakeBucket
from demo import SAMPLES
from formats import samples
from s3fuse.embedded_server import Server
from s3fuse.inputs.placement import Access, Placement
from s3fuse.mount.mounts import Mounts
from s3fuse.mount.mounts import moved as bytes_moved
from s3fuse.mount.options import MountOptions
from s3fuse.s3.store import Store
from s3fuse.urls import S3Url

pytestmark = [pytest.mark.fuse, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

PAGE = ROOT / "docs/reference/formats.md"
HEAD = """\
# Formats

<!-- Written by `make docs`, from what the tests find. -->

Each file was put into a bucket and loaded by Iris through a mount, from a copy, and by a pattern
below the link to the whole bucket (`iris.load(f"{input.bucket}/folder/*.nc")`). *Equal*: all cubes,
with data, masks and metadata, are those of the local file, and lazy where those are lazy. *Moved*:
what came through the network to load the file and read the first field, time step or level of it,
by a mount, which asks for 5 MB at a time. Iris reads text, NIMROD and ABF as
a whole, and of PP and fields files the header of each field, wherever it lies.

| format | file | mount | copy | pattern | MB moved | MB there |
| --- | --- | --- | --- | --- | --- | --- |
"""


def sample(name: str) -> Callable[[Path], list[Path]]:
    """Files of Iris sample data, by a pattern."""
    return lambda folder: sorted(SAMPLES.glob(name))


def large_netcdf(netcdf_format: str) -> Callable[[Path], list[Path]]:
    """Write 60 time steps of 1 MB, each a chunk, where the format has chunks."""

    def make(folder: Path) -> list[Path]:
        values = np.random.default_rng(1).standard_normal((60, 512, 512), "f4")
        cube = iris.cube.Cube(values, var_name="noise", units="1")
        times = iris.coords.DimCoord(
            np.arange(60.0), standard_name="time", units="days since 2000-01-01"
        )
        cube.add_dim_coord(times, 0)
        chunks = {"chunksizes": (1, 512, 512)} if netcdf_format == "NETCDF4" else {}
        iris.save(cube, folder / "large.nc", netcdf_format=netcdf_format, **chunks)
        return [folder / "large.nc"]

    return make


def large_pp(folder: Path) -> list[Path]:
    """Write the 13 members of an ensemble into one file, five times over."""
    path = folder / "large.pp"
    members = [member.read_bytes() for member in sorted(SAMPLES.glob("GloSea4/*.pp"))]
    path.write_bytes(b"".join(members * 5))
    return [path]


@dataclass(frozen=True)
class Format:
    """Files of a format.

    Attributes
    ----------
    files : callable
        Given an empty folder, makes or finds them.
    called : str
        What the table calls them.
    """

    files: Callable[[Path], list[Path]]
    called: str


FORMATS = {
    "netCDF-4": Format(sample("A1B_north_america.nc"), "A1B_north_america.nc"),
    "netCDF-4, large": Format(large_netcdf("NETCDF4"), "60 chunks of 1 MB"),
    "netCDF classic": Format(sample("space_weather.nc"), "space_weather.nc"),
    "netCDF classic, large": Format(large_netcdf("NETCDF3_64BIT"), "60 time steps of 1 MB"),
    "UGRID mesh": Format(sample("mesh_C4_synthetic_float.nc"), "mesh_C4_synthetic_float.nc"),
    "PP": Format(sample("GloSea4/*.pp"), "13 members of GloSea4"),
    "PP, large": Format(large_pp, "the 13 members, 5 times, in one file"),
    "fields file": Format(
        lambda folder: [
            samples.fields_file(folder / "pre-industrial.ff", SAMPLES / "pre-industrial.pp")
        ],
        "pre-industrial.pp, written as a fields file",
    ),
    "fields file, large": Format(
        lambda folder: [samples.fields_file(folder / "large.ff", large_pp(folder)[0])],
        "the large PP file, written as a fields file",
    ),
    "GRIB2": Format(sample("polar_stereo.grib2"), "polar_stereo.grib2"),
    "NAME": Format(sample("NAME_output.txt"), "NAME_output.txt"),
    "NIMROD": Format(
        lambda folder: [samples.nimrod(folder / "rain.nimrod")], "made, 40 × 30 cells"
    ),
    "ABF": Format(lambda folder: [samples.abf(folder)], "made, AVHRRBUVI01.1985feba.abf"),
}


@pytest.fixture(scope="module")
def rows() -> dict[str, str]:
    return {}


@dataclass
class Places:
    """Places for one test, with mounts and a store."""

    server: Server
    folder: Path

    def __post_init__(self) -> None:
        self.mounts = Mounts(self.folder / "links", workdir=self.folder)
        self.store = Store(self.server.connection)

    def by(self, access: Access) -> Placement:
        return Placement(self.store, self.mounts, access, 0, MountOptions())


@pytest.fixture
def places(server: Server, tmp_path: Path) -> Iterator[Places]:
    made = Places(server, tmp_path)
    yield made
    made.mounts.unmount_own()


def load(*files: Path | str) -> CubeList:
    return CubeList(sorted(iris.load([str(file) for file in files]), key=str))


def are_equal(found: CubeList, local: CubeList) -> bool:
    """Whether cubes are those of the local file: laziness first, as comparing reads."""
    if [cube.has_lazy_data() for cube in found] != [cube.has_lazy_data() for cube in local]:
        return False
    return len(found) == len(local) > 0 and all(
        one == other
        and np.array_equal(np.ma.getmaskarray(one.data), np.ma.getmaskarray(other.data))
        for one, other in zip(found, local, strict=True)
    )


@pytest.mark.parametrize("name", FORMATS)
def test_a_format(
    name: str,
    places: Places,
    make_bucket: MakeBucket,
    tmp_path: Path,
    rows: dict[str, str],
) -> None:
    (tmp_path / "made").mkdir()
    files = FORMATS[name].files(tmp_path / "made")
    bucket = make_bucket()
    for file in files:
        bucket.upload(file, f"folder/{file.name}")
    urls = [S3Url(bucket.name, f"folder/{file.name}") for file in files]
    local = load(*files)

    def placed(access: Access) -> list[Path]:
        paths = [tmp_path / "links" / access.value / url.key for url in urls]
        for url, path in zip(urls, paths, strict=True):
            info = places.store.head(url)
            assert info is not None
            places.by(access).object(url, info, path)
        return paths

    # The first field, time step or level, and no more than what is needed for it.
    mounted = placed(Access.MOUNT)
    assert all(path.is_symlink() for path in mounted)
    first = load(*mounted)[0]
    np.testing.assert_array_equal(first[0].data, local[0][0].data)
    moved = sum(map(bytes_moved, mounted))

    copied = placed(Access.COPY)
    assert not any(path.is_symlink() for path in copied)
    whole = tmp_path / "links/bucket"
    places.by(Access.MOUNT).bucket(bucket.url, whole)

    equal = {
        "mount": are_equal(load(*mounted), load(*files)),
        "copy": are_equal(load(*copied), load(*files)),
        "pattern": are_equal(load(f"{whole}/folder/*{files[0].suffix}"), load(*files)),
    }
    there = sum(file.stat().st_size for file in files)
    words = ["equal" if found else "DIFFERS" for found in equal.values()]
    rows[name] = " | ".join(
        [f"| {name}", FORMATS[name].called, *words, f"{moved / 1e6:.2f}", f"{there / 1e6:.2f} |"]
    )
    assert all(equal.values()), equal
    if "netCDF" in name and "large" in name:
        assert moved < there / 2


def test_the_page_says_what_was_found(rows: dict[str, str], request: pytest.FixtureRequest) -> None:
    if list(rows) != list(FORMATS):
        pytest.skip("not all formats were tried")
    text = HEAD + "\n".join(rows.values()) + "\n"
    if request.config.getoption("--write-pages"):
        PAGE.write_text(text)
    known, found = split(PAGE.read_text()), split(text)
    assert known[0] == found[0], "run `make docs`"
    # How far the kernel reads ahead differs a little from run to run.
    assert known[1] == pytest.approx(found[1], rel=0.1, abs=0.3), "run `make docs`"


def split(page: str) -> tuple[list[str], list[float]]:
    """The page without its column of bytes moved, and that column."""
    rows = [line.split(" | ") for line in page.splitlines()]
    moved = [float(row.pop(5)) for row in rows if len(row) == 7 and row[5][0].isdigit()]
    return [" | ".join(row) for row in rows], moved


@pytest.mark.parametrize("extension", ["nc", "pp"])
def test_cubes_that_are_saved_come_back_from_the_bucket(
    extension: str, places: Places, make_bucket: MakeBucket, tmp_path: Path
) -> None:
    from publishing import publish

    bucket = make_bucket()
    cube = iris.load_cube(SAMPLES / "pre-industrial.pp")
    path = tmp_path / f"saved.{extension}"
    iris.save(cube, path)
    url = S3Url(bucket.name, path.name)
    info = publish(places.store, path, url)
    shutil.move(path, tmp_path / f"local.{extension}")
    link = tmp_path / "links" / path.name
    places.by(Access.MOUNT).object(url, info, link)
    (back,), (local,) = iris.load(link), iris.load(tmp_path / f"local.{extension}")
    assert back == local
    np.testing.assert_array_equal(back.data, cube.data)
    assert (back.units, back.standard_name) == (cube.units, cube.standard_name)
