"""The manifest of a folder: the objects that it was published with.

S3 has no folders, so nothing tells a folder that is complete from one whose
upload was cut.  A folder that this project publishes has an object in it,
``.s3fuse-manifest.json``, which is written last and lists the key, size and
ETag of every other one.  The folder is there if the manifest is, and if the
listing agrees with it.  Objects that the manifest does not list belong to
somebody else: they neither count nor are they deleted.

While a folder is published, its manifest is pending.  The folder is not there
then, and of two runs that publish it, the one that wrote the pending manifest wins.

Other tools may ignore the manifest, and may delete it; the folder is then made
again by the rule that writes it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from s3fuse.errors import PublishError
from s3fuse.s3.objects import INTERNAL, Listing, ObjectInfo
from s3fuse.s3.store import Store
from s3fuse.urls import S3Url

#: The last part of the key of a manifest.
NAME = f"{INTERNAL}manifest.json"


@dataclass(frozen=True)
class Entry:
    """One object of a folder.

    Attributes
    ----------
    size : int
        Bytes.
    etag : str
        Without quotes.
    """

    size: int
    etag: str


@dataclass(frozen=True)
class Manifest:
    """The objects that a folder was published with.

    Attributes
    ----------
    entries : mapping of str to Entry
        By key relative to the folder.
    adopted : float, optional
        The time of the latest object of a folder that was there before its manifest,
        in seconds since the epoch.
    pending : str
        The publication that is under way; `entries` are those of the folder before it.
    """

    entries: Mapping[str, Entry]
    adopted: float | None = None
    pending: str = ""

    @classmethod
    def of(
        cls, folder: S3Url, infos: Iterable[ObjectInfo], adopted: float | None = None
    ) -> Manifest:
        """Describe objects of a folder as they are in the bucket."""
        prefix = folder.child("").key
        entries = {i.key.removeprefix(prefix): Entry(i.size, i.etag) for i in infos}
        return cls(entries, adopted)

    @classmethod
    def parse(cls, text: bytes, url: S3Url) -> Manifest:
        """Read a manifest.

        Raises
        ------
        PublishError
            If it is none.
        """
        try:
            content = json.loads(text)
            entries = {
                key: Entry(int(entry["size"]), str(entry["etag"]))
                for key, entry in content["objects"].items()
            }
            adopted = float(content["adopted"]) if "adopted" in content else None
            pending = str(content.get("pending", ""))
        except (ValueError, TypeError, KeyError, AttributeError):
            raise PublishError(
                f"{url} is no manifest of a folder; delete it, and the folder is made again."
            ) from None
        return cls(entries, adopted, pending)

    def to_json(self) -> bytes:
        """Write the manifest down."""
        objects = {key: {"size": e.size, "etag": e.etag} for key, e in self.entries.items()}
        content: dict[str, object] = {"version": 1, "objects": dict(sorted(objects.items()))}
        if self.adopted is not None:
            content["adopted"] = self.adopted
        if self.pending:
            content["pending"] = self.pending
        return json.dumps(content, indent=1).encode()

    def selected(self, folder: S3Url, listing: Listing) -> list[ObjectInfo] | None:
        """Return the objects of the folder; None where the listing disagrees.

        Parameters
        ----------
        folder : S3Url
            The folder of the manifest.
        listing : Listing
            All objects below it, at any depth.
        """
        if self.pending:
            return None
        prefix = folder.child("").key
        found = [listing.objects.get(prefix + key) for key in self.entries]
        infos = [info for info in found if info is not None]
        expected = list(self.entries.values())
        is_whole = [Entry(info.size, info.etag) for info in infos] == expected
        return infos if is_whole else None


def manifest_url(folder: S3Url) -> S3Url:
    """Return where the manifest of a folder is."""
    return folder.child(NAME)


def read_manifest(store: Store, folder: S3Url, info: ObjectInfo) -> Manifest:
    """Read one version of the manifest of a folder.

    Raises
    ------
    PublishError
        If it is none.
    ObjectChanged
        If it was replaced.
    """
    url = manifest_url(folder)
    return Manifest.parse(store.get(url, info), url)
