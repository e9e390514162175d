"""Data that comes time after time, seen place by place, without having all of it in memory."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from typing import Any

import dask.array as da
import numpy as np

#: Bytes of a group of places, with all their times.
GROUP = 2**24


def of_all_times(
    data: da.Array, dimension: int, compute: Callable[[np.ndarray], np.ndarray]
) -> np.ma.MaskedArray:
    """Compute something of all times of each place.

    Parameters
    ----------
    data : dask array
        It passes once through a file in the folder for temporary files, which has to
        have room for it.
    dimension : int
        That of time.
    compute : callable
        Is given values of shape (time, place), NaN where they are missing, and
        returns values of shape (…, place).

    Returns
    -------
    masked array
        Of shape (…, place), the places in the order of the other dimensions.
    """
    wanted = np.promote_types(data.dtype, np.float32)
    filled = da.ma.filled(da.moveaxis(data, dimension, 0).astype(wanted), np.nan)
    filled = filled.rechunk(dict.fromkeys(range(1, filled.ndim), -1))
    with tempfile.TemporaryFile() as file:
        spool = _Spool(file.fileno(), filled.shape, filled.dtype)
        da.store(filled, spool, lock=False)
        found = [compute(group) for group in spool.groups()]
    return np.ma.masked_invalid(np.concatenate(found, axis=-1))


class _Spool:
    """A file of groups of places, each with all its times one after the other."""

    def __init__(self, descriptor: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._descriptor, self._dtype = descriptor, dtype
        self._times, places = shape[0], int(np.prod(shape[1:]))
        width = max(1, GROUP // (self._times * dtype.itemsize))
        self._edges = [*range(0, places, width), places]

    def __setitem__(self, index: tuple[slice, ...], piece: np.ndarray) -> None:
        flat = piece.reshape(len(piece), -1)
        for start, end in zip(self._edges, self._edges[1:], strict=False):
            row = (end - start) * self._dtype.itemsize
            position = start * self._times * self._dtype.itemsize + index[0].start * row
            os.pwrite(self._descriptor, flat[:, start:end].tobytes(), position)

    def groups(self) -> Any:
        """The groups, of shape (time, place)."""
        for start, end in zip(self._edges, self._edges[1:], strict=False):
            size = (end - start) * self._times * self._dtype.itemsize
            content = os.pread(self._descriptor, size, start * self._times * self._dtype.itemsize)
            yield np.frombuffer(content, self._dtype).reshape(self._times, end - start)
