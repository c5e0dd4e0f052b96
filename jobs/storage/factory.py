"""From a storage URL to the store behind it."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

from jobs.settings import Settings
from jobs.storage.local import open_local
from jobs.storage.protocol import ObjectStore


def open_store(settings: Settings) -> ObjectStore:
    """Return the store that `storage_url` names.

    Raises:
        ValueError: the URL is neither `file:///...` nor `s3://...`.
    """
    parts = urlsplit(settings.storage_url)
    if parts.scheme == "file" and not parts.netloc:
        return open_local(unquote(parts.path))
    if parts.scheme == "s3":
        from jobs.storage.s3.store import S3Store  # boto3 takes a while to import; a local folder needs none of it

        return S3Store.from_settings(settings.storage_url, settings)
    raise ValueError(f"Got MMAUDIO_STORAGE_URL={settings.storage_url!r}; use file:///folder or s3://bucket/prefix.")
