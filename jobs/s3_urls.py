"""The `s3://` URLs that requests and triggers may name: the only definition of a bucket's name."""

from __future__ import annotations

import re

_BUCKET = r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"

BUCKET_NAME = re.compile(_BUCKET)
MAX_OBJECT_KEY_BYTES = 1024
OBJECT_URL = re.compile(rf"s3://(?P<bucket>{_BUCKET})/(?P<key>.+)", re.DOTALL)
"""An object: groups `bucket` and `key`."""
DELIVERY_URL = re.compile(rf"s3://(?P<bucket>{_BUCKET})/(?P<prefix>([^\x00]{{1,700}}/)?)")
"""A bucket or a folder in it, with the slash at the end: groups `bucket` and `prefix`."""
