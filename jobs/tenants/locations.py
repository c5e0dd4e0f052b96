"""Lists of allowed buckets and folders in them: `bucket`, or `bucket/prefix`, which stands for a folder."""

from __future__ import annotations

import re
from collections.abc import Collection

from jobs.s3_urls import BUCKET_NAME

_PREFIX = re.compile(r"[^\x00]{1,700}", re.DOTALL)


def check_location(value: str) -> str:
    """Return an entry of a list, without slashes at its end.

    Raises:
        ValueError: it is none.
    """
    bucket, _, prefix = value.partition("/")
    prefix = prefix.rstrip("/")
    if not BUCKET_NAME.fullmatch(bucket) or (prefix and not _PREFIX.fullmatch(prefix)) or _has_dots(prefix):
        raise ValueError(f"got {value[:80]!r}; give bucket or bucket/prefix, such as videos/incoming")
    return f"{bucket}/{prefix}" if prefix else bucket


def allows_object(allowed: Collection[str], bucket: str, key: str) -> bool:
    """Return whether a list covers an object."""
    return _allows(allowed, bucket, key)


def allows_folder(allowed: Collection[str], bucket: str, prefix: str) -> bool:
    """Return whether a list covers everything whose key begins with a prefix."""
    return _allows(allowed, bucket, prefix)


def not_allowed_input(allowed: Collection[str], bucket: str) -> str:
    """Return why an input in a bucket is refused."""
    return f"this server does not read from {_what(allowed, bucket)} (input_buckets)"


def not_allowed_output(allowed: Collection[str], bucket: str) -> str:
    """Return why a delivery to a bucket is refused."""
    return f"this server does not deliver to {_what(allowed, bucket)} (output_buckets)"


def _what(allowed: Collection[str], bucket: str) -> str:
    in_part = any(entry.startswith(f"{bucket}/") for entry in allowed)
    return f"this folder of bucket {bucket!r}" if in_part else f"bucket {bucket!r}"


def _allows(allowed: Collection[str], bucket: str, begin: str) -> bool:
    if bucket in allowed:
        return True
    # A folder and not a mere prefix: `videos/a` must not cover `videos/ab/`. Clients of stores shorten `a/../b`.
    return not _has_dots(begin) and any(
        begin.startswith(f"{entry.partition('/')[2].rstrip('/')}/")
        for entry in allowed
        if "/" in entry and entry.partition("/")[0] == bucket
    )


def _has_dots(path: str) -> bool:
    return any(part in {".", ".."} for part in path.split("/"))
