"""Signed URLs of the API itself, for stores that have none: HMAC-SHA256 over method, path and expiry."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True)
class LinkSigner:
    """Signs and checks paths with one secret key."""

    key: bytes = field(repr=False)

    def query(self, method: str, path: str, expires_at: datetime) -> str:
        """Return the query string that makes `method path` valid until `expires_at`."""
        expires = int(expires_at.timestamp())
        return f"expires={expires}&signature={self._signature(method, path, expires)}"

    def is_valid(self, method: str, path: str, expires: str, signature: str, *, now: datetime) -> bool:
        """Say whether a signature made by `query` is right and has not expired; compares in constant time."""
        if not expires.isascii() or not expires.isdigit() or len(expires) > 12:
            return False
        expected = self._signature(method, path, int(expires))
        return hmac.compare_digest(expected.encode(), signature.encode()) and now.timestamp() < int(expires)

    def _signature(self, method: str, path: str, expires: int) -> str:
        return hmac.new(self.key, f"{method}\n{path}\n{expires}".encode(), hashlib.sha256).hexdigest()
