"""How a view waits for jobs or streams events without a thread: it returns at once and says what it waits for.

    def get_job(path, query):
        job = ...                                   # read it, check that the caller may see it
        if not job.ended and query.wait and waited() is None:
            return wait_for([job.id], query.wait)   # this view is called again when the wait is over
        return answer(job)

The bridge (`api.bridge.held`) holds the request in its event loop. Then it runs the same request through the app again,
with all its checks; `waited()` tells such a call from the first. What counts requests must not count that one again.
Under another WSGI server `api.events.in_thread` waits instead, in the request's thread.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from flask import Response, request

from api.events.updates import JobUpdate

# Keys of the WSGI environment.
ASKED = "mmaudio.asked"
"""Set by a view: the `JobWait` or `EventStream` that it asks for."""
WAITED = "mmaudio.waited"
"""Set for the second call: `Waited`."""
HELD = "mmaudio.held"
"""Set by a server that holds such requests itself."""

EVENT_STREAM = "text/event-stream"
# A comment: clients ignore it, and proxies see that the connection is alive. Without a blank line, or some clients
# take it for an event.
COMMENT = b":\n"
RETRY_HINT = b"retry: 2000\n"


def _nothing() -> None:
    pass


def _always() -> bool:
    return True


class WaitEnd(StrEnum):
    """Why a wait ended."""

    CHANGED = "changed"
    """The jobs ended, or changed, as was wanted; or one of them is gone."""
    TIME_UP = "time_up"
    NO_PLACE = "no_place"
    """As many requests wait as may; it did not begin. The caller is told to ask again later (`Retry-After`)."""


@dataclass(frozen=True)
class Waited:
    """How the wait of this request ended, and what makes its answer (None: the view itself)."""

    end: WaitEnd
    again: Callable[[], Response] | None = None


@dataclass(frozen=True)
class JobWait:
    """A request that waits for jobs; see `wait_for`."""

    job_ids: tuple[str, ...]
    wait_s: float
    seen: Mapping[str, int] | None = None
    again: Callable[[], Response] | None = None
    on_end: Callable[[], None] = _nothing


@dataclass(frozen=True)
class EventStream:
    """A request whose answer is a stream of events; see `stream_events`."""

    tenant: str
    job_id: str | None
    after: int
    kinds: frozenset[str] | None
    render: Callable[[JobUpdate], bytes]
    first: bytes = b""
    progress: bool = True
    allowed_key: Hashable = None
    still_allowed: Callable[[], bool] = _always
    on_end: Callable[[], None] = _nothing


def wait_for(
    job_ids: Iterable[str],
    wait_s: float,
    *,
    seen: Mapping[str, int] | None = None,
    again: Callable[[], Response] | None = None,
    on_end: Callable[[], None] = _nothing,
) -> Response:
    """Return what a view returns to be called again once all of the jobs have ended, or after `wait_s` seconds.

    The caller has checked that the jobs are of the request's tenant.

    Args:
        seen: versions (`Job.version`) by job id: wait until any of these jobs changes, instead of their ends.
        again: called instead of the view, in a request context of the same request whose body is empty. Needed for
            a POST, which must not be carried out twice.
        on_end: called once when the wait is over, also when the client has gone. It frees a place; it must not raise
            or take long.
    """
    assert again is not None or request.method in {"GET", "HEAD"}, "a view with an effect is not called again"
    return _asking(JobWait(tuple(job_ids), wait_s, seen, again, on_end))


def stream_events(
    tenant: str,
    *,
    job_id: str | None = None,
    after: int = 0,
    kinds: frozenset[str] | None = None,
    render: Callable[[JobUpdate], bytes] = lambda update: update.frame,
    first: bytes = b"",
    progress: bool = True,
    allowed_key: Hashable = None,
    still_allowed: Callable[[], bool] = _always,
    on_end: Callable[[], None] = _nothing,
) -> Response:
    """Return what a view returns to answer with server-sent events: those stored after `after`, then new ones.

    The stream of one job ends after its last event. The caller has checked that the job is of the tenant.

    Args:
        job_id: None: the events of all jobs of the tenant.
        after: position of the last event that the client has; 0: none.
        kinds: of the events that are wanted; None: all.
        render: makes the bytes of one update, with the blank line at the end; b"": it is left out. Called in the event
            loop: it must be quick and use no database.
        first: sent at the start.
        progress: with a job: also its progress, at most twice a second.
        allowed_key, still_allowed: while streams of this key last, `still_allowed` is called every few seconds, in a
            thread, once for all of them; when it returns False they end.
        on_end: as for `wait_for`.
    """
    asked = EventStream(
        tenant, job_id, after, kinds, render, first, progress and job_id is not None, allowed_key, still_allowed, on_end
    )
    if request.method == "HEAD":
        on_end()
        response = Response()
    else:
        response = _asking(asked)
    response.mimetype = EVENT_STREAM
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Accel-Buffering"] = "no"  # nginx would keep events until its buffer is full
    return response


def waited() -> Waited | None:
    """Return how the wait of this request ended; None: it has not waited."""
    found: Waited | None = request.environ.get(WAITED)
    return found


def answer_again() -> Response | None:
    """Make the answer of a request that has waited, where its view is not to be called again (`before_request`)."""
    end = waited()
    return end.again() if end is not None and end.again is not None else None


def second_environ(environ: Mapping[str, Any], end: Waited) -> dict[str, Any]:
    """Return the environment of the second call: that of the first without its body and what its call left there."""
    kept = {name: value for name, value in environ.items() if not name.startswith(("werkzeug.", "flask."))}
    kept.pop(ASKED, None)
    kept.pop("CONTENT_LENGTH", None)
    return {**kept, "wsgi.input": io.BytesIO(), WAITED: end}


def _asking(asked: JobWait | EventStream) -> Response:
    request.environ[ASKED] = asked
    return Response(status=200)
