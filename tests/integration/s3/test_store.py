import pytest

from conftest import Bucket
from s3fuse.embedded_server import Server
from s3fuse.errors import (
    BucketNotFound,
    CredentialsError,
    EndpointError,
)
from s3fuse.s3.connection import Connection
from s3fuse.s3.listings import Listings
from s3fuse.s3.store import Store
from s3fuse.urls import S3Url


def test_head_and_list_agree(store: Store, bucket: Bucket) -> None:
    bucket.write("a/x.nc", "content")
    url = bucket.url.child("a/x.nc")
    info = store.head(url)
    assert info is not None
    assert info.size == 7
    assert info == store.list(url.parent).objects["a/x.nc"]
    assert info.md5 == "9a0364b9e99bb480dd25e1f0284c8555"  # printf content | md5sum
    assert store.head(bucket.url.child("a/y.nc")) is None


def test_a_listing_is_whole_beyond_one_page(store: Store, bucket: Bucket) -> None:
    for number in range(1050):
        bucket.write(f"many/{number:04}", "")
    assert len(store.list(bucket.url.child("many/")).objects) == 1050
    assert store.list(bucket.url).folders == {"many/"}
    assert len(store.list(bucket.url, recursive=True).objects) == 1050


def test_a_folder_is_there_while_objects_are(store: Store, bucket: Bucket) -> None:
    folder = bucket.url.child("f/")
    assert not store.has_objects(folder)
    bucket.write("f/x", "1")
    assert store.has_objects(folder)
    store.remove(folder)
    assert not store.has_objects(folder)
    assert bucket.folder.is_dir()


def test_a_listings_does_not_see_what_comes_later(store: Store, bucket: Bucket) -> None:
    bucket.write("d/x", "1")
    listings = Listings(store)
    assert listings.object(bucket.url.child("d/x")) is not None
    bucket.write("d/y", "1")
    assert listings.object(bucket.url.child("d/y")) is None
    assert listings.is_folder(bucket.url.child("d"))
    assert listings.is_folder(bucket.url.child("d/"))
    assert not listings.is_folder(bucket.url.child("e/"))


def test_wrong_credentials_and_places_are_named(server: Server, bucket: Bucket) -> None:
    def ask(**changes: str) -> None:
        known = {
            "endpoint_url": server.endpoint_url,
            "access_key": server.access_key,
            "secret_key": server.secret_key,
        }
        Store(Connection(**{**known, **changes})).head(bucket.url.child("x"))  # type: ignore[arg-type]

    with pytest.raises(CredentialsError, match=f"access key used for {bucket.url}"):
        ask(access_key="WRONG")
    with pytest.raises(CredentialsError, match=f"secret key used for {bucket.url}"):
        ask(secret_key="wrong")
    with pytest.raises(EndpointError, match=r"http://127\.0\.0\.1:9 cannot be reached"):
        ask(endpoint_url="http://127.0.0.1:9")
    with pytest.raises(BucketNotFound, match="no bucket s3://not-there at http://127"):
        Store(server.connection).head(S3Url("not-there", "x"))


def test_no_credentials_and_no_such_profile(server: Server, bucket: Bucket) -> None:
    with pytest.raises(CredentialsError, match="No credentials for s3://"):
        Store(Connection(server.endpoint_url)).head(bucket.url.child("x"))
    with pytest.raises(CredentialsError, match="profile 'nobody' does not exist"):
        Store(Connection(server.endpoint_url, profile="nobody")).head(bucket.url.child("x"))
