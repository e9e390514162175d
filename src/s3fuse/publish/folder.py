"""A directory on its way to a folder: its objects first, then the manifest."""

from __future__ import annotations

from collections.abc import Collection

from s3fuse.errors import PublishError
from s3fuse.publish.commit import Change, CommitRecord
from s3fuse.publish.deletion import delete_version
from s3fuse.publish.local import files_below
from s3fuse.publish.manifest import Manifest, manifest_url, read_manifest
from s3fuse.publish.output import Output
from s3fuse.publish.upload import Sender, Upload, nameless_file
from s3fuse.s3.objects import Listing, ObjectInfo
from s3fuse.s3.parts import all_at_once
from s3fuse.urls import S3Url


class FolderUpload:
    """A directory that becomes a folder.

    `claim` makes its manifest pending, so that of several runs one publishes the
    folder.  Its uploads become visible after that, and `finish` writes the manifest.

    Parameters
    ----------
    sender : Sender
        What it shares with other uploads.
    output : Output
        The directory.
    left : collection of CommitRecord
        Publications of the folder that were cut.

    Attributes
    ----------
    url : S3Url
        The folder, as the output names it.
    hidden : list of Upload
        Files that must not be visible before all are sent.
    new : list of Upload
        The others: a folder without a manifest is not there, so its new objects need
        not be hidden.

    Raises
    ------
    PublishError
        If somebody else has published the folder since the run was planned, an object in
        it is not of this project, or a file cannot become an object.
    """

    def __init__(self, sender: Sender, output: Output, left: Collection[CommitRecord]) -> None:
        self.url = output.url
        self._sender, self._store = sender, sender.store
        self._folder = output.url.child("")
        files = files_below(output.path, output.url)
        before = self._store.list(self._folder, recursive=True)
        self._replaces = before.internal.get(manifest_url(self._folder).key)
        old = self._replaces
        if (old and old.etag) != (output.replaces and output.replaces.etag):
            raise PublishError(
                f"{output.url} was replaced since this run was planned, so it was not "
                "published; start the run again."
            )
        self._manifest = read_manifest(self._store, self._folder, old) if old else Manifest({})
        self._claim: ObjectInfo | None = None
        uploads = [
            Upload(sender, file, url, before.objects.get(url.key)) for url, file in files.items()
        ]
        is_there = old is not None and self._manifest.selected(self._folder, before) is not None
        self.hidden = [upload for upload in uploads if is_there or upload.replaces]
        self.new = [upload for upload in uploads if not (is_there or upload.replaces)]
        own = self._etags_of_own(before, left)
        if old:
            self._refuse_foreign(own)
        kept = {url.key for url in files}
        self._obsolete = [
            info
            for key, info in before.objects.items()
            if key not in kept and own.get(key) == info.etag
        ]

    @property
    def uploads(self) -> list[Upload]:
        """All files."""
        return [*self.hidden, *self.new]

    @property
    def deletions(self) -> list[Change]:
        """The objects of the old folder that the directory does not have."""
        bucket = self._folder.bucket
        return [Change(S3Url(bucket, info.key), info.etag, (None,)) for info in self._obsolete]

    def claim(self, name: str) -> None:
        """Make the manifest pending, for the commit of this name."""
        pending = Manifest(self._manifest.entries, self._manifest.adopted, name)
        self._claim = write_manifest(self._sender, self._folder, pending, self._replaces)

    def withdraw(self) -> None:
        """Take the claim back; the folder is as it was."""
        if self._claim and self._replaces:
            write_manifest(self._sender, self._folder, self._manifest, self._claim)
        elif self._claim:
            delete_version(self._store, self._folder.bucket, self._claim)

    def finish(self) -> list[ObjectInfo]:
        """Verify the objects, delete those of the old folder, and write the manifest.

        Returns
        -------
        list of ObjectInfo
            The objects, the manifest last.
        """
        now = self._store.list(self._folder, recursive=True).objects
        infos = [self._verified(upload, now.get(upload.url.key)) for upload in self.uploads]
        gone = [i for i in self._obsolete if (there := now.get(i.key)) and there.etag == i.etag]
        all_at_once(self._delete, gone)
        manifest = Manifest.of(self._folder, infos)
        return [*infos, write_manifest(self._sender, self._folder, manifest, self._claim)]

    def _delete(self, info: ObjectInfo) -> None:
        url = S3Url(self._folder.bucket, info.key)
        self._store.call("delete_object", url, "delete", Key=url.key)

    def _etags_of_own(self, before: Listing, left: Collection[CommitRecord]) -> dict[str, str]:
        """Return the ETags by which objects of the folder are known to be nobody else's."""
        own = {self._folder.key + key: each.etag for key, each in self._manifest.entries.items()}
        for change in (change for record in left for change in record.changes):
            now = before.objects.get(change.url.key)
            if now and change.url.bucket == self._folder.bucket and now.etag in change.new:
                own[change.url.key] = now.etag
        return own

    def _refuse_foreign(self, own: Collection[str]) -> None:
        """Refuse to replace what somebody else has put into a folder that has a manifest."""
        for upload in self.uploads:
            if upload.replaces and upload.url.key not in own:
                raise PublishError(
                    f"{upload.url} is in the bucket, and was no part of {self.url} when that was "
                    "published, so it may be somebody else's and was not replaced; delete it, or "
                    "let the rule write another name."
                )

    def _verified(self, upload: Upload, listed: ObjectInfo | None) -> ObjectInfo:
        """Verify an object by its entry in a listing, or else by its own answer."""
        if listed and not upload.is_in(listed):
            # A listing does not tell whether an ETag says anything, as it does not under SSE-KMS.
            upload.verify(self._store.head(upload.url))
            return listed
        return upload.verify(listed)


def write_manifest(
    sender: Sender, folder: S3Url, manifest: Manifest, replaces: ObjectInfo | None
) -> ObjectInfo:
    """Write the manifest of a folder, if it is still the one that was planned with.

    Parameters
    ----------
    sender : Sender
        What it shares with other uploads.
    folder : S3Url
        The folder.
    manifest : Manifest
        What to write.
    replaces : ObjectInfo, optional
        The manifest that was there when the run was planned.

    Raises
    ------
    PublishError
        If somebody else has replaced it.
    """
    with nameless_file() as (file, path):
        file.write(manifest.to_json())
        file.flush()
        upload = Upload(sender, path, manifest_url(folder), replaces)
        sender.note(upload)
        return upload.publish()
