"""Maps of fields on grids of any type, with coastlines from an installed package.

How a map is drawn
------------------
Drawing the cells of a grid as polygons goes wrong at the edge of a projection, where a
tripolar grid is folded, and at poles; each needs cells to be cut.  So this goes the other
way round::

    pixel of the map  →  longitude, latitude  →  cell of the grid  →  value
              inverse projection          `cells.locate`

Each pixel asks which cell lies below it.  That is the same for all grids and projections,
has no seams, and takes as long for a million cells as for a thousand.  Coastlines pass
through the projection of the same axes, so that both agree to a pixel.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import iris.analysis
import matplotlib
import numpy as np
from iris.cube import Cube
from matplotlib.colors import BoundaryNorm
from matplotlib.figure import Figure
from matplotlib.path import Path
from matplotlib.ticker import FixedLocator

import cells
from bad_data import DataError
from colours import colour_map, scale, sequential_levels, symmetric_levels
from labels import part_of_year, quantity_label
from steps import select
from views import GEODETIC, View, choose_view, coastlines, graticule, graticule_lines

matplotlib.use("Agg")
import matplotlib.pyplot as plt

#: First and last year; one of the distant past is negative.
PERIOD = re.compile(r"(-?\d+)-(-?\d+)")

#: A map shows the mean of this many years at the end of the data.
MAP_YEARS = 20

#: Pixels of a map, in all.
PIXELS = 700_000


#: Of more maps than this in a figure the coasts are crude, which is quicker and seen by nobody.
FEW_PANELS = 4

#: Where so many of the models have the sign of their mean, a map is stippled.
AGREEMENT = 0.8


def plot_map(anomaly: Cube, title: str, settings: Mapping[str, Any] | None = None) -> Figure:
    """Draw the mean anomaly of the last years as a map with coastlines.

    Parameters
    ----------
    anomaly : Cube
        With the dimension year and the horizontal ones of a grid of any type.
    title : str
        What the data is called.
    settings : mapping, optional
        ``projection``, one of `views.PROJECTIONS`, and ``central_longitude`` in degrees; chosen
        by where the data lies if left out.

    Returns
    -------
    Figure
        A sentence instead of a map where there is no single horizontal field; where all data
        is missing, as it may be at a level below the ground; or where the years of the map are
        those of the baseline, and the anomaly is zero but for rounding.

    Raises
    ------
    DataError
        If its grid cannot be placed on the Earth.
    """
    years = anomaly.coord("year").points
    recent = years > years[-1] - MAP_YEARS
    baseline = str(anomaly.attributes["baseline"])
    (found,) = PERIOD.findall(baseline)
    first, last = map(int, found)
    title += part_of_year(anomaly)
    title = f"{title}: {_period(years[recent][0], years[-1])} against {_period(first, last)}"
    if np.array_equal(recent, (years >= first) & (years <= last)):
        return sentence(
            title,
            f"There is no map: the last {len(years[recent])} years of the data are its baseline,\n"
            "so their mean anomaly is zero everywhere.",
        )
    field = select(anomaly, "year", recent).collapsed("year", iris.analysis.MEAN)
    if reason := _reason_for_no_map(field):
        return sentence(title, reason)
    if np.ma.getmaskarray(np.ma.masked_invalid(field.data)).all():
        return sentence(title, "There is no map: the data of these years is missing everywhere.")
    view = choose_view(field, **(settings or {}))
    values = rasterize(field, view)
    figure, (axis,) = _axes(view)
    colours = colour_map(anomaly.name())
    _draw(axis, view, values, symmetric_levels(values), colours, quantity_label(anomaly))
    axis.set_title(title)
    return figure


def plot_models(
    mean: Cube,
    spread: Cube,
    agreement: Cube | None,
    titles: tuple[str, str],
    settings: Mapping[str, Any] | None = None,
) -> Figure:
    """Draw the mean of many models, and below it how far they lie apart.

    Parameters
    ----------
    mean, spread : Cube
        Of the horizontal dimensions.
    agreement : Cube, optional
        The share of models that have the sign of the mean, which is then a change; where it
        is at least `AGREEMENT`, the map is stippled.
    titles : tuple of str
        Of the two maps.
    settings : mapping, optional
        As for `plot_map`.
    """
    _refuse_other_dimensions(mean)
    view = choose_view(mean, **(settings or {}))
    figure, (upper, lower) = _axes(view, 2, columns=1)
    values = rasterize(mean, view)
    levels, colours = scale(values, mean, is_difference=agreement is not None)
    if agreement is not None:
        stipples = rasterize(agreement, view).filled(0) >= AGREEMENT
        x, y = _stipples(view, stipples)
        upper.plot(x, y, ".", ms=1.6, color="0.1", transform=upper.transData, zorder=3)
    _draw(upper, view, values, levels, colours, quantity_label(mean))
    values = rasterize(spread, view)
    _draw(lower, view, values, sequential_levels(values), "Purples", quantity_label(spread))
    upper.set_title(titles[0])
    lower.set_title(titles[1])
    return figure


def sentence(title: str, text: str) -> Figure:
    """Make a figure that says why there is none."""
    figure = plt.figure(figsize=(9, 2.5), layout="constrained")
    figure.suptitle(title)
    figure.text(0.5, 0.45, text, ha="center", va="center")
    return figure


def plot_panels(
    panels: Sequence[tuple[str, Cube]],
    title: str,
    is_difference: bool,
    settings: Mapping[str, Any] | None = None,
) -> Figure:
    """Draw several maps of one quantity with the same colours.

    Parameters
    ----------
    panels : sequence of (str, Cube)
        What each is called, and its field on the same grid.
    title : str
        Of the figure.
    is_difference : bool
        Whether zero has a colour of its own.
    settings : mapping, optional
        As for `plot_map`.
    """
    fields = [field for _, field in panels]
    _refuse_other_dimensions(fields[0])
    if all(np.ma.getmaskarray(np.ma.masked_invalid(field.data)).all() for field in fields):
        return sentence(title, "There is no map: the data is missing everywhere.")
    known = max(fields, key=lambda field: np.ma.count(np.ma.masked_invalid(field.data)))
    view = choose_view(known, **(settings or {}))
    figure, axes = _axes(view, len(panels))
    values = [rasterize(field, view, PIXELS // len(panels)) for field in fields]
    levels, colours = scale(np.ma.stack(values), fields[0], is_difference)
    shores = coastlines(view, "c" if len(panels) > FEW_PANELS else None)
    for axis, (name, _), each in zip(axes, panels, values, strict=True):
        image = _image(axis, view, each, levels, colours, shores)
        axis.set_title(name if len(panels) > 1 else "", fontsize="medium")
    _colour_bar(figure, image, axes, levels, quantity_label(fields[0]))
    figure.suptitle(title)
    return figure


def rasterize(field: Cube, view: View, pixels: int | None = None) -> np.ma.MaskedArray:
    """Look up the value of a field below each pixel of a map.

    Parameters
    ----------
    field : Cube
        Of the horizontal dimensions.
    view : View
        See `choose_view`.
    pixels : int, optional
        How many there are, about; `PIXELS` if left out.

    Returns
    -------
    masked array
        Of shape (row, column), from south to north; masked where the grid has no cell,
        or the cell no data.
    """
    width = max(2, round(np.sqrt((pixels or PIXELS) / view.aspect)))
    height = max(2, round(width * view.aspect))
    west, east, south, north = view.limits
    x, y = np.meshgrid(
        west + (east - west) * (np.arange(width) + 0.5) / width,
        south + (north - south) * (np.arange(height) + 0.5) / height,
    )
    longitude, latitude, _ = GEODETIC.transform_points(view.projection, x.ravel(), y.ravel()).T
    outside = ~(np.isfinite(longitude) & np.isfinite(latitude))
    longitude, latitude = np.where(outside, np.nan, longitude), np.where(outside, np.nan, latitude)
    place = cells.locate(field, longitude, latitude)
    data = np.ma.masked_invalid(field.data).ravel()
    values = np.ma.array(data[np.clip(place, 0, None)], copy=True)
    values[place < 0] = np.ma.masked
    return values.reshape(height, width)


def _refuse_other_dimensions(field: Cube) -> None:
    if len(cells.horizontal_dims(field)) != field.ndim:
        raise DataError(
            f"{field.name()} has the dimensions {_shape(field)}, and a map shows one horizontal "
            "field; narrow the constraint."
        )


def _shape(field: Cube) -> str:
    return ", ".join(coord.name() for coord in field.coords(dim_coords=True))


def _reason_for_no_map(field: Cube) -> str:
    """Say why a field cannot be a map; nothing if it can."""
    dims = cells.horizontal_dims(field)
    if not dims:
        return "There is no map: the data is of a single place."
    if len(dims) == field.ndim:
        return ""
    return (
        f"There is no map: it would show one horizontal field, and the data has the\ndimensions "
        f"{_shape(field)}. Name one level in the constraint for a map."
    )


def _draw(
    axis: Any,
    view: View,
    values: np.ma.MaskedArray,
    levels: np.ndarray,
    colours: str,
    label: str,
) -> None:
    """Draw a map with its own scale of colours."""
    image = _image(axis, view, values, levels, colours, coastlines(view))
    _colour_bar(axis.figure, image, axis, levels, label)


def _image(
    axis: Any,
    view: View,
    values: np.ma.MaskedArray,
    levels: np.ndarray,
    colours: str,
    shores: tuple[np.ndarray, np.ndarray],
) -> Any:
    """Draw pixels and coastlines."""
    chosen = plt.get_cmap(colours)
    west, east, south, north = view.limits
    image = axis.imshow(
        values,
        extent=(west, east, south, north),
        transform=axis.transData,
        origin="lower",
        cmap=chosen,
        norm=BoundaryNorm(levels, chosen.N, extend="both"),
        interpolation="nearest",
        zorder=0,
    )
    # Not through Cartopy's transform: it would project each segment anew, for 20 s.
    axis.plot(*shores, color="0.15", lw=0.5, transform=axis.transData, zorder=2)
    return image


def _colour_bar(figure: Figure, image: Any, axes: Any, levels: np.ndarray, label: str) -> None:
    bar = figure.colorbar(
        image,
        ax=axes,
        orientation="horizontal",
        shrink=0.8,
        aspect=35,
        pad=0.03,
        ticks=levels[len(levels) // 2 % 2 :: 2],
    )
    bar.ax.minorticks_off()
    bar.set_label(label)


def _stipples(view: View, where: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Place points on a lattice where a map is true."""
    height, width = where.shape
    step = max(1, width // 90)
    rows, columns = np.mgrid[step // 2 : height : step, step // 2 : width : step]
    # Every other row is moved, so that no lines are seen.
    columns = np.clip(columns + (rows // step % 2) * (step // 2), 0, width - 1)
    kept = where[rows, columns]
    west, east, south, north = view.limits
    x = west + (east - west) * (columns[kept] + 0.5) / width
    y = south + (north - south) * (rows[kept] + 0.5) / height
    return x, y


def _axes(view: View, panels: int = 1, columns: int | None = None) -> tuple[Figure, list[Any]]:
    """Make a figure of maps, side by side where they are many."""
    columns = columns or (1 if panels == 1 else 2 if panels in (2, 4) else 3)
    rows = -(-panels // columns)
    width = min(9.0, 7.0 / view.aspect) if columns == 1 else 4.0 if view.aspect < 1 else 3.0
    size = (max(columns * width, 4.5), rows * (width * view.aspect + 0.5) + 0.9)
    figure = plt.figure(figsize=size, layout="constrained")
    axes = [
        figure.add_subplot(rows, columns, number + 1, projection=view.projection)
        for number in range(panels)
    ]
    for axis in axes:
        _set_up(axis, view, has_labels=columns == 1)
    return figure, axes


def _set_up(axis: Any, view: View, has_labels: bool) -> None:
    west, east, south, north = view.limits
    axis.set_xlim(west, east)
    axis.set_ylim(south, north)
    if view.is_polar:
        turn = np.linspace(0, 2 * np.pi, 181)
        circle = Path(np.stack([0.5 + 0.5 * np.cos(turn), 0.5 + 0.5 * np.sin(turn)], axis=1))
        axis.set_boundary(circle, transform=axis.transAxes)
    axis.plot(
        *graticule_lines(view), color="0.6", alpha=0.4, lw=0.5, transform=axis.transData, zorder=1
    )
    if has_labels and not view.is_polar:
        sides = ["left"] if view.name == "mollweide" else ["left", "bottom"]
        labels = axis.gridlines(draw_labels=sides, x_inline=False)
        labels.xlines = labels.ylines = False
        meridians, parallels = (FixedLocator(degrees.tolist()) for degrees in graticule(view))
        labels.xlocator, labels.ylocator = meridians, parallels
        labels.xlabel_style = labels.ylabel_style = {"size": "small", "rotation": 0}


def _period(first: int, last: int) -> str:
    return f"{first}" if first == last else f"{first}–{last}"
