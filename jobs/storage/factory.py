"""Opens the object store that the settings name."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

from jobs.settings import Settings
from jobs.storage.local import open_local
from jobs.storage.protocol import CallLimits, ObjectStore

DEFAULT_LIMITS = CallLimits()


def open_store(settings: Settings, limits: CallLimits = DEFAULT_LIMITS) -> ObjectStore:
    """Return the store that `storage_url` names.

    Raises:
        ValueError: the URL is neither `file:///...` nor `s3://...`.
    """
    parts = urlsplit(settings.storage_url)
    if parts.scheme == "file" and not parts.netloc:
        return open_local(unquote(parts.path), reserve_bytes=settings.disk_reserve_bytes)
    if parts.scheme == "s3":
        from jobs.storage.s3.store import S3Store  # imports boto3, which is slow and useless for a folder

        return S3Store.from_settings(settings.storage_url, settings, limits)
    raise ValueError(f"Got MMAUDIO_STORAGE_URL={settings.storage_url!r}; use file:///folder or s3://bucket/prefix.")
