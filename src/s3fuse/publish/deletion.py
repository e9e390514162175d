"""Deleting what this project has published, and nothing else."""

from __future__ import annotations

import logging

from s3fuse.s3.objects import ObjectInfo
from s3fuse.s3.store import Store
from s3fuse.urls import S3Url

log = logging.getLogger("s3fuse")


def delete_version(store: Store, bucket: str, info: ObjectInfo) -> None:
    """Delete one version of an object; one that somebody else has put in its place stays.

    Parameters
    ----------
    store : Store
        Where it is.
    bucket : str
        The bucket that it is in.
    info : ObjectInfo
        The version.
    """
    url = S3Url(bucket, info.key)
    now = store.head(url)
    if now is None:
        return
    if now.etag == info.etag:
        store.call("delete_object", url, "delete", Key=url.key)
    else:
        log.warning(f"{url} was replaced by somebody else, so it was not deleted.")
