"""The outputs of a job: all of them become visible, or none."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from s3fuse.errors import PublishError, S3FuseError
from s3fuse.publish.commit import CommitRecord, records_beside
from s3fuse.publish.deletion import delete_version
from s3fuse.publish.folder import FolderUpload, write_manifest
from s3fuse.publish.journal import Journal
from s3fuse.publish.local import files_below
from s3fuse.publish.manifest import Manifest, manifest_url, read_manifest
from s3fuse.publish.output import Output
from s3fuse.publish.upload import Sender, Upload, nameless_file
from s3fuse.s3.etags import holds
from s3fuse.s3.objects import ObjectInfo, is_internal
from s3fuse.s3.parts import all_at_once
from s3fuse.s3.store import Store
from s3fuse.traffic import Traffic
from s3fuse.urls import S3Url

#: Bytes that S3 copies in one request.
MAX_COPY = 5 * 2**30
#: Metadata that a copy onto itself must state again.
RESTATED = (
    "Metadata",
    "ContentType",
    "ContentEncoding",
    "ContentDisposition",
    "ContentLanguage",
    "CacheControl",
    "Expires",
    "WebsiteRedirectLocation",
    "StorageClass",
    "ServerSideEncryption",
    "SSEKMSKeyId",
)


class Publisher:
    """Publishes the outputs of a run, verified, and counts them.

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
        self._store, self._sender, self._traffic = store, Sender(store, journal), traffic

    def publish(
        self,
        outputs: Sequence[Output],
        *,
        may_be_there: bool = False,
    ) -> dict[S3Url, list[ObjectInfo]]:
        """Publish all outputs of a job together.

        Everything is sent before anything becomes visible.  Then the objects become
        visible one after the other, which S3 cannot do in one step; a run that is
        killed in between leaves a commit record, by which the next run knows.

        Parameters
        ----------
        outputs : sequence of Output
            The outputs.
        may_be_there : bool
            Another process may have published, and counted, the same just now.

        Returns
        -------
        dict of S3Url to list of ObjectInfo
            What the store has of each output; of a folder its objects, the manifest last.

        Raises
        ------
        PublishError
            If somebody else has replaced an output, two files would become one object, or
            the store holds something else than was sent.
        S3FuseError
            If an upload failed.  What was there before is then unharmed, unless the
            message says that it has begun to change.
        """
        for bucket in {output.url.bucket for output in outputs}:
            self._store.check(bucket)
        if may_be_there and (there := self._all_there(outputs)):
            return there
        for each in outputs:
            each.refuse_another_kind()
        outputs = [self._tried_again(each) for each in outputs]
        files = [
            Upload(self._sender, each.path, each.url, each.replaces)
            for each in outputs
            if not each.is_folder
        ]
        try:
            if len(outputs) == 1 and files:
                published = {files[0].url: [files[0].publish()]}
            else:
                published = self._publish_together(outputs, files)
        except BaseException:
            for upload in files:
                self._sender.note(upload)
            raise
        for each in outputs:
            self._sender.confirm(each.target)
        if not may_be_there:
            self._traffic.adds_published(i.size for infos in published.values() for i in infos)
        return published

    def touch(self, url: S3Url, info: ObjectInfo) -> ObjectInfo:
        """Set the time of an object to now, by copying it onto itself.

        S3 has no other way.  Its metadata are stated again; an object that was
        uploaded in parts may get another ETag.  Where the store keeps the time of a
        copy, the object is uploaded again.
        https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html

        Raises
        ------
        PublishError
            If it is larger than S3 copies in one request, or was replaced.
        """
        if info.size > MAX_COPY:
            raise PublishError(
                f"{url} cannot be touched: S3 copies objects of up to 5 GB in one request; "
                "let its rule run again."
            )
        head = self._store.call("head_object", url, "look at", Key=url.key)
        self._store.call(
            "copy_object",
            url,
            "write",
            Key=url.key,
            CopySource={"Bucket": url.bucket, "Key": url.key},
            CopySourceIfMatch=f'"{info.etag}"',
            MetadataDirective="REPLACE",
            **{name: head[name] for name in RESTATED if head.get(name)},
        )
        now = self._store.head(url)
        if now is None or now.size != info.size:
            raise PublishError(f"{url} was replaced while it was touched; start the run again.")
        # rclone tells the new time by HEAD, and the old one by LIST.
        listed = self._store.list(url).objects.get(url.key)
        if listed and info.mtime < listed.mtime == now.mtime:
            return now
        with nameless_file() as (file, path):
            self._store.get_into(url, now, file)
            file.flush()
            return Upload(self._sender, path, url, now).publish()

    def delete(self, url: S3Url, infos: Iterable[ObjectInfo]) -> None:
        """Delete versions of objects; what somebody else has replaced stays.

        A manifest goes last.  Without it, nobody would know to whom the objects belong
        that are left when the process is killed: the next publication deletes them.

        Parameters
        ----------
        url : S3Url
            The object or folder that they belong to.
        infos : iterable of ObjectInfo
            The versions.
        """
        infos = list(infos)
        delete = partial(delete_version, self._store, url.bucket)
        all_at_once(delete, [info for info in infos if not is_internal(info.key)])
        all_at_once(delete, [info for info in infos if is_internal(info.key)])

    def _tried_again(self, output: Output) -> Output:
        """Let an output replace what an earlier try of the same job has made visible."""
        left = self._sender.left_by_a_failure(output.target)
        return replace(output, replaces=left) if left else output

    def _publish_together(
        self, outputs: Sequence[Output], files: list[Upload]
    ) -> dict[S3Url, list[ObjectInfo]]:
        """Publish several objects, after publications of the same outputs that were cut."""
        places = list(dict.fromkeys(output.target.parent for output in outputs))
        urls = {output.url for output in outputs}
        left = [
            record
            for place in places
            for record in records_beside(self._store, place)
            if urls.intersection(record.outputs)
        ]
        folders = [FolderUpload(self._sender, each, left) for each in outputs if each.is_folder]
        _refuse_overlap([*files, *(upload for folder in folders for upload in folder.uploads)])
        published = self._commit(tuple(urls), tuple(places), files, folders)
        for each in left:
            each.remove(self._store)
        return published

    def _commit(
        self,
        urls: tuple[S3Url, ...],
        places: tuple[S3Url, ...],
        files: list[Upload],
        folders: list[FolderUpload],
    ) -> dict[S3Url, list[ObjectInfo]]:
        """Send everything, then make it visible, then verify it."""
        hidden = [*files, *(upload for folder in folders for upload in folder.hidden)]
        new = [upload for folder in folders for upload in folder.new]
        record: CommitRecord | None = None
        is_begun = False
        published: dict[S3Url, list[ObjectInfo]] = {}
        try:
            all_at_once(lambda upload: upload.stage(invisibly=True), hidden)
            all_at_once(lambda upload: upload.stage(invisibly=False), new)
            changes = [upload.change for upload in (*hidden, *new)]
            changes += [change for folder in folders for change in folder.deletions]
            record = CommitRecord(urls, places, tuple(changes))
            record.write(self._store)
            for folder in folders:
                folder.claim(record.name)
            is_begun = bool(new)
            all_at_once(Upload.complete, new)
            for upload in hidden:
                upload.complete()
                is_begun = True
            for upload in files:
                published[upload.url] = [upload.verify(self._store.head(upload.url))]
            for folder in folders:
                published[folder.url] = folder.finish()
        except BaseException as error:
            if record is None or not is_begun:
                self._withdraw(record, [*hidden, *new], folders)
                raise
            # The record stays, by which the next run knows.  Another run that has published
            # the same outputs in between has removed it.
            with contextlib.suppress(S3FuseError):
                record.write(self._store)
            all_at_once(Upload.abort, [*hidden, *new])
            if isinstance(error, S3FuseError):
                raise PublishError(
                    f"{error} Some outputs of the same job have been replaced before; the next "
                    "run makes all of them again."
                ) from error
            raise
        record.remove(self._store)
        return published

    def _withdraw(
        self, record: CommitRecord | None, uploads: list[Upload], folders: Sequence[FolderUpload]
    ) -> None:
        """Undo a commit of which nothing was visible; the record stays where that fails."""
        with contextlib.suppress(S3FuseError):
            all_at_once(Upload.abort, uploads)
            for folder in folders:
                folder.withdraw()
            if record:
                record.remove(self._store)

    def write_manifest(
        self,
        folder: S3Url,
        infos: Sequence[ObjectInfo],
        replaces: ObjectInfo | None,
        *,
        adopt: bool = False,
    ) -> ObjectInfo:
        """Write the manifest of a folder, if it is still the one that was planned with.

        Parameters
        ----------
        folder : S3Url
            The folder.
        infos : sequence of ObjectInfo
            Its objects.
        replaces : ObjectInfo, optional
            The manifest that was there when the run was planned.
        adopt : bool
            Let the folder keep the time of its latest object.

        Raises
        ------
        PublishError
            If somebody else has replaced the manifest.
        """
        adopted = max(info.mtime for info in infos) if adopt else None
        return write_manifest(self._sender, folder, Manifest.of(folder, infos, adopted), replaces)

    def _all_there(self, outputs: Sequence[Output]) -> dict[S3Url, list[ObjectInfo]] | None:
        """Look whether another process has published the same; None if not all of it."""
        found: dict[S3Url, list[ObjectInfo]] = {}
        for output in outputs:
            infos = self._folder_there(output) if output.is_folder else self._file_there(output)
            if not infos:
                return None
            found[output.url] = infos
        return found

    def _file_there(self, output: Output) -> list[ObjectInfo]:
        info = self._store.head(output.url)
        if info is None or info.size != output.path.stat().st_size:
            return []
        # Where nobody can tell the content: what is new has been published just now.
        is_new = not info.tells_content and info.etag != (output.replaces and output.replaces.etag)
        return [info] if is_new or holds(info, output.path) else []

    def _folder_there(self, output: Output) -> list[ObjectInfo]:
        folder = output.url.child("")
        now = self._store.list(folder, recursive=True)
        info = now.internal.get(manifest_url(folder).key)
        infos = read_manifest(self._store, folder, info).selected(folder, now) if info else None
        files = {url.key: file for url, file in files_below(output.path, output.url).items()}
        if info is None or infos is None or {each.key for each in infos} != files.keys():
            return []
        return [*infos, info] if all(holds(each, files[each.key]) for each in infos) else []


def publish_file(
    store: Store, journal: Journal, path: Path, url: S3Url, replaces: ObjectInfo | None
) -> ObjectInfo:
    """Publish a single file; see `Publisher.publish`.

    Parameters
    ----------
    store : Store
        Where to.
    journal : Journal
        Where an upload in parts is noted while it lasts.
    path : Path
        The file.
    url : S3Url
        The object to be.
    replaces : ObjectInfo, optional
        The version that it may replace; None if there must be none.
    """
    store.check(url.bucket)
    return Upload(Sender(store, journal), path, url, replaces).publish()


def _refuse_overlap(uploads: Iterable[Upload]) -> None:
    """Refuse two files of one job that become the same object.

    Raises
    ------
    PublishError
        If there are two.
    """
    paths: dict[S3Url, Path] = {}
    for upload in uploads:
        if upload.url in paths:
            raise PublishError(
                f"{paths[upload.url]} and {upload.path} of the same job would both become "
                f"{upload.url}; write one of them to another place."
            )
        paths[upload.url] = upload.path
