"""Signed URLs of the API itself, for stores that have none: HMAC-SHA256 over method, path, expiry and tenant."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import quote


@dataclass(frozen=True)
class LinkSigner:
    """Signs paths with one secret key, and accepts what the same or an older key has signed.

    Attributes:
        older: keys that signed before; links made with them stay valid until they expire.
    """

    key: bytes = field(repr=False)
    older: tuple[bytes, ...] = field(default=(), repr=False)

    def query(self, method: str, path: str, expires_at: datetime, *, tenant: str = "") -> str:
        """Return the query string that makes `method path` valid for a tenant's content until `expires_at`."""
        expires = int(expires_at.timestamp())
        signature = _signature(self.key, method, path, expires, tenant)
        named = f"tenant={quote(tenant, safe='')}&" if tenant else ""
        return f"{named}expires={expires}&signature={signature}"

    def is_valid(
        self, method: str, path: str, expires: str, signature: str, *, now: datetime, tenant: str = ""
    ) -> bool:
        """Say whether a signature made by `query` is right and has not expired; compares in constant time."""
        if not expires.isascii() or not expires.isdigit() or len(expires) > 12:
            return False
        given = signature.encode(errors="replace")
        matching = [
            hmac.compare_digest(_signature(key, method, path, int(expires), tenant).encode(), given)
            for key in (self.key, *self.older)
        ]
        return any(matching) and now.timestamp() < int(expires)


def _signature(key: bytes, method: str, path: str, expires: int, tenant: str) -> str:
    # A tenant's name has no line break, so no other method, path and expiry give the same text.
    text = f"{method}\n{path}\n{expires}" + (f"\n{tenant}" if tenant else "")
    return hmac.new(key, text.encode(errors="surrogatepass"), hashlib.sha256).hexdigest()
