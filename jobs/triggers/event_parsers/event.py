"""What every form is read into: one object that was created."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from typing import Any

# The MD5 of a plain upload, or that of the parts with their number. What a store makes of an encrypted object may
# differ between event and HEAD, so only this form is ever compared.
_PLAIN_ETAG = re.compile(r"[0-9a-f]{32}(-[0-9]+)?")


class UnreadableEventError(ValueError):
    """Raised for a document of no known form. It is never result as done: a queue keeps it, a caller is told."""


@dataclass(frozen=True)
class ObjectCreated:
    """One notice that an object was created (or overwritten).

    Attributes:
        source: who says so: `aws:s3`, `minio:s3`, `ceph:s3`, ...
        keys: what the key may be, likeliest first. A store that does not say whether it encodes leaves two readings;
            a HEAD tells which one is there.
        version_id: None where the bucket keeps no versions.
        sequencer: grows with the writes of one key; equal in all copies of one event, except Ceph's.
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
        """The ETag, if it is one that a HEAD of the same version must repeat."""
        return self.etag if self.etag is not None and _PLAIN_ETAG.fullmatch(self.etag) else None

    @property
    def fingerprint(self) -> str:
        """A short text that copies of this event share."""
        told = (self.source, self.bucket, self.keys, self.version_id, self.etag, self.sequencer)
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:32]

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "keys": list(self.keys)}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> ObjectCreated:
        return cls(**{**document, "keys": tuple(document["keys"])})
