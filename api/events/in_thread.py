"""Waits and streams in the request's own thread, where the server cannot hold requests: gunicorn, the test client.

As many requests as `AppContext.waiting_places` has places do so. A stream ends after a while; its client comes back.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from api.bridge.waiting import ASKED, COMMENT, HELD, RETRY_HINT, EventStream, JobWait, Waited, WaitEnd, second_environ
from api.context import AppContext
from api.events.reader import PAGE, EventReader
from api.events.subscriptions import JobWaiter, Subscription
from jobs.service.event_log import sequence_events

POLL_S = 0.1
COMMENT_S = 15.0
LONGEST_STREAM_S = 60.0

WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Any]


class ThreadWaiting:
    """A WSGI app around ours: looks at what a view asked for, and does it.

    Args:
        context: returns the app's dependencies.
        monotonic, sleep: time in seconds.
    """

    def __init__(
        self,
        app: WsgiApp,
        context: Callable[[], AppContext],
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._app, self._context, self._monotonic, self._sleep = app, context, monotonic, sleep

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        """Answer one request."""
        if HELD in environ:
            return self._app(environ, start_response)
        started: list[tuple[Any, ...]] = []

        def keep(*arguments: Any) -> None:
            started[:] = [arguments]

        chunks = self._app(environ, keep)
        asked = environ.get(ASKED)
        if asked is None:
            start_response(*started[0])
            return chunks
        if hasattr(chunks, "close"):
            chunks.close()
        if isinstance(asked, JobWait):
            end = self._wait(asked)
            return self._app(second_environ(environ, Waited(end, asked.again)), start_response)
        status, headers = started[0][:2]
        start_response(status, [(name, value) for name, value in headers if name.lower() != "content-length"])
        return self._events(asked)

    def _wait(self, asked: JobWait) -> WaitEnd:
        """Wait until the jobs have ended or changed, or the time is up."""
        context = self._context()
        reader, until = EventReader(context.database), self._monotonic() + asked.wait_s
        waiter = JobWaiter(asked)
        try:
            with context.waiting_places.place() as held:
                if not held:
                    return WaitEnd.NO_PLACE
                while True:
                    for job_id, version in reader.versions(asked.job_ids).items():
                        waiter.note_version(job_id, version)
                    left = until - self._monotonic()
                    if waiter.is_done:
                        return WaitEnd.CHANGED
                    if left <= 0:
                        return WaitEnd.TIME_UP
                    self._sleep(min(POLL_S, left))
        except SQLAlchemyError:
            return WaitEnd.TIME_UP  # the view says what is wrong
        finally:
            asked.on_end()

    def _events(self, asked: EventStream) -> Iterator[bytes]:
        with contextlib.ExitStack() as stack:
            stack.callback(asked.on_end)
            context = self._context()
            yield RETRY_HINT + asked.first
            if stack.enter_context(context.waiting_places.place()):
                yield from self._follow(asked, EventReader(context.database), context)

    def _follow(self, asked: EventStream, reader: EventReader, context: AppContext) -> Iterator[bytes]:
        stream, until = Subscription(asked), self._monotonic() + LONGEST_STREAM_S
        comment_at, progress = self._monotonic() + COMMENT_S, None
        while asked.still_allowed():
            with contextlib.suppress(SQLAlchemyError):
                sequence_events(context.platform_db)
                page = reader.stream_page(asked.tenant, asked.job_id, stream.position)
                frames = [asked.render(update) for update in page if stream.wants(update)]
                if page:
                    stream.position = page[-1].position or stream.position
                ended = asked.job_id is not None and any(update.is_last for update in page)
                if asked.progress and asked.job_id is not None and not ended:
                    for update in reader.progress([asked.job_id]):
                        if update.data != progress and stream.wants(update):
                            frames.append(asked.render(update))
                        progress = update.data
                if frames:
                    comment_at = self._monotonic() + COMMENT_S
                    yield b"".join(frames)
                if ended:
                    return
                if len(page) >= PAGE:
                    continue
            now = self._monotonic()
            if now >= until:
                return
            if now >= comment_at:
                comment_at = now + COMMENT_S
                yield COMMENT
            self._sleep(POLL_S)
