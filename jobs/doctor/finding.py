"""One inconsistency between database, queue and object store, and what `--fix` does about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """The kinds of inconsistency."""

    ARTIFACT_MISSING = "artifact_missing"
    """An artifact's row points at an object that does not exist."""
    ARTIFACT_ROW_MISSING = "artifact_row_missing"
    """The successful attempt of a job made an object that no row points at."""
    ARTIFACT_STILL_STORED = "artifact_still_stored"
    """An artifact is marked as deleted, but its object exists."""
    SUCCESS_WITHOUT_ARTIFACTS = "success_without_artifacts"
    """A job has succeeded and has neither rows nor objects of artifacts."""
    UPLOAD_MISSING = "upload_missing"
    """A checked upload's object does not exist."""
    UPLOAD_STILL_STORED = "upload_still_stored"
    """An upload is marked as deleted, but its object exists."""
    OBJECT_ORPHANED = "object_orphaned"
    """An object of an unsuccessful attempt at a job of this database."""
    OBJECT_UNKNOWN = "object_unknown"
    """An object of which this database knows nothing: another platform, or another program, may have made it."""
    MESSAGE_MISSING = "message_missing"
    """A published job has no message in the queue."""
    LEASE_EXPIRED = "lease_expired"
    """A running job's lease expired and no control worker rescued it."""
    WRITE_UNFINISHED = "write_unfinished"
    """Leftovers of a write that never finished: parts in a bucket (which cost money), drafts in a folder."""


class Action(StrEnum):
    """What `--fix` does about an inconsistency."""

    KEEP = "keep"
    MARK_DELETED = "mark_deleted"
    CLEAR_DELETED = "clear_deleted"
    RESTORE_ROW = "restore_row"
    DELETE_OBJECT = "delete_object"
    REPUBLISH = "republish"
    RESCUE = "rescue"
    DISCARD_WRITE = "discard_write"

    @property
    def sentence(self) -> str:
        """What is done, for people; completes "would"."""
        return _SENTENCES[self]


_SENTENCES = {
    Action.KEEP: "change nothing",
    Action.MARK_DELETED: "mark the row as deleted",
    Action.CLEAR_DELETED: "remove the mark that says deleted; retention deletes what has expired",
    Action.RESTORE_ROW: "restore the row from the object's metadata",
    Action.DELETE_OBJECT: "delete the object",
    Action.REPUBLISH: "queue the job again",
    Action.RESCUE: "take the job from its worker",
    Action.DISCARD_WRITE: "discard it",
}


@dataclass
class Finding:
    """One inconsistency.

    Attributes:
        subject: an id, an id and a name, or a key.
        owner_id: id of the job or upload; "" where there is none.
        key: key of the object; "" where it is not about one.
        fixed: set by the repair.
    """

    kind: Kind
    subject: str
    detail: str
    action: Action
    owner_id: str = ""
    key: str = ""
    fixed: bool = False

    def as_json(self) -> dict[str, str | bool]:
        """Return the finding as one JSON document."""
        return {
            "kind": str(self.kind),
            "subject": self.subject,
            "detail": self.detail,
            "action": str(self.action),
            "fixed": self.fixed,
        }
