"""`/v1/events` and `/v1/jobs/{id}/events`: events as a stream or as pages."""

from __future__ import annotations

from http import HTTPStatus

from flask import Response, request
from flask_openapi3 import APIBlueprint, Tag
from flask_openapi3.types import ResponseDict

from api.auth import current_principal
from api.bridge.waiting import EVENT_STREAM, stream_events
from api.context import AppContext, current_context
from api.presentation import answer
from api.schemas.events import EventPage, EventsHeader, EventsQuery, EventView, JobEventsQuery
from api.schemas.jobs import JobPath
from api.schemas.responses import problems
from jobs.db.tables import Job, JobEvent
from jobs.lifecycle import EventKind, state_after
from jobs.service.event_log import last_position, read_events, read_page, sequence_events
from jobs.service.queries import get_job

events_api = APIBlueprint("events", __name__, url_prefix="/v1", abp_tags=[Tag(name="events")])

_ANSWERS: ResponseDict = {
    "200": EventPage,
    "204": {"description": "As a stream: the job has ended and the client has its last event; it need not come back."},
    **problems(404, 422, 503),
}


@events_api.get("/jobs/<job_id>/events", summary="List or stream the events of a job", responses=_ANSWERS)
def events_of_job(path: JobPath, query: JobEventsQuery, header: EventsHeader) -> Response:
    """Returns the events of a job, oldest first, as JSON; or, with `Accept: text/event-stream`, as server-sent events.

    A stream begins with the stored events and ends after the job's last one, which is sent whatever `kinds` says. While
    the job runs, `progress` events without an id tell how far it is, at most twice a second. A client that reconnects
    with `Last-Event-ID` misses no event. A comment line is sent when nothing else was for 15 s.
    """
    return _events(query, header, path.job_id, progress=True)


@events_api.get("/events", summary="List or stream the events of all jobs", responses=_ANSWERS)
def events_of_all(query: EventsQuery, header: EventsHeader) -> Response:
    """Returns the events of all jobs, oldest first, as JSON; or, with `Accept: text/event-stream`, as a stream.

    The events of deleted jobs are not listed. With `after=latest` a stream begins with an id alone, which serves
    a reconnect before the first event. See the events of a job for the rest.
    """
    return _events(query, header, query.job_id, progress=False)


def _events(query: JobEventsQuery, header: EventsHeader, job_id: str | None, *, progress: bool) -> Response:
    ctx = current_context()
    streams = request.accept_mimetypes.best_match(["application/json", EVENT_STREAM]) == EVENT_STREAM
    after = query.after if header.last_event_id is None else int(header.last_event_id)
    # Behind a stream the notifier does this.
    sequence_events(ctx.platform_db, wait=not streams)
    with ctx.db.reading() as tx:
        job = get_job(tx, job_id) if job_id is not None else None
        position = last_position(tx) if after == "latest" else int(after)
        if streams:
            over = job is not None and job.state.is_terminal and position > 0
            if over and not read_events(tx, after=position, job_id=job_id, limit=1):
                return _nothing_more()
        else:
            page = read_page(tx, after=position, job_id=job_id, kinds=query.wanted_kinds, limit=query.limit)
    if streams:
        return _stream(ctx, query, job, position, progress=progress)
    response = answer(
        EventPage(data=[_view(event) for event in page.events], next_after=page.next_after, has_more=page.has_more)
    )
    response.headers["Cache-Control"] = "no-store"
    response.vary.add("Accept")
    return response


def _stream(ctx: AppContext, query: JobEventsQuery, job: Job | None, position: int, *, progress: bool) -> Response:
    principal = current_principal()
    # Clients keep the id for their reconnect, also before the first event.
    first = f"id: {position}\n\n".encode() if query.after == "latest" else b""
    response = stream_events(
        principal.tenant,
        job_id=None if job is None else job.id,
        after=position,
        kinds=query.wanted_kinds,
        first=first,
        progress=progress,
        allowed_key=principal.key_id,
        still_allowed=lambda: ctx.still_allowed(principal),
        on_end=ctx.hold_place(),
    )
    response.vary.add("Accept")
    return response


def _nothing_more() -> Response:
    """Return the answer after which browsers do not connect again."""
    response = Response(status=HTTPStatus.NO_CONTENT, headers={"Cache-Control": "no-store"})
    del response.headers["Content-Type"]
    return response


def _view(event: JobEvent) -> EventView:
    assert event.position is not None
    return EventView(
        id=event.position,
        job_id=event.job_id,
        kind=event.kind,
        state=state_after(EventKind(event.kind), event.data),
        attempt=event.attempt,
        data=event.data,
        created_at=event.created_at,
    )
