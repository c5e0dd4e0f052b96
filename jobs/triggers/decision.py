"""What one trigger makes of one event, once its object has been looked at. Pure; the dry run shows it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from jobs.db.tables import Trigger
from jobs.storage.errors import StorageUnavailableError
from jobs.storage.protocol import ObjectPin
from jobs.triggers.event_parsers.event import ObjectCreated
from jobs.triggers.object_version import Forbidden, Found, Look, Missing, Overwritten
from jobs.triggers.rule import matches

# An object that has not come an hour after its event was deleted; a store's own delay is seconds.
GIVE_UP_MISSING_AFTER = timedelta(hours=1)
# A right that is missing may take people some days to give.
GIVE_UP_FORBIDDEN_AFTER = timedelta(days=7)

Lookup = Look | StorageUnavailableError
Action = Literal["submit", "skip", "hold"]


@dataclass(frozen=True)
class Decision:
    """What to do, with which object and why. `object_version`: see `jobs.triggers.object_version`."""

    action: Action
    event: ObjectCreated
    key: str
    object_version: str
    reason: str | None = None
    pin: ObjectPin | None = None


def decide(trigger: Trigger, event: ObjectCreated, looked: Lookup, *, waited: timedelta) -> Decision | None:
    """Return the decision; None when the event is none of this trigger's business.

    Args:
        waited: how long ago the event was first seen.
    """
    if isinstance(looked, Found):
        seen, object_version = looked.seen, looked.object_version
        if not matches(trigger, seen.key):
            return None
        if seen.made_by_job is not None:
            return Decision(
                "skip", event, seen.key, object_version, f"the object is an output of {seen.made_by_job[:40]}"
            )
        return Decision("submit", event, seen.key, object_version, pin=looked.pin)
    likely = [key for key in event.keys if matches(trigger, key)]
    if not likely:
        return None
    key = likely[0]
    # Nothing was seen whose version could be named; the event's own data stand for it.
    name = f"event {event.fingerprint}"
    if isinstance(looked, Overwritten):
        return Decision("skip", event, key, name, "another version was written since; it has an event of its own")
    if isinstance(looked, Missing):
        if waited >= GIVE_UP_MISSING_AFTER:
            return Decision("skip", event, key, name, "the object has not been there for an hour")
        return Decision("hold", event, key, name, "the object is not there")
    if isinstance(looked, Forbidden):
        if waited >= GIVE_UP_FORBIDDEN_AFTER:
            return Decision("skip", event, key, name, "this server may not look at the object, for a week now")
        return Decision("hold", event, key, name, "this server may not look at the object")
    return Decision("hold", event, key, name, "the object store did not answer")
