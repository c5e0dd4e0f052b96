"""Where in a bucket the platform keeps the files of all tenants: no request and no trigger may name these places.

An operator may give tenants the bucket that has the platform's storage as well. What a tenant could read there would
be the uploads and results of the others, whose keys follow from ids.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from jobs.shared_features import PREFIX as FEATURES
from jobs.storage.protocol import MARKER_KEY

OWN_FOLDERS = ("jobs/", "uploads/", FEATURES)
"""Folders that this server writes to, below its storage prefix."""


@dataclass(frozen=True)
class OwnStorage:
    """The places of the platform's own files.

    Attributes:
        bucket: None: they are in no bucket.
        beginnings: how the keys of these files begin.
    """

    bucket: str | None = None
    beginnings: tuple[str, ...] = ()

    @classmethod
    def from_url(cls, storage_url: str) -> OwnStorage:
        """Return the places in the storage of a URL such as `s3://bucket/prefix`."""
        own = urlsplit(storage_url)
        if own.scheme != "s3":
            return cls()
        prefix = own.path.strip("/")
        folder = f"{prefix}/" if prefix else ""
        return cls(own.netloc, tuple(f"{folder}{name}" for name in (*OWN_FOLDERS, MARKER_KEY)))

    def has(self, bucket: str, key: str) -> bool:
        """Return whether an object, or a folder that is given with its slash, is one of these places."""
        if bucket != self.bucket:
            return False
        # Clients of stores shorten `a/../b`.
        return key.startswith(self.beginnings) or not {".", ".."}.isdisjoint(key.split("/"))

    def overlapping(self, bucket: str, prefix: str) -> str | None:
        """Return the place of which keys that begin with a prefix may be part; None: there is none."""
        if bucket != self.bucket:
            return None
        return next((one for one in self.beginnings if one.startswith(prefix) or prefix.startswith(one)), None)


NO_BUCKET = OwnStorage()


def kept_for_the_platform(bucket: str) -> str:
    """Return why a place is refused."""
    return f"this server keeps its own files in this part of bucket {bucket!r}; use another folder"
