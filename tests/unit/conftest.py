"""Unit tests run without s3fs, FUSE, an S3 server and a network."""

import pytest


@pytest.fixture
def server() -> None:
    pytest.fail("a unit test asks for a server; it belongs into tests/integration")
