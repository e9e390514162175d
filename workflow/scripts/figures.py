"""Figures of series, and how all figures are saved."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass

import matplotlib
import numpy as np
from iris.cube import Cube, CubeList
from matplotlib.figure import Figure

from labels import quantity_label, readable

matplotlib.use("Agg")
import matplotlib.pyplot as plt

#: Between these lie most models.
SPREAD = ("percentile_5", "percentile_95")


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
        axis.set_ylabel(quantity_label(cube, separator="\n"))
        axis.grid(alpha=0.3)
        axis.legend(frameon=False, fontsize="small")
    return figure


def plot_times(cube: Cube, title: str) -> Figure:
    """Draw a series of times; each row of it, where it has more dimensions.

    Parameters
    ----------
    cube : Cube
        Of shape (time,), or (time, …).
    title : str
        For the figure.
    """
    time = cube.coord("time")
    (dim,) = cube.coord_dims(time)
    dates = time.units.num2date(time.points)
    years = [date.year + (date.dayofyr - 0.5) / 365.25 for date in dates]
    lines = np.moveaxis(np.ma.masked_invalid(cube.data), dim, 0).reshape(len(years), -1)
    figure, axis = plt.subplots(figsize=(9, 3.6), layout="constrained")
    axis.plot(years, lines, lw=0.9)
    axis.axhline(0, color="0.35", lw=0.8)
    axis.set_title(title)
    axis.set_xlabel("Year")
    axis.set_ylabel(quantity_label(cube, separator="\n"))
    axis.grid(alpha=0.3)
    return figure


def plot_models(cubes: CubeList, title: str) -> Figure:
    """Draw the series of many models: each thin, their mean, and the band of most of them.

    Parameters
    ----------
    cubes : CubeList
        From `multi_model.series`.
    title : str
        For the figure.
    """
    mean, median, low, high, count, models = (
        next(cube for cube in cubes if cube.var_name == name)
        for name in ("mean", "median", *SPREAD, "number_of_models", "models")
    )
    years = mean.coord("year").points
    figure, axis = plt.subplots(figsize=(9, 4.2), layout="constrained")
    for row in models.data:
        axis.plot(years, row, color="0.6", lw=0.4, alpha=0.6)
    axis.fill_between(years, low.data, high.data, color="C0", alpha=0.25, lw=0, label="5 to 95 %")
    axis.plot(years, mean.data, color="C0", lw=1.8, label="mean")
    axis.plot(years, median.data, color="k", lw=1, ls=":", label="median")
    fewest, most = int(count.data.min()), int(count.data.max())
    number = f"{most} models" if fewest == most else f"{fewest} to {most} models in a year"
    axis.set_title(f"{title} ({number})")
    axis.set_xlabel("Year")
    axis.set_ylabel(quantity_label(mean, separator="\n"))
    axis.grid(alpha=0.3)
    axis.legend(frameon=False, fontsize="small")
    return figure


def add_note(figure: Figure, text: str) -> None:
    """Write a note below a figure."""
    if text:
        figure.supxlabel("\n".join(textwrap.wrap(text, 110)), fontsize="x-small")


def save(figure: Figure, png: str, pdf: str) -> None:
    """Save a figure for screens and for print; equal figures make equal files."""
    figure.savefig(png, dpi=200)
    figure.savefig(pdf, dpi=200, metadata={"CreationDate": None})


def panel_title(settings: Mapping[str, str], cube: Cube) -> str:
    """The panel that a dataset belongs to: as configured, or by quantity."""
    return settings.get("group") or readable(cube.name())
