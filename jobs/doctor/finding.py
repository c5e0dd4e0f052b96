"""One inconsistency between database, queue and object store, with its repair."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum


class Kind(StrEnum):
    """The kinds of inconsistency; each documents what `--fix` does about it."""

    ARTIFACT_MISSING = "artifact_missing"
    """An artifact's row points at an object that does not exist. Fix: mark the artifact as deleted."""
    UPLOAD_MISSING = "upload_missing"
    """A checked upload's object does not exist. Fix: mark the upload as deleted; new jobs for it are refused."""
    OBJECT_ORPHANED = "object_orphaned"
    """An object that no row points at: an attempt died between upload and commit. Fix: delete the object."""
    MESSAGE_MISSING = "message_missing"
    """A published job has no message in the queue. Fix: publish it again."""
    LEASE_EXPIRED = "lease_expired"
    """A running job's lease expired and no control worker rescued it. Fix: rescue it."""
    WRITE_UNFINISHED = "write_unfinished"
    """Leftovers of a write that never finished: parts in a bucket (which cost money), drafts in a folder.
    Fix: discard them."""


@dataclass
class Finding:
    """One inconsistency.

    Attributes:
        fix: repairs it; may be called once.
        fixed: set by the caller of `fix`.
    """

    kind: Kind
    subject: str
    detail: str
    fix: Callable[[], None] = field(repr=False)
    fixed: bool = False

    def as_json(self) -> dict[str, str | bool]:
        """Return the finding as one JSON document."""
        return {"kind": str(self.kind), "subject": self.subject, "detail": self.detail, "fixed": self.fixed}
