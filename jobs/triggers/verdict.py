"""What one trigger makes of one event, once its object has been looked at. Pure; the dry run shows it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from jobs.db.tables import Trigger
from jobs.storage.errors import StorageUnavailableError
from jobs.storage.protocol import ObjectPin
from jobs.triggers.forms.event import ObjectCreated
from jobs.triggers.identity import Forbidden, Found, Look, NotThere, Overwritten
from jobs.triggers.rule import matches

# An object that has not come an hour after its event was deleted; a store's own delay is seconds.
NOT_THERE_FOR = timedelta(hours=1)
# A right that is missing may take people some days to give.
FORBIDDEN_FOR = timedelta(days=7)

Looked = Look | StorageUnavailableError
Action = Literal["submit", "skip", "hold"]


@dataclass(frozen=True)
class Verdict:
    """What is to be done, with which object, and why. `identity` names the version (see `jobs.triggers.identity`)."""

    action: Action
    event: ObjectCreated
    key: str
    identity: str
    reason: str | None = None
    pin: ObjectPin | None = None


def judge(trigger: Trigger, event: ObjectCreated, looked: Looked, *, waited: timedelta) -> Verdict | None:
    """Return the verdict; None when the event is none of this trigger's business.

    Args:
        waited: how long ago the event was first seen.
    """
    if isinstance(looked, Found):
        seen, identity = looked.seen, looked.identity
        if not matches(trigger, seen.key):
            return None
        if seen.made_by_job is not None:
            return Verdict("skip", event, seen.key, identity, f"the object is an output of {seen.made_by_job[:40]}")
        return Verdict("submit", event, seen.key, identity, pin=looked.pin)
    likely = [key for key in event.keys if matches(trigger, key)]
    if not likely:
        return None
    key = likely[0]
    # Nothing was seen whose version could be named; the event's own data stand for it.
    name = f"event {event.fingerprint}"
    if isinstance(looked, Overwritten):
        return Verdict("skip", event, key, name, "another version was written since; it has an event of its own")
    if isinstance(looked, NotThere):
        if waited >= NOT_THERE_FOR:
            return Verdict("skip", event, key, name, "the object has not been there for an hour")
        return Verdict("hold", event, key, name, "the object is not there")
    if isinstance(looked, Forbidden):
        if waited >= FORBIDDEN_FOR:
            return Verdict("skip", event, key, name, "this server may not look at the object, for a week now")
        return Verdict("hold", event, key, name, "this server may not look at the object")
    return Verdict("hold", event, key, name, "the object store did not answer")
