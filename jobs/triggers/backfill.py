"""Makes jobs of objects that are in a trigger's bucket already: each is handled as if its event had just arrived."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from jobs.cursor import place_of
from jobs.db.database import Database
from jobs.db.tables import Trigger
from jobs.errors import BucketNotListedError, RequestInvalidError, TriggerInactiveError
from jobs.lifecycle import TriggerState
from jobs.storage.bucket_reader import BucketReader, ListedObject, ObjectPage
from jobs.storage.errors import BucketMissingError, ObjectForbiddenError, ObjectNotFoundError
from jobs.triggers.decision import Action
from jobs.triggers.dry_run import DryRunResult, dry_run_events
from jobs.triggers.event_parsers.event import ObjectCreated
from jobs.triggers.ingestion import EventIngestion
from jobs.triggers.object_version import BACKFILL
from jobs.triggers.rule import matches
from jobs.triggers.service import get_trigger, trigger_state

MAX_LISTED = 1000
# Objects that are handled before the rate breaker is looked at again.
CHUNK = 50
_KEY = re.compile(r"[^\x00]{1,1024}", re.DOTALL)


@dataclass
class BackfillPage:
    """What was done with a page of objects. `dry_run`: what would be done with each, None when it was done."""

    dry_run: list[DryRunResult] | None = None
    listed: int = 0
    submitted: int = 0
    skipped: int = 0
    held: int = 0
    duplicates: int = 0
    next_cursor: str | None = None
    variants: set[str] = field(default_factory=set)


def backfill(
    db: Database,
    reader: BucketReader,
    ingestion: EventIngestion,
    trigger: Trigger,
    *,
    prefix: str | None,
    cursor: str | None,
    limit: int,
    max_jobs: int | None,
    dry_run: bool,
) -> BackfillPage:
    """Handle one page of the bucket's objects. Repeating it makes no second job of an object version.

    Args:
        prefix: narrower than the trigger's; None: the trigger's.
        limit: how many objects to list at most.
        max_jobs: how many jobs to make at most; None: no limit.

    Raises:
        RequestInvalidError: `prefix` is outside of the trigger's.
        InvalidCursorError: the cursor is not one of these pages.
        TriggerInactiveError: the trigger is disabled or paused.
        BucketNotListedError: this server cannot list the bucket.
        StorageError: the store does not answer.
    """
    if prefix is not None and not prefix.startswith(trigger.prefix):
        raise RequestInvalidError.of(
            "prefix", f"got {prefix!r}; the trigger matches keys that begin with {trigger.prefix!r}"
        )
    after = place_of(cursor, _KEY) if cursor is not None else ""
    if not dry_run:
        _check_active(trigger)
    found = _list(reader, trigger, trigger.prefix if prefix is None else prefix, after, limit)
    page = BackfillPage(dry_run=[] if dry_run else None)
    waiting = found.objects
    while waiting and (max_jobs is None or page.submitted < max_jobs):
        # Not more at once than jobs may be made.
        size = CHUNK if max_jobs is None else min(CHUNK, max_jobs - page.submitted)
        chunk, waiting = waiting[:size], waiting[size:]
        events = [_event(trigger, one) for one in chunk if matches(trigger, one.key)]
        page.listed += len(chunk)
        if dry_run:
            _foresee(page, dry_run_events(db, reader, trigger, events))
        else:
            _handle(page, ingestion, trigger, events)
        page.next_cursor = chunk[-1].key
        if page.held and waiting and not dry_run and not _is_active(db, trigger):
            break  # the rate breaker paused it
    if not waiting and not found.more:
        page.next_cursor = None
    return page


def _list(reader: BucketReader, trigger: Trigger, prefix: str, after: str, limit: int) -> ObjectPage:
    try:
        return reader.list_objects(trigger.bucket, prefix, after=after, limit=limit)
    except ObjectForbiddenError as exc:
        raise BucketNotListedError(
            f"This server may not list bucket {trigger.bucket}; give its credentials the right s3:ListBucket."
        ) from exc
    except (BucketMissingError, ObjectNotFoundError) as exc:
        raise BucketNotListedError(f"There is no bucket {trigger.bucket}, or this server may not see it.") from exc


def _event(trigger: Trigger, one: ListedObject) -> ObjectCreated:
    # Without the ETag of the listing: the HEAD that follows tells what the object is now.
    return ObjectCreated(BACKFILL, trigger.bucket, (one.key,), size_bytes=one.size_bytes, name=BACKFILL)


def _handle(page: BackfillPage, ingestion: EventIngestion, trigger: Trigger, events: list[ObjectCreated]) -> None:
    result = ingestion.take_for(trigger, events)
    page.submitted += result.submitted
    page.skipped += result.skipped
    page.held += result.held
    page.duplicates += result.duplicates
    page.variants |= result.variants


def _foresee(page: BackfillPage, results: list[DryRunResult]) -> None:
    assert page.dry_run is not None, page
    page.dry_run += results
    for one in results:
        page.duplicates += one.known
        page.submitted += one.action is Action.SUBMIT and not one.known
        page.skipped += one.action is Action.SKIP and not one.known
        page.held += one.action is Action.HOLD and not one.known


def _check_active(trigger: Trigger) -> None:
    state = trigger_state(trigger)
    if state is TriggerState.DISABLED:
        raise TriggerInactiveError(f"Trigger {trigger.id} is disabled; enable it first.")
    if state is TriggerState.PAUSED:
        raise TriggerInactiveError(
            f"Trigger {trigger.id} is paused ({trigger.pause_reason}); enable it, then run this again."
        )


def _is_active(db: Database, trigger: Trigger) -> bool:
    with db.reading() as tx:
        return trigger_state(get_trigger(tx, trigger.id)) is TriggerState.ENABLED
