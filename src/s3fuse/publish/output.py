"""What a job has written, and what it becomes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from s3fuse.errors import PublishError
from s3fuse.publish.manifest import manifest_url
from s3fuse.s3.objects import ObjectInfo
from s3fuse.urls import S3Url


@dataclass(frozen=True)
class Output:
    """A file or directory that a job has written.

    Attributes
    ----------
    path : Path
        The file or directory.
    url : S3Url
        The object or folder to be.
    replaces : ObjectInfo, optional
        The version that was there when the run was planned: the object, or the
        manifest of the folder.
    """

    path: Path
    url: S3Url
    replaces: ObjectInfo | None = None

    @property
    def is_folder(self) -> bool:
        """Whether this becomes a folder."""
        return self.path.is_dir()

    @property
    def target(self) -> S3Url:
        """The object by which the output is known: of a folder, its manifest."""
        return manifest_url(self.url) if self.is_folder else self.url

    def refuse_another_kind(self) -> None:
        """Refuse a file in place of a folder, whose key would end with a slash.

        Raises
        ------
        PublishError
            If it is one.
        """
        if self.url.is_folder and not self.is_folder:
            raise PublishError(
                f"{self.path} is a file, and {self.url} is a folder; let the rule make a "
                "directory, or leave out the slash at the end of the URL."
            )
