"""Settings of a ``storage`` block: those that exist work, all others are refused by name."""

from __future__ import annotations

import copy
from dataclasses import fields
from typing import Any

import pytest

from s3fuse.errors import SettingsError
from snakemake_storage_plugin_s3fuse.settings import StorageProviderSettings


def block(**given: Any) -> StorageProviderSettings:
    """Set what a block gives, in the way that Snakemake does it."""
    settings = copy.copy(StorageProviderSettings())
    settings.__dict__.update(given)
    return settings


#: Each setting of snakemake-storage-plugin-s3 but `signature_version`, with a value.
SAME: dict[str, Any] = {
    "endpoint_url": "https://store.example",
    "region": "eu-west-2",
    "access_key": "ACCESS",
    "secret_key": "SECRET",
    "token": "TOKEN",
    "retries": 7,
}


def test_settings_of_the_s3_plugin_work() -> None:
    connection = block(**SAME).connection()
    assert {name: getattr(connection, name) for name in SAME} == SAME
    assert not connection.anonymous


def test_each_setting_of_the_s3_plugin_is_known() -> None:
    other = pytest.importorskip("snakemake_storage_plugin_s3")
    names = {each.name for each in fields(other.StorageProviderSettings)}
    assert names == {*SAME, "signature_version", "max_requests_per_second"}
    assert names <= {each.name for each in fields(StorageProviderSettings)}


def test_unsigned_is_anonymous() -> None:
    assert block(signature_version="UNSIGNED").connection().anonymous
    assert StorageProviderSettings(signature_version="UNSIGNED").connection().anonymous
    assert not block().connection().anonymous


@pytest.mark.parametrize("value", ["s3v4", "s3", "v4-unsigned-body", ""])
def test_other_signatures_are_refused(value: str) -> None:
    with pytest.raises(SettingsError, match=f"^signature_version is '{value}'; .* UNSIGNED for"):
        block(signature_version=value).connection()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (
            "endpoint",
            "There is no setting 'endpoint'; did you mean endpoint_url? The settings are access,",
        ),
        ("acces", "There is no setting 'acces'; did you mean access or access_key? The settings"),
        ("copy_bellow", "There is no setting 'copy_bellow'; did you mean copy_below? "),
        ("colour", "There is no setting 'colour'. The settings are access, access_key, "),
    ],
)
def test_a_setting_that_does_not_exist_is_named(name: str, sentence: str) -> None:
    with pytest.raises(SettingsError) as caught:
        block(**{name: "value"}).connection()
    assert str(caught.value).startswith(sentence)
    assert "_kept" not in str(caught.value)


def test_what_snakemake_reads_of_a_block_is_accepted() -> None:
    block(keep_local=True, retrieve=False, max_requests_per_second=10).connection()
