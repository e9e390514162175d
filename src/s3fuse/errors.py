"""Everything that can go wrong, in one tree.

Each message is one sentence or two for the person at the keyboard: what
failed, on which bucket or path, and what to do next.  Whoever prints them
prints the message alone; a traceback is for our own mistakes only.
"""

from __future__ import annotations


class S3FuseError(Exception):
    """Root of the tree.

    Attributes
    ----------
    exit_code : int
        What a command exits with when this error ends it.
    """

    exit_code = 1


class QueryError(S3FuseError):
    """The text is no S3 URL, or one that cannot be a path on disk."""

    exit_code = 2


class SettingsError(S3FuseError):
    """A setting has a value that cannot be used."""

    exit_code = 2


class EndpointError(S3FuseError):
    """The endpoint cannot be reached, does not answer in time, or does not speak S3."""


class CredentialsError(S3FuseError):
    """There are no credentials, or the store does not know them."""


class AccessDenied(S3FuseError):
    """The credentials are known, and do not allow this."""


class BucketNotFound(S3FuseError):
    """There is no such bucket at this endpoint."""


class ObjectNotFound(S3FuseError):
    """There is no such object or folder in the bucket."""


class ObjectChanged(S3FuseError):
    """The object is no longer the one that was planned with."""


class ObjectDamaged(S3FuseError):
    """What came of an object is not what its checksum says."""


class RedirectRefused(S3FuseError):
    """The store redirects requests to a place that is not its endpoint."""


class ListingError(S3FuseError):
    """The store does not finish a listing."""


class PublishError(S3FuseError):
    """What is in the bucket is not what was uploaded."""


class RunDirError(S3FuseError):
    """The node-local run-time directory cannot be trusted or written."""


class MountUnavailable(S3FuseError):
    """Nothing can be mounted on this machine: s3fs or FUSE is missing."""


class MountError(S3FuseError):
    """The mount did not come up."""


class MountBusy(S3FuseError):
    """Processes still use the mount, so it cannot be taken down."""


class NotUploaded(S3FuseError):
    """Files written through a mount are not in its bucket; they are kept on this node."""


class ServerError(S3FuseError):
    """The embedded S3 server did not start."""
