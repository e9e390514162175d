"""Equal steps in what is read of a file, as of every tenth chunk: where the next ones lie.

A guess is a hint.  If it is wrong, it costs a request.
"""

from __future__ import annotations

from collections import deque

#: Pieces that are remembered.
MOST = 8
#: By how many bytes two steps may differ: chunks that are compressed, or nodes between them.
TOLERANCE = 64 * 1024
#: Bytes of a step that is worth it.
LEAST = 4 * TOLERANCE
#: Steps that are looked ahead.
AHEAD = 3


class Strides:
    """The places at which one file was read, as far as they were not there.

    Parameters
    ----------
    size : int
        Bytes of the file.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._places: deque[int] = deque(maxlen=MOST)
        # The last step that was found, and a place on it.
        self._step = self._place = 0

    def next(self, start: int, length: int) -> list[tuple[int, int]]:
        """Note that a piece was asked for; returns the pieces that may follow.

        Parameters
        ----------
        start, length : int
            Where it begins, and its bytes.

        Returns
        -------
        list of (int, int)
            Begin and end of each.
        """
        if start and start & (start - 1) == 0:
            # netCDF looks for an HDF5 signature at each power of two (HDF5 File Format
            # Specification, II.A), and these places begin like equal steps.
            return []
        step = self._step_to(start, length)
        self._places.append(start)
        if not step:
            return []
        found: list[tuple[int, int]] = []
        for number in range(1, AHEAD + 1):
            # Differences add up.
            spare = number * TOLERANCE // AHEAD
            begin = start + number * step - spare
            end = min(begin + length + 2 * spare, self._size)
            if begin < end:
                found.append((begin, end))
        return found

    def _step_to(self, start: int, length: int) -> int:
        """Find the step by which earlier places lead to this one; 0 if there is none."""
        if any(0 < start - place <= length for place in self._places):
            # Who reads on asks for neighbours anyway.
            return 0
        for last in reversed(self._places):
            step = start - last
            if step > max(length, LEAST) and any(
                abs(last - step - before) <= TOLERANCE for before in self._places
            ):
                self._step, self._place = step, start
                return step
        # The chunks of a node of an index follow each other; the nodes come in any order.
        spare = min(LEAST, self._step // 16)
        if self._step and (start - self._place + spare) % self._step <= 2 * spare:
            return self._step
        return 0
