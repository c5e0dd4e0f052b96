"""Holds requests that wait for jobs, and sends streams of events, in the event loop: none of them has a thread."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from sqlalchemy.exc import SQLAlchemyError

from api.bridge.waiting import COMMENT, RETRY_HINT, EventStream, JobWait, WaitEnd
from api.events.notifier import Notifier
from api.events.reader import PAGE, EventReader
from api.events.subscriptions import Subscription, Subscriptions
from api.events.updates import JobUpdate
from jobs.db.faults import reason
from jobs.log_limit import LogLimit

log = logging.getLogger(__name__)

SendBytes = Callable[[bytes], Awaitable[None]]


@dataclass(frozen=True)
class HoldingTimes:
    """Seconds. Tests have shorter ones.

    Attributes:
        comment_s: time without an event after which a comment is sent.
        stall_s: time after which a client that takes nothing is given up.
        allowed_s: how often it is checked whether the keys of streams are still valid.
        retry_s: pause after the database did not answer.
    """

    comment_s: float = 15.0
    stall_s: float = 10.0
    allowed_s: float = 20.0
    retry_s: float = 2.0


class HeldRequests:
    """The waiting requests and streams of this process.

    Args:
        limit: most of them at once.
        threads: read what streams have missed.
    """

    def __init__(
        self,
        reader: EventReader,
        *,
        limit: int,
        times: HoldingTimes | None = None,
        log_limit: LogLimit | None = None,
        notifier: Callable[[EventReader, Subscriptions], Notifier] = Notifier,
        threads: int = 2,
    ) -> None:
        self._reader, self._limit, self._times = reader, limit, times or HoldingTimes()
        self._log_limit = log_limit or LogLimit()
        self._subscriptions = Subscriptions()
        self._notifier = notifier(reader, self._subscriptions)
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="replay")
        self._closed = False
        self._checking: asyncio.Task[None] | None = None

    @property
    def count(self) -> int:
        """How many requests are held."""
        return self._subscriptions.count

    @property
    def is_full(self) -> bool:
        """Whether no more requests are held."""
        return self._closed or self._subscriptions.count >= self._limit

    def close(self) -> None:
        """End all waits and streams, accept no more, and let the threads end; called in the event loop."""
        self._closed = True
        self._subscriptions.end_all()
        self._notifier.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def wait(self, asked: JobWait, gone: asyncio.Future[None]) -> WaitEnd | None:
        """Wait until the jobs have ended or changed, or the time is up; None: the client has gone."""
        if self.is_full:
            self._end(asked)
            return WaitEnd.NO_PLACE
        self._notifier.start()
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiter = self._subscriptions.add_waiter(asked, done)
        try:
            await asyncio.wait({done, gone}, timeout=asked.wait_s, return_when=asyncio.FIRST_COMPLETED)
            if done.done():
                return WaitEnd.TIME_UP if self._closed else WaitEnd.CHANGED
            return None if gone.done() else WaitEnd.TIME_UP
        finally:
            self._subscriptions.remove_waiter(waiter)
            self._end(asked)

    async def stream(self, asked: EventStream, send: SendBytes, gone: asyncio.Future[None]) -> None:
        """Send events until the job has ended, the client has gone or takes nothing, or its key is not valid any more.

        Raises:
            TimeoutError: the client takes nothing.
        """
        self._notifier.start()
        stream = self._subscriptions.add_stream(asked)
        gone.add_done_callback(lambda _: self._subscriptions.stop(stream))
        if self._checking is None or self._checking.done():
            self._checking = asyncio.get_running_loop().create_task(self._check_keys())
        try:
            await self._limited(send(RETRY_HINT + asked.first))
            ended = False
            while not ended and not stream.stopped:
                frames, ended = await self._next_frames(stream)
                if frames and not stream.stopped:
                    await self._limited(send(frames))
        finally:
            self._subscriptions.remove_stream(stream)
            self._end(asked)

    async def _next_frames(self, stream: Subscription) -> tuple[bytes, bool]:
        """Return the next bytes, a comment after a long time without an update; and whether the job has ended."""
        if stream.begun and stream.lagging:
            return await self._replay(stream)
        if not stream.pending and not await self._woken(stream, self._times.comment_s):
            return COMMENT, False
        frames = []
        while stream.pending and not stream.lagging:
            update = stream.pending.popleft()
            if stream.wants(update):
                frames.append(stream.asked.render(update))
            if update.position is not None:
                stream.position = max(stream.position, update.position)
            if update.is_last and stream.asked.job_id is not None:
                return b"".join(frames), True
        return b"".join(frames), False

    async def _replay(self, stream: Subscription) -> tuple[bytes, bool]:
        """Read a page of what the client has not got; what happens meanwhile is kept as pending."""
        asked, stream.lagging = stream.asked, False
        stream.pending.clear()
        loop = asyncio.get_running_loop()
        try:
            page: list[JobUpdate] = await loop.run_in_executor(
                self._threads, self._reader.stream_page, asked.tenant, asked.job_id, stream.position
            )
        except SQLAlchemyError as exc:
            self._log(f"the database: {reason(exc)}", "streams wait for")
            stream.lagging = True
            await self._woken(stream, self._times.retry_s)
            return COMMENT, False
        frames = [asked.render(update) for update in page if stream.wants(update)]
        if page:
            assert page[-1].position is not None
            stream.position = page[-1].position
        if len(page) >= PAGE:
            stream.lagging = True
        return b"".join(frames), asked.job_id is not None and any(update.is_last for update in page)

    async def _woken(self, stream: Subscription, within_s: float) -> bool:
        """Return whether there is something to do for the stream, after `within_s` seconds at the latest."""
        stream.wakes.clear()
        try:
            await asyncio.wait_for(stream.wakes.wait(), within_s)
        except TimeoutError:
            return False
        return True

    async def _limited(self, sending: Awaitable[None]) -> None:
        await asyncio.wait_for(sending, self._times.stall_s)

    async def _check_keys(self) -> None:
        """End the streams whose key is not valid any more, for as long as there are streams."""
        loop = asyncio.get_running_loop()
        while not self._closed and (streams := self._subscriptions.streams()):
            await asyncio.sleep(self._times.allowed_s)
            checks = {stream.asked.allowed_key: stream.asked.still_allowed for stream in streams}
            checks.pop(None, None)
            for key, still_allowed in checks.items():
                try:
                    allowed = await loop.run_in_executor(self._threads, still_allowed)
                except Exception as exc:
                    # The database may not answer: nobody is cut off for it.
                    self._log(f"the check of keys: {type(exc).__name__}", "streams go on without")
                    continue
                for stream in self._subscriptions.streams() if not allowed else ():
                    if stream.asked.allowed_key == key:
                        self._subscriptions.stop(stream)

    def _end(self, asked: JobWait | EventStream) -> None:
        try:
            asked.on_end()
        except Exception:
            log.exception("freeing a place failed")

    def _log(self, what: str, verb: str = "ended") -> None:
        if self._log_limit.allows(what):
            log.warning("%s (said once a minute): %s", verb, what)
