"""One version of each object, from the store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from s3fuse.errors import EndpointError, ObjectChanged, ObjectNotFound, S3FuseError
from s3fuse.gateway.answers import Page
from s3fuse.gateway.options import TRIES
from s3fuse.s3.client import Client
from s3fuse.s3.objects import ObjectInfo, is_internal, version_name
from s3fuse.s3.retries import PATIENCE, patiently
from s3fuse.s3.translate import endless, explained, incomplete, unfinished
from s3fuse.urls import S3Url

#: Objects of a page of a listing, as in S3.
MOST_KEYS = 1000
#: Versions of one object that are looked through.
MOST_VERSIONS = 1000
#: Seconds for which a store that cannot be reached is asked again: s3fs comes back.
_PATIENCE = PATIENCE / TRIES


class Upstream:
    """A bucket, as the gateway asks for it.

    Parameters
    ----------
    client : Client
        Sends the requests.
    bucket : str
        Name of the bucket.

    Attributes
    ----------
    counts : Counter
        Requests by the names of their methods, and ``bytes``.
    """

    def __init__(self, client: Client, bucket: str) -> None:
        self._client, self._bucket = client, bucket
        self._version_ids: dict[str, str] = {}
        self.counts: Counter[str] = Counter()

    @patiently(_PATIENCE)
    async def read(
        self, info: ObjectInfo, start: int, end: int, write: Callable[[bytes, int], None]
    ) -> None:
        """Read a span of one version; of a versioned bucket, one that was replaced, too.

        Raises
        ------
        ObjectChanged
            If the version cannot be had any more.
        S3FuseError
            If it cannot be read.
        """
        version = self._version_ids.get(version_name(info))
        try:
            await self._read(info, start, end, write, version)
        except (ObjectChanged, ObjectNotFound) as error:
            version = await self._version_of(info)
            if version is None:
                raise self._gone(info) from error
            self._version_ids[version_name(info)] = version
            await self._read(info, start, end, write, version)

    @patiently(_PATIENCE)
    async def head(self, key: str) -> ObjectInfo | None:
        """Look at an object; None if it is not there."""
        try:
            answer = await self._ask("head_object", "look at", key, Key=key)
        except ObjectNotFound:
            return None
        return ObjectInfo.from_answer(key, answer, "ContentLength")

    async def is_opaque(self, info: ObjectInfo) -> bool | None:
        """Tell whether the ETag of a version is no MD5, as under SSE-KMS; a listing does not.

        Returns
        -------
        bool, optional
            None if the version cannot be looked at any more.
        """
        answer = await self._look_again(info)
        return ObjectInfo.from_answer(info.key, answer, "ContentLength").opaque if answer else None

    async def part_size(self, info: ObjectInfo, number: int) -> int | None:
        """Return the bytes of a part, from 1 on, of an upload; None if the store says none."""
        answer = await self._look_again(info, PartNumber=number)
        return int(answer["ContentLength"]) if answer else None

    @patiently(_PATIENCE)
    async def _look_again(self, info: ObjectInfo, **more: Any) -> dict[str, Any] | None:
        """Ask for the headers of one version; None if they are refused."""
        if version := self._version_ids.get(version_name(info)):
            more["VersionId"] = version
        try:
            return await self._ask(
                "head_object", "look at", info.key, Key=info.key, IfMatch=f'"{info.etag}"', **more
            )
        except EndpointError:
            raise
        except S3FuseError:
            return None

    @patiently(_PATIENCE)
    async def list(self, query: dict[str, str]) -> Page:
        """List a page, without what this project keeps for itself.

        Parameters
        ----------
        query : dict of str to str
            What was asked for, in the first or the second form of the request.
        """
        number = query.get("max-keys", "")
        most = min(int(number), MOST_KEYS) if number.isdecimal() else MOST_KEYS
        asked: dict[str, Any] = {"Prefix": query.get("prefix", "")}
        names = {
            "Delimiter": "delimiter",
            "ContinuationToken": "continuation-token",
            "StartAfter": "start-after" if query.get("list-type") == "2" else "marker",
        }
        asked |= {name: query[word] for name, word in names.items() if query.get(word)}
        objects: list[ObjectInfo] = []
        folders: list[str] = []
        used: set[str] = set()
        while True:
            asked["MaxKeys"] = most
            answer = await self._ask("list_objects_v2", "list", asked["Prefix"], **asked)
            found = [
                ObjectInfo.from_answer(each["Key"], each, "Size")
                for each in answer.get("Contents", ())
            ]
            objects += [each for each in found if not is_internal(each.key)]
            folders += [each["Prefix"] for each in answer.get("CommonPrefixes", ())]
            if not answer.get("IsTruncated"):
                return Page(objects, folders)
            token = str(answer.get("NextContinuationToken") or "")
            if reason := endless(token, used, len(used)):
                url = S3Url(self._bucket, asked["Prefix"])
                raise unfinished(url, reason, self._client.connection)
            used.add(token)
            if objects or folders:
                break
            # All were of this project. s3fs takes an empty page for no folder.
            asked["ContinuationToken"] = token
        if query.get("list-type") != "2":
            token = max([each.key for each in found] + folders)
        return Page(objects, folders, token)

    async def _read(
        self,
        info: ObjectInfo,
        start: int,
        end: int,
        write: Callable[[bytes, int], None],
        version: str | None,
    ) -> None:
        def counted(chunk: bytes, position: int) -> None:
            self.counts["bytes"] += len(chunk)
            write(chunk, position)

        url = S3Url(self._bucket, info.key)
        self.counts["get_object"] += 1
        # The version is compared by its ETag in any case.
        more = {"VersionId": version} if version else {}
        try:
            await self._client.read(url, info, start, end - start, counted, **more)
        except OSError as error:
            if error.errno is not None and not isinstance(error, ConnectionError | TimeoutError):
                # Of the disk.
                raise
            raise explained(error, url, "read", self._client.connection) from error
        except Exception as error:
            raise explained(error, url, "read", self._client.connection) from error

    async def _version_of(self, info: ObjectInfo) -> str | None:
        """Find the version of an object that was planned with; None if there is none."""
        query = {"Prefix": info.key, "MaxKeys": MOST_VERSIONS}
        try:
            answer = await self._ask("list_object_versions", "list", info.key, **query)
        except EndpointError:
            raise
        except S3FuseError:
            # Nobody may list versions here, or the store knows none.
            return None
        for each in answer.get("Versions", ()):
            found = ObjectInfo.from_answer(each["Key"], each, "Size")
            if version_name(found) == version_name(info):
                return str(each["VersionId"])
        return None

    async def _ask(self, method: str, action: str, key: str, **parameters: Any) -> dict[str, Any]:
        self.counts[method] += 1
        url, connection = S3Url(self._bucket, key), self._client.connection
        try:
            answer = await self._client.request(method, Bucket=self._bucket, **parameters)
        except Exception as error:
            raise explained(error, url, action, connection) from error
        if wrong := incomplete(method, answer, url, action, connection):
            raise wrong
        return answer

    def _gone(self, info: ObjectInfo) -> ObjectChanged:
        return ObjectChanged(
            f"s3://{self._bucket}/{info.key} was replaced or deleted after this run was planned, "
            "and the bucket does not keep that version; start the run again."
        )
