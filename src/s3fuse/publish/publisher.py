"""The uploads of a run."""

from __future__ import annotations

from pathlib import Path

from s3fuse.publish.journal import Journal
from s3fuse.publish.upload import publish, publish_folder
from s3fuse.s3.objects import ObjectInfo
from s3fuse.s3.store import Store
from s3fuse.traffic import Traffic
from s3fuse.urls import S3Url


class Publisher:
    """Uploads the outputs of a run, verified, and counts them.

    Parameters
    ----------
    store : Store
        Where to.
    journal : Journal
        Where uploads in parts are noted while they last.
    traffic : Traffic
        Counts what is published.
    """

    def __init__(self, store: Store, journal: Journal, traffic: Traffic) -> None:
        self._store, self._journal, self._traffic = store, journal, traffic

    def publish(self, path: Path, url: S3Url, *, may_be_there: bool = False) -> list[ObjectInfo]:
        """Publish a file as an object, or a directory as a folder.

        Parameters
        ----------
        path : Path
            A file or a directory.
        url : S3Url
            The object or folder to be.
        may_be_there : bool
            Another process may have published, and counted, the same just now.

        Returns
        -------
        list of ObjectInfo
            What the store says of each object; of a file, one.

        Raises
        ------
        PublishError
            If the store holds something else than was sent.
        S3FuseError
            If an upload failed; the old object, if any, is then unharmed.
        """
        store, journal = self._store, self._journal
        if path.is_dir():
            infos = publish_folder(store, path, url, journal, may_be_there=may_be_there)
        else:
            infos = [publish(store, path, url, journal, may_be_there=may_be_there)]
        if not may_be_there:
            self._traffic.adds_published(info.size for info in infos)
        return infos
