"""Lists of a tenant's jobs: by filters, in pages whose cost is bounded whatever matches."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from sqlalchemy import ColumnElement, Text, cast, exists, func, or_, select

from jobs.cursor import place_of
from jobs.db.database import Transaction
from jobs.db.tables import Job, Upload
from jobs.request import UPLOAD_ID
from jobs.service.queries import JOB_ID, MAX_PAGE, JobFilter, indexed_conditions, other_conditions

SCANNED_JOBS = 5_000
"""Jobs that a page compares with the conditions that no index answers; then it ends, and its cursor leads on."""
_READ_AT_ONCE = 500
_ID_PREFIX = re.compile(r"job_[0-9a-f]{0,32}")
_AFTER_HEX = "g"


@dataclass(frozen=True)
class Page:
    """Jobs, newest first, and the cursor of the next page (None: this is the last page).

    A page may have fewer jobs than asked for, even none, and still be followed by another one: see `SCANNED_JOBS`.
    """

    jobs: list[Job]
    next_cursor: str | None


def list_jobs(tx: Transaction, *, wanted: JobFilter, cursor: str | None, limit: int) -> Page:
    """Return one page, by keyset: ids are UUIDv7, so their order is the order of creation.

    Raises:
        InvalidCursorError: the cursor was not issued by this function.
    """
    before = place_of(cursor, JOB_ID) if cursor is not None else None
    limit = min(max(limit, 1), MAX_PAGE)
    # A query for each state: with several in one, neither database reads an index in the order of the ids.
    of_state = [replace(wanted, state=state) for state in dict.fromkeys(wanted.states)] or [wanted]
    found = [_matching(tx, each, before, limit + 1) for each in of_state]
    # Below it, at least one of the queries has not looked.
    seen_from = max((edge for _, edge in found if edge is not None), default="")
    jobs = sorted((job for rows, _ in found for job in rows if job.id >= seen_from), key=lambda job: job.id)[::-1]
    if len(jobs) > limit:
        return Page(jobs[:limit], jobs[limit - 1].id)
    return Page(jobs, seen_from if seen_from else None)


def _matching(tx: Transaction, wanted: JobFilter, before: str | None, limit: int) -> tuple[list[Job], str | None]:
    """Return the newest matching jobs, and down to which id all were looked at (None: to the end)."""
    conditions = [*indexed_conditions(wanted), *_more_indexed(wanted)]
    if before is not None:
        conditions.append(Job.id < before)
    compared, edge = other_conditions(tx, wanted), None
    text = wanted.text.lower() if wanted.text is not None and not _is_id_prefix(wanted.text) else None
    if (compared or text is not None) and wanted.ids is None:
        order = select(Job.id).where(*conditions).order_by(Job.id.desc())
        edge = tx.session.scalar(order.offset(SCANNED_JOBS - 1).limit(1))
    if edge is not None:
        conditions.append(Job.id >= edge)
    conditions += compared
    if text is None:
        query = select(Job).where(*conditions).order_by(Job.id.desc()).limit(limit)
    else:
        ids = _with_text(tx, conditions, text, limit)
        query = select(Job).where(Job.id.in_(ids)).order_by(Job.id.desc())
    rows = list(tx.session.scalars(query))
    # Where there are enough, older ones were not looked at; the caller's page ends before them.
    return rows, rows[-1].id if len(rows) == limit else edge


def _more_indexed(wanted: JobFilter) -> Iterator[ColumnElement[bool]]:
    if wanted.batch_id is not None:
        yield Job.batch_id == wanted.batch_id
    if wanted.ids is not None:
        yield Job.id.in_(wanted.ids)
    if wanted.text is not None and _is_id_prefix(wanted.text):
        yield Job.id >= wanted.text
        yield Job.id < wanted.text + _AFTER_HEX


def _is_id_prefix(text: str) -> bool:
    return _ID_PREFIX.fullmatch(text) is not None


def _with_text(tx: Transaction, conditions: list[ColumnElement[bool]], text: str, limit: int) -> list[str]:
    """Return the ids of the newest jobs that contain a text, in lower case.

    Compared here and not by the database: SQLite knows the case of ASCII letters only, PostgreSQL that of its locale.
    The database leaves out most jobs that cannot have it.
    """
    conditions = [*conditions, *_may_have(text)]
    ids: list[str] = []
    last: str | None = None
    while True:
        query = select(Job.id, Job.request).where(*conditions).order_by(Job.id.desc()).limit(_READ_AT_ONCE)
        rows = tx.session.execute(query.where(Job.id < last) if last is not None else query).all()
        names = _upload_names(tx, [_source(row.request) for row in rows])
        for row in rows:
            source = _source(row.request)
            if any(text in part.lower() for part in _texts(row.request, names.get(source, source))):
                ids.append(row.id)
                if len(ids) == limit:
                    return ids
        if len(rows) < _READ_AT_ONCE:
            return ids
        last = rows[-1].id


def _may_have(text: str) -> Iterator[ColumnElement[bool]]:
    """Yield a condition that jobs with this text meet, where there is a cheap one."""
    if not text.isascii() or not text.isprintable() or '"' in text or "\\" in text:
        return  # JSON may have it in another form
    source = func.coalesce(Job.request["video"].as_string(), Job.request["image"].as_string())
    named = exists().where(Upload.id == source, func.lower(Upload.filename).contains(text, autoescape=True))
    yield or_(func.lower(cast(Job.request, Text)).contains(text, autoescape=True), named)


def _source(request: dict[str, object]) -> str:
    return str(request.get("video") or request.get("image") or "")


def _texts(request: dict[str, object], input_name: str) -> Iterator[str]:
    yield str(request.get("prompt", ""))
    yield input_name
    metadata = request.get("metadata")
    if isinstance(metadata, dict):
        for key, value in metadata.items():
            yield str(key)
            yield str(value)


def _upload_names(tx: Transaction, sources: list[str]) -> dict[str, str]:
    ids = {source for source in sources if UPLOAD_ID.fullmatch(source)}
    if not ids:
        return {}
    query = select(Upload.id, Upload.filename).where(Upload.id.in_(ids))
    return {row.id: row.filename for row in tx.session.execute(query)}
