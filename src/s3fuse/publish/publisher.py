"""The outputs of a job: all of them become visible, or none."""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from s3fuse.errors import PublishError, S3FuseError
from s3fuse.publish.commit import Change, CommitRecord, records_beside
from s3fuse.publish.journal import Journal
from s3fuse.publish.local import files_below
from s3fuse.publish.manifest import Manifest, manifest_url, read_manifest
from s3fuse.publish.upload import Sender, Upload
from s3fuse.s3.etags import holds
from s3fuse.s3.objects import ObjectInfo, is_internal
from s3fuse.s3.parts import CONCURRENCY
from s3fuse.s3.store import Store
from s3fuse.traffic import Traffic
from s3fuse.urls import S3Url

log = logging.getLogger("s3fuse")

T = TypeVar("T")

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


@dataclass
class _Folder:
    """A folder on its way: its objects first, then the manifest.

    Attributes
    ----------
    output : Output
        The directory.
    uploads : list of Upload
        Its files.
    obsolete : dict of str to ObjectInfo
        Objects of the old manifest that the directory does not have, by key.
    manifest : Manifest
        The manifest of the folder before.
    is_complete : bool
        Whether the folder was there before, and must stay until all is sent.
    claim : ObjectInfo, optional
        The pending manifest, while the folder is published.
    """

    output: Output
    uploads: list[Upload]
    obsolete: dict[str, ObjectInfo]
    manifest: Manifest
    is_complete: bool
    claim: ObjectInfo | None = None


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
        # ETags of what was sent and may have become visible though its publication failed.
        self._unconfirmed: dict[S3Url, set[str]] = {}

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
            If somebody else has replaced an output, or the store holds something else
            than was sent.
        S3FuseError
            If an upload failed.  What was there before is then unharmed, unless the
            message says that it has begun to change.
        """
        for bucket in {output.url.bucket for output in outputs}:
            self._store.check(bucket)
        if may_be_there and (there := self._all_there(outputs)):
            return there
        outputs = [self._tried_again(each) for each in outputs]
        files = [
            Upload(self._sender, each.path, each.url, each.replaces)
            for each in outputs
            if not each.is_folder
        ]
        try:
            if len(outputs) == 1 and files:
                published = {files[0].url: [_publish_one(self._store, files[0])]}
            else:
                published = self._publish_together(outputs, files)
        except BaseException:
            for upload in files:
                self._may_be_visible(upload)
            raise
        for each in outputs:
            self._unconfirmed.pop(each.target, None)
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
        with tempfile.NamedTemporaryFile(suffix=Path(url.key).suffix) as file:
            self._store.get_into(url, now, file.file)
            file.flush()
            return _publish_one(self._store, Upload(self._sender, Path(file.name), url, now))

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

        def delete(info: ObjectInfo) -> None:
            each = S3Url(url.bucket, info.key)
            now = self._store.head(each)
            if now is None:
                return
            if now.etag == info.etag:
                self._store.call("delete_object", each, "delete", Key=each.key)
            else:
                log.warning(f"{each} was replaced by somebody else, so it was not deleted.")

        infos = list(infos)
        _all(delete, [info for info in infos if not is_internal(info.key)])
        _all(delete, [info for info in infos if is_internal(info.key)])

    def _may_be_visible(self, upload: Upload) -> None:
        """Note what was sent in vain, or may be visible in spite of an error."""
        self._unconfirmed.setdefault(upload.url, set()).update(upload.possible_etags)

    def _tried_again(self, output: Output) -> Output:
        """Let an output replace what an earlier try of the same job has made visible."""
        etags = self._unconfirmed.get(output.target)
        now = self._store.head(output.target) if etags else None
        return replace(output, replaces=now) if etags and now and now.etag in etags else output

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
        folders = [self._folder(each, left) for each in outputs if each.is_folder]
        record = CommitRecord(tuple(urls), tuple(places), tuple(_changes(files, folders)))
        published = self._commit(record, files, folders)
        for each in left:
            each.remove(self._store)
        return published

    def _commit(
        self, record: CommitRecord, files: list[Upload], folders: list[_Folder]
    ) -> dict[S3Url, list[ObjectInfo]]:
        """Send everything, then make it visible, then verify it."""
        inner = [(folder, upload) for folder in folders for upload in folder.uploads]
        # A folder without a manifest is not there, so its new objects need not be hidden.
        hidden = [*files, *(u for folder, u in inner if folder.is_complete or u.replaces)]
        new = [u for folder, u in inner if not folder.is_complete and not u.replaces]
        record.write(self._store)
        try:
            _all(lambda upload: upload.stage(invisibly=True), hidden)
            _all(lambda upload: upload.stage(invisibly=False), new)
        except BaseException:
            self._withdraw(record, [*hidden, *new])
            raise
        published: dict[S3Url, list[ObjectInfo]] = {}
        is_begun = False
        try:
            for folder in folders:
                self._claim(folder, record)
            is_begun = bool(new)
            _all(Upload.complete, new)
            for upload in hidden:
                upload.complete()
                is_begun = True
            for upload in files:
                published[upload.url] = [upload.verify(self._store.head(upload.url))]
            for folder in folders:
                published[folder.output.url] = self._finish(folder)
        except BaseException as error:
            if not is_begun:
                self._withdraw(record, [*hidden, *new], folders)
                raise
            # The record stays, by which the next run knows.
            _all(Upload.abort, [*hidden, *new])
            if isinstance(error, S3FuseError):
                raise PublishError(
                    f"{error} Some outputs of the same job have been replaced before; the next "
                    "run makes all of them again."
                ) from error
            raise
        record.remove(self._store)
        return published

    def _withdraw(
        self, record: CommitRecord, staged: list[Upload], folders: Sequence[_Folder] = ()
    ) -> None:
        """Undo a commit of which nothing was visible; the record stays where that fails."""
        with contextlib.suppress(S3FuseError):
            _all(Upload.abort, staged)
            for folder in folders:
                url = folder.output.url.child("")
                if folder.claim and folder.output.replaces:
                    self._write(url, folder.manifest, folder.claim)
                elif folder.claim:
                    self.delete(url, [folder.claim])
            record.remove(self._store)

    def _claim(self, folder: _Folder, record: CommitRecord) -> None:
        """Make the manifest of a folder pending, so that one of several runs publishes it."""
        url, before = folder.output.url.child(""), folder.manifest
        pending = Manifest(before.entries, before.adopted, record.name)
        folder.claim = self._write(url, pending, folder.output.replaces)

    def _folder(self, output: Output, left: Collection[CommitRecord]) -> _Folder:
        """Look at a directory, and at the folder that it becomes.

        Raises
        ------
        PublishError
            If somebody else has published the folder since the run was planned.
        """
        folder = output.url.child("")
        files = files_below(output.path, output.url)
        before = self._store.list(folder, recursive=True)
        old = before.internal.get(manifest_url(folder).key)
        if (old and old.etag) != (output.replaces and output.replaces.etag):
            raise PublishError(
                f"{output.url} was replaced since this run was planned, so it was not "
                "published; start the run again."
            )
        manifest = read_manifest(self._store, folder, old) if old else Manifest({})
        known = {folder.key + key: entry.etag for key, entry in manifest.entries.items()}
        for record in left:
            # What a publication that was cut has put there is nobody else's.
            for change in record.changes:
                now = before.objects.get(change.url.key)
                if now and change.url.bucket == folder.bucket and now.etag in change.new:
                    known[change.url.key] = now.etag
        keys = {url.key for url in files}
        return _Folder(
            output,
            [
                Upload(self._sender, file, url, before.objects.get(url.key))
                for url, file in files.items()
            ],
            {
                key: info
                for key, info in before.objects.items()
                if key not in keys and known.get(key) == info.etag
            },
            manifest,
            is_complete=old is not None and manifest.selected(folder, before) is not None,
        )

    def _finish(self, folder: _Folder) -> list[ObjectInfo]:
        """Verify the objects of a folder, delete those of the old one, and write the manifest."""
        url = folder.output.url.child("")
        now = self._store.list(url, recursive=True)
        infos = [
            self._verified(upload, now.objects.get(upload.url.key)) for upload in folder.uploads
        ]
        for key, info in folder.obsolete.items():
            if (there := now.objects.get(key)) and there.etag == info.etag:
                self._store.call("delete_object", S3Url(url.bucket, key), "delete", Key=key)
        return [*infos, self.write_manifest(url, infos, folder.claim)]

    def _verified(self, upload: Upload, listed: ObjectInfo | None) -> ObjectInfo:
        """Verify an object of a folder by its entry in a listing, or else by its own answer."""
        if listed and not upload.is_in(listed):
            # A listing does not tell whether an ETag says anything, as it does not under SSE-KMS.
            now = self._store.head(upload.url)
            upload.verify(now)
            return listed
        return upload.verify(listed)

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
        return self._write(folder, Manifest.of(folder, infos, adopted), replaces)

    def _write(self, folder: S3Url, manifest: Manifest, replaces: ObjectInfo | None) -> ObjectInfo:
        url = manifest_url(folder)
        with tempfile.NamedTemporaryFile(suffix=".json") as file:
            file.write(manifest.to_json())
            file.flush()
            upload = Upload(self._sender, Path(file.name), url, replaces)
            self._may_be_visible(upload)
            return _publish_one(self._store, upload)

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
    return _publish_one(store, Upload(Sender(store, journal), path, url, replaces))


def _publish_one(store: Store, upload: Upload) -> ObjectInfo:
    """Publish a single object, which S3 replaces in one step."""
    try:
        upload.stage(invisibly=False)
        upload.complete()
    except BaseException:
        upload.abort()
        raise
    return upload.verify(store.head(upload.url))


def _changes(files: Iterable[Upload], folders: Iterable[_Folder]) -> Iterable[Change]:
    """List what a commit changes."""
    uploads = [*files, *(upload for folder in folders for upload in folder.uploads)]
    for upload in uploads:
        yield Change(upload.url, upload.old_etag, upload.etags)
    for folder in folders:
        for key, info in folder.obsolete.items():
            yield Change(S3Url(folder.output.url.bucket, key), info.etag, (None,))


def _all(work: Callable[[T], None], each_of: Sequence[T]) -> None:
    """Do the same for many uploads or objects, several at a time; the first failure ends it."""
    if not each_of:
        return
    with ThreadPoolExecutor(min(len(each_of), CONCURRENCY)) as pool:
        done = [pool.submit(work, each) for each in each_of]
        try:
            for each in done:
                each.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
