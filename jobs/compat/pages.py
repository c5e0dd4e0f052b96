"""Pages of jobs that lead to both sides, as hosted services have them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sqlalchemy import select

from jobs.cursor import place_of
from jobs.db.database import Transaction
from jobs.db.tables import Job
from jobs.service.job_pages import list_jobs
from jobs.service.queries import JobFilter, indexed_conditions, other_conditions

_NEWER = "newer:"
PREDICTION_PLACE = re.compile(rf"(?:{_NEWER})?job_[0-9a-f]{{32}}")


@dataclass(frozen=True)
class TwoWayPage:
    """Jobs, newest first, and the cursors of the pages beside it (None: there is none)."""

    jobs: list[Job]
    previous: str | None
    next: str | None


def two_way_page(tx: Transaction, *, wanted: JobFilter, cursor: str | None, limit: int) -> TwoWayPage:
    """Return one page of the tenant's jobs, by keyset.

    Raises:
        InvalidCursorError: the cursor was not issued by this function.
    """
    place = place_of(cursor, PREDICTION_PLACE) if cursor is not None else None
    if place is not None and place.startswith(_NEWER):
        return _newer_page(tx, wanted, place.removeprefix(_NEWER), limit)
    page = list_jobs(tx, wanted=wanted, cursor=cursor, limit=limit)
    has_previous = place is not None and bool(page.jobs)
    previous = _NEWER + page.jobs[0].id if has_previous else None
    return TwoWayPage(page.jobs, previous, page.next_cursor)


def _newer_page(tx: Transaction, wanted: JobFilter, place: str, limit: int) -> TwoWayPage:
    query = select(Job).where(*indexed_conditions(wanted), *other_conditions(tx, wanted), Job.id > place)
    rows = list(tx.session.scalars(query.order_by(Job.id).limit(limit + 1)))
    more, rows = len(rows) > limit, rows[:limit][::-1]
    if not rows:
        return TwoWayPage([], None, None)
    return TwoWayPage(rows, _NEWER + rows[0].id if more else None, rows[-1].id)
