"""What a gateway is started with, as the process that wants a mount hands it over."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s3fuse.gateway.signature import Keys
from s3fuse.s3.connection import Connection

#: The socket in the directory of a mount at which its gateway takes orders.
CONTROL = "control"
#: The file there with what it says.
LOG = "gateway.log"
#: How often s3fs asks its gateway for the same.
TRIES = 3


@dataclass(frozen=True)
class GatewayOptions:
    """What a gateway serves, for whom and from where.

    Attributes
    ----------
    bucket : str
        The bucket.
    connection : Connection
        Where it is, and who asks there.
    keys : Keys
        What the requests of s3fs are signed with.
    directory : Path
        The directory of the mount.
    node_cache : Path
        Where it keeps what has come, as all gateways of this user on this node.
    cache : Path
        Where it lends files of that; only gateways of this mount write there.
    cache_bytes : int, optional
        Bound of the cache of the node; what the disk has free if left out.
    spare_bytes : int
        What s3fs leaves free of the disk on which `cache` is.
    point : Path
        The mount point.
    links : Path
        The links of jobs into the mount are below it.
    revalidating : bool
        Whether keys outside of views show their newest versions.
    """

    bucket: str
    connection: Connection
    keys: Keys
    directory: Path
    node_cache: Path
    cache: Path
    point: Path
    links: Path
    cache_bytes: int | None = None
    spare_bytes: int = 0
    revalidating: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return what `from_json` reads; it holds secrets."""
        values = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        values["connection"] = self.connection.given
        values["keys"] = dataclasses.asdict(self.keys)
        return {name: str(v) if isinstance(v, Path) else v for name, v in values.items()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> GatewayOptions:
        """Read what `as_json` has written."""
        values = dict(content)
        values["connection"] = Connection(**values["connection"])
        values["keys"] = Keys(**values["keys"])
        for name in ("directory", "node_cache", "cache", "point", "links"):
            values[name] = Path(values[name])
        return cls(**values)
