"""Why and since when stored content no longer exists: of artifacts and uploads alike."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from jobs.errors import GoneReason


@dataclass(frozen=True)
class Gone:
    """Content that no longer exists.

    Attributes:
        expired_at: when its retention time passed; None: it had not.
        deleted_at: when its deletion, or that it is missing, was recorded; None: not yet.
    """

    reason: GoneReason
    expired_at: datetime | None = None
    deleted_at: datetime | None = None

    @property
    def clause(self) -> str:
        """The reason as the end of a sentence that begins with the name of the content."""
        if self.reason is GoneReason.RETENTION and self.expired_at is not None:
            return f"was kept until {_minute(self.expired_at)}, when its retention time passed"
        when = f" since {_minute(self.deleted_at)}" if self.deleted_at is not None else ""
        return f"has been missing in the object store{when}" if when else "is missing in the object store"


def gone_since(*, expires_at: datetime | None, deleted_at: datetime | None, now: datetime) -> Gone | None:
    """Return why content no longer exists at `now`; None: it does.

    What was marked deleted before its time had passed was found missing: nothing deletes content earlier.
    """
    if expires_at is not None and expires_at <= min(now, deleted_at or now):
        return Gone(GoneReason.RETENTION, expires_at, deleted_at)
    if deleted_at is not None:
        return Gone(GoneReason.MISSING, None, deleted_at)
    return None


def _minute(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M} UTC"
