"""What a connection adds to each request that takes it: who pays, and how objects are encrypted.

It is added where the S3 client builds requests, so no request can be forgotten.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from typing import Any

from s3fuse.s3.connection import Connection


def adding_parameters(connection: Connection) -> Callable[..., None]:
    """Return a handler of botocore's event ``before-parameter-build``.

    Names: https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html and
    https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html
    """
    wanted: dict[str, Any] = {}
    if connection.requester_pays:
        wanted["RequestPayer"] = "requester"
    if connection.sse:
        wanted["ServerSideEncryption"] = connection.sse
    if connection.sse_kms_key_id:
        wanted["SSEKMSKeyId"] = connection.sse_kms_key_id
    if key := connection.sse_customer_key:
        digest = hashlib.md5(base64.b64decode(key), usedforsecurity=False).digest()
        for prefix in ("", "CopySource"):
            wanted[f"{prefix}SSECustomerAlgorithm"] = "AES256"
            wanted[f"{prefix}SSECustomerKey"] = key
            wanted[f"{prefix}SSECustomerKeyMD5"] = base64.b64encode(digest).decode()

    def add(params: dict[str, Any], model: Any, **_: Any) -> None:
        members = model.input_shape.members if model.input_shape else {}
        params.update({name: value for name, value in wanted.items() if name in members})

    return add
