"""The parsed form of all events: an object that was created."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from typing import Any

# The MD5 of a plain upload, or that of the parts with their number. ETags of encrypted objects may differ between event
# and HEAD, so only this form is compared.
_PLAIN_ETAG = re.compile(r"[0-9a-f]{32}(-[0-9]+)?")


class UnreadableEventError(ValueError):
    """Raised for a document of no known form. A queue keeps such a message; an HTTP caller gets an error."""


@dataclass(frozen=True)
class ObjectCreated:
    """An event about an object that was created or overwritten.

    Attributes:
        source: the kind of store: `aws:s3`, `minio:s3`, `ceph:s3`, ...
        keys: the possible keys, likeliest first: some stores do not tell whether the key is URL-encoded, and a HEAD
            request finds out which one exists.
        version_id: None if the bucket keeps no versions.
        sequencer: increases with the writes of one key; equal in all copies of one event, except Ceph's.
    """

    source: str
    bucket: str
    keys: tuple[str, ...]
    version_id: str | None = None
    etag: str | None = None
    sequencer: str | None = None
    size_bytes: int | None = None
    name: str = ""

    @property
    def plain_etag(self) -> str | None:
        """The ETag, if a HEAD of the same version must return the same one."""
        return self.etag if self.etag is not None and _PLAIN_ETAG.fullmatch(self.etag) else None

    @property
    def fingerprint(self) -> str:
        """A hash that all copies of this event share."""
        identity = (self.source, self.bucket, self.keys, self.version_id, self.etag, self.sequencer)
        return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:32]

    def as_json(self) -> dict[str, Any]:
        """Return the event as it is stored."""
        return {**asdict(self), "keys": list(self.keys)}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> ObjectCreated:
        """Return the event from its stored form."""
        return cls(**{**document, "keys": tuple(document["keys"])})
