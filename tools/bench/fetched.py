"""What a gateway must fetch for a job, worked out from where things lie in its file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from s3fuse.cache.entries import BLOCK
from s3fuse.gateway.cache import PIECE
from s3fuse.gateway.metadata import HEAD, NODE, TAIL

#: What s3fs asks for where a byte is missing, and bytes of a page, from whose start it does.
STEP, PAGE = 5 * 2**20, 4096


@dataclass
class Fetched:
    """What has been fetched of a file.

    Parameters
    ----------
    size : int
        Bytes of the file.

    Attributes
    ----------
    requests : int
        How often something was fetched.
    """

    size: int
    requests: int = 0
    _blocks: set[int] = field(default_factory=set)

    @property
    def bytes(self) -> int:
        """Bytes that were fetched."""
        return sum(min(BLOCK, self.size - number * BLOCK) for number in self._blocks)

    def metadata(self, nodes: Sequence[int]) -> None:
        """Fetch the two ends, and the places of nodes between them; neighbours at once."""
        self._fetch(self._between(0, HEAD), HEAD)
        self._fetch(self._between((self.size - TAIL) // BLOCK * BLOCK, self.size), TAIL + BLOCK)
        wanted = {block for node in nodes for block in self._between(node, node + NODE)}
        self._fetch(sorted(wanted), PIECE)

    def steps(self, positions: Iterable[int]) -> None:
        """Fetch what s3fs asks for when these positions are read, one after the other."""
        for position in positions:
            start = position // PAGE * PAGE
            self._fetch(self._between(start, start + STEP), PIECE)

    def _between(self, start: int, end: int) -> range:
        return range(start // BLOCK, -(-min(end, self.size) // BLOCK))

    def _fetch(self, wanted: Iterable[int], most: int) -> None:
        """Fetch the blocks that are missing, neighbours by one request."""
        last, run = -2, 0
        for block in wanted:
            if block in self._blocks:
                continue
            is_next = block == last + 1 and run < most // BLOCK
            run = run + 1 if is_next else 1
            self.requests += not is_next
            self._blocks.add(block)
            last = block
