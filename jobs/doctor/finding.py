"""One place where two truths disagree, and what mends it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum


class Kind(StrEnum):
    """What can disagree; each says what `--fix` does about it."""

    ARTIFACT_MISSING = "artifact_missing"
    """A row points at an object that is gone. Fix: the artifact is marked as deleted, so that callers are told."""
    UPLOAD_MISSING = "upload_missing"
    """A checked upload's object is gone. Fix: the upload is marked as deleted; a job for it is refused by name."""
    OBJECT_UNKNOWN = "object_unknown"
    """An object that no row points at: an attempt died between upload and row. Fix: it is deleted."""
    MESSAGE_MISSING = "message_missing"
    """A job is marked as published and has no message. Fix: it is published again."""
    LEASE_EXPIRED = "lease_expired"
    """A running job's lease ran out and nobody took it back: no control worker runs? Fix: taken back."""
    WRITE_UNFINISHED = "parts_unfinished"
    """Parts of an upload that was never finished, which the store keeps and charges for. Fix: taken back."""


@dataclass
class Finding:
    """A disagreement. `mend` repairs it; `mended` says that it did."""

    kind: Kind
    subject: str
    detail: str
    mend: Callable[[], None] = field(repr=False)
    mended: bool = False

    def as_json(self) -> dict[str, str | bool]:
        return {"kind": str(self.kind), "subject": self.subject, "detail": self.detail, "mended": self.mended}
