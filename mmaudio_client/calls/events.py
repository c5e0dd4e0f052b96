"""Calls that follow events: server-sent events, read again from the last one after a broken connection."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from typing import Any

import httpx
from httpx_sse import SSEError

from mmaudio_client.calls.jobs import JobCalls
from mmaudio_client.connection import CONNECT_TIMEOUT_S
from mmaudio_client.errors import UnavailableError, WrongServerError
from mmaudio_client.job_ids import job_id_of, job_path
from mmaudio_client.models import TERMINAL_STATES, Event, Job
from mmaudio_client.transport import LONGEST_PAUSE_S

ALL_EVENTS = "/v1/events"
PROGRESS = "progress"
MAX_PAGE = 500
EVENT_STREAM = "text/event-stream"
SILENCE_S = 60.0
"""A stream without a byte for so long is broken: the server sends a comment every 15 s."""
RECONNECT_S = 1.0
"""First pause before a stream that has ended is opened again; the pauses grow while nothing comes."""
LONG_STREAM_S = 10.0
"""A stream that lasted so long was none that broke off at once, although nothing happened."""
POLL_S = 0.5


class EventCalls(JobCalls):
    """Calls that follow events."""

    async def events(
        self, job: Job | str, *, after: int = 0, kinds: Sequence[str] | None = None, progress: bool = True
    ) -> AsyncIterator[Event]:
        """Yield the events of a job, from the first one on, until it has ended. Outages are waited out.

        Where the server has no events, the job is asked for every half second, and changes that are seen become events
        without an id.

        Args:
            after: only events after this id.
            kinds: only events of these kinds, and the last one.
            progress: also yield the job's progress while it runs, as events without an id.

        Raises:
            NotFoundError: there is no such job.
            UnavailableError: the server was away for longer than the patience; the job continues.
        """
        if not isinstance(job, Job):
            job = await self.get(job)
        link = job.link("events")
        found = self._follow(link, after, kinds, job) if link is not None else self._poll(job)
        async with aclosing(found) as events:
            async for event in events:
                ended = event.state in TERMINAL_STATES
                wanted = (kinds is None or event.kind in kinds) and (progress or event.kind != PROGRESS)
                if wanted or ended:
                    yield event
                if ended:
                    return

    async def all_events(self, *, after: int | None = None, kinds: Sequence[str] | None = None) -> AsyncIterator[Event]:
        """Yield the events of all jobs, without an end; progress is not among them. Outages are waited out.

        Args:
            after: the id of the last event that is known: events after it are yielded first, so that none is missed;
                0: all that are stored. None: only events from now on.
            kinds: only events of these kinds.

        Raises:
            NotFoundError: the server has no events.
            UnavailableError: the server was away for longer than the patience.
        """
        async with aclosing(self._follow(ALL_EVENTS, after, kinds)) as events:
            async for event in events:
                yield event

    async def stored_events(
        self, job: Job | str | None = None, *, after: int = 0, kinds: Sequence[str] | None = None
    ) -> AsyncIterator[Event]:
        """Yield the events that are stored, oldest first, and wait for no others.

        Args:
            job: whose events; None: those of all jobs.
            after: only events after this id.
            kinds: only events of these kinds.

        Raises:
            NotFoundError: there is no such job, or the server has no events.
        """
        url = ALL_EVENTS if job is None else f"{job_path(job_id_of(job))}/events"
        more = True
        while more:
            params = {"after": after, "limit": MAX_PAGE, **_kinds(kinds)}
            answer = await self._transport.call("GET", url, params=params, again=True)
            data, after, more = self._transport.members(answer, "a page of events", "data", "next_after", "has_more")
            more = bool(more and data)
            for document in data:
                yield self._event(answer, document)

    async def _follow(
        self, url: str, after: int | None, kinds: Sequence[str] | None, job: Job | None = None
    ) -> AsyncGenerator[Event, None]:
        """Yield the events of a stream, which is opened again whenever it ends; none twice.

        Args:
            job: whose events they are; nothing follows those that are stored when it has ended.
        """
        last, failures, waited_s = after, 0, 0.0
        clock = self._transport.clock
        while True:
            opened, came = clock(), False
            async with AsyncExitStack() as stack:
                answer = await self._open(stack, url, last, kinds)
                if answer.status_code == httpx.codes.NO_CONTENT:  # the job has ended, and its last event is known
                    return
                try:
                    async for sent in self._transport.driver.server_sent_events(answer):
                        if not sent.data:  # the first frame may be an id alone: where the stream begins
                            last = int(sent.id) if sent.id.isdecimal() else last
                            continue
                        event = self._event(answer, sent.data)
                        if event.id is not None and last is not None and event.id <= last:
                            continue
                        last, came = event.id or last, True
                        yield event
                    broken = "it ended"
                    if job is not None and not came:
                        job = (await self._look(job))[0]
                        if job.ended:
                            return
                except (httpx.TransportError, httpx.StreamError, SSEError) as exc:
                    broken = str(exc) or type(exc).__name__
            if came or clock() - opened >= LONG_STREAM_S:
                failures, waited_s = 0, 0.0
            if waited_s >= self._transport.patience_s:
                raise UnavailableError(f"The stream of events broke off again and again: {broken}")
            pause = min(RECONNECT_S * 2 ** min(failures, 9), LONGEST_PAUSE_S)
            failures, waited_s = failures + 1, waited_s + pause
            await self._transport.driver.sleep(pause)

    async def _open(
        self, stack: AsyncExitStack, url: str, last: int | None, kinds: Sequence[str] | None
    ) -> httpx.Response:
        """Return the answer to a request for a stream, before its first event."""
        transport = self._transport
        transport.check_open()
        headers = {"Accept": EVENT_STREAM, "Cache-Control": "no-store"}
        params = _kinds(kinds)
        if last is None:
            params["after"] = "latest"
        else:
            headers["Last-Event-ID"] = str(last)
        timeout = httpx.Timeout(SILENCE_S, connect=CONNECT_TIMEOUT_S)

        async def step() -> httpx.Response:
            await stack.aclose()  # of an earlier try
            answer = await stack.enter_async_context(
                transport.driver.stream("GET", url, params=params or None, headers=headers, timeout=timeout)
            )
            if answer.status_code == httpx.codes.NO_CONTENT:
                return answer
            if not answer.is_success:
                await transport.driver.read(answer)
                transport.check(transport.present(answer, again=True), again=True)
            kind = answer.headers.get("Content-Type", "no content type")
            if not kind.startswith(EVENT_STREAM):
                raise WrongServerError(f"{answer.url} answered with {kind} instead of events.")
            return answer

        return await transport.patiently(step, again=True)

    def _event(self, answer: httpx.Response, data: str | Mapping[str, Any]) -> Event:
        try:
            return Event.from_json(json.loads(data) if isinstance(data, str) else data)
        except (KeyError, TypeError, ValueError) as exc:
            raise self._transport.wrong_document(answer, "an event") from exc

    async def _poll(self, job: Job) -> AsyncGenerator[Event, None]:
        """Yield what changes between two looks at a job, as events without an id."""
        seen: tuple[object, ...] | None = None
        while True:
            if (now := (job.state, job.stage, job.attempt)) != seen:
                seen = now
                yield Event.of_job(job, "stage" if job.stage else job.state)
            elif job.state == "running":
                yield Event.of_job(job, PROGRESS)
            if job.ended:
                return
            await self._transport.driver.sleep(POLL_S)
            job = (await self._look(job))[0]


def _kinds(kinds: Sequence[str] | None) -> dict[str, str]:
    return {"kinds": ",".join(kinds)} if kinds is not None else {}
