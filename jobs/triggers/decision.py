"""Decides what a trigger does with an event, once the object has been looked up. Pure; the dry run shows the result."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from jobs.db.tables import Trigger
from jobs.storage.bucket_reader import BucketObject
from jobs.storage.errors import ObjectFaultError, StorageError
from jobs.storage.protocol import ObjectPin
from jobs.triggers.event_parsers.event import ObjectCreated
from jobs.triggers.object_version import Forbidden, Found, LookupResult, Missing, Overwritten
from jobs.triggers.rule import matches

# Stores make an object visible within seconds; an hour later it has been deleted.
GIVE_UP_MISSING_AFTER = timedelta(hours=1)
# Granting a missing permission may take people some days.
GIVE_UP_FORBIDDEN_AFTER = timedelta(days=7)
# A store that answers with an internal error for one object that long has lost it.
GIVE_UP_FAULT_AFTER = timedelta(hours=24)
GIVE_UP_UNAVAILABLE_AFTER = timedelta(days=7)
# Time alone says nothing: this server may have been off.
GIVE_UP_TRIES = 5

Lookup = LookupResult | StorageError


class Action(StrEnum):
    """What a trigger does with an event."""

    SUBMIT = "submit"
    SKIP = "skip"
    HOLD = "hold"
    """No job can be made yet: the event is retried later."""
    IGNORE = "ignore"
    """The trigger does not cover the object. Only dry runs report it."""


@dataclass(frozen=True)
class Decision:
    """What to do, with which object, and why. `object_version`: see `jobs.triggers.object_version`."""

    action: Action
    event: ObjectCreated
    key: str
    object_version: str
    reason: str | None = None
    pin: ObjectPin | None = None
    found: BucketObject | None = None


def decide(
    trigger: Trigger, event: ObjectCreated, lookup: Lookup, *, waited: timedelta, tries: int = 0
) -> Decision | None:
    """Return the decision; None when the trigger does not cover the event's object.

    Args:
        waited: time since the event was first received.
        tries: how often the event was retried.
    """
    if isinstance(lookup, Found):
        found, object_version = lookup.object, lookup.object_version
        if not matches(trigger, found.key):
            return None
        if found.made_by_job is not None:
            return Decision(
                Action.SKIP, event, found.key, object_version, f"the object is an output of {found.made_by_job[:40]}"
            )
        return Decision(Action.SUBMIT, event, found.key, object_version, pin=lookup.pin, found=found)
    covered = [key for key in event.keys if matches(trigger, key)]
    if not covered:
        return None
    key = covered[0]
    # No object was found whose version could be named: the event's own data identify it.
    name = f"event {event.fingerprint}"
    if isinstance(lookup, Overwritten):
        return Decision(Action.SKIP, event, key, name, "the object was overwritten; the new version has its own event")
    if isinstance(lookup, Missing):
        if waited >= GIVE_UP_MISSING_AFTER:
            return Decision(Action.SKIP, event, key, name, "the object did not exist for an hour")
        return Decision(Action.HOLD, event, key, name, "the object does not exist")
    if isinstance(lookup, Forbidden):
        if waited >= GIVE_UP_FORBIDDEN_AFTER:
            return Decision(Action.SKIP, event, key, name, "this server was not allowed to read the object for a week")
        return Decision(Action.HOLD, event, key, name, "this server is not allowed to read the object")
    action, reason = _after_error(lookup, waited, tries)
    return Decision(action, event, key, name, reason)


def _after_error(error: StorageError, waited: timedelta, tries: int) -> tuple[Action, str]:
    if isinstance(error, ObjectFaultError):
        if waited >= GIVE_UP_FAULT_AFTER and tries >= GIVE_UP_TRIES:
            return Action.SKIP, "given up: for a day the object store answered with an error for this object"
        return Action.HOLD, "the object store answered with an error for this object"
    if waited >= GIVE_UP_UNAVAILABLE_AFTER and tries >= GIVE_UP_TRIES:
        return Action.SKIP, f"given up after a week: the object store {error.summary}"
    return Action.HOLD, f"the object store {error.summary}"
