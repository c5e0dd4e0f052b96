"""Who waits for which job, and who streams which events. Lives in the event loop; the notifier's thread asks `take`."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from api.bridge.waiting import EventStream, JobWait
from api.events.reader import JobVersion
from api.events.updates import JobUpdate

Member = TypeVar("Member")

# Updates that a stream may be behind; it reads them from the database when there are more.
MAX_PENDING = 200
# Streams are woken at this rate at most, so that an event for thousands of them does not hold up all other requests;
# what happens meanwhile is sent together. Streams of one job go first.
WAKES_PER_S = 1000
WAKES_AT_ONCE = 10


class JobWaiter:
    """One request that waits for jobs.

    Args:
        done: ended when the jobs have ended or changed.
    """

    def __init__(self, asked: JobWait, done: asyncio.Future[None] | None = None) -> None:
        self.job_ids, self.done, self.is_done = asked.job_ids, done, False
        self._seen, self._left = asked.seen, set(asked.job_ids)

    def note_update(self, update: JobUpdate) -> None:
        """Note an event of one of its jobs."""
        if self._seen is not None:
            self.end()
        elif update.is_last:
            self._ended(update.job_id)

    def note_version(self, job_id: str, version: JobVersion | None) -> None:
        """Note what the row of one of its jobs says."""
        if version is None:
            self.end()
        elif self._seen is not None:
            if version.version != self._seen.get(job_id):
                self.end()
        elif version.state.is_terminal:
            self._ended(job_id)

    def _ended(self, job_id: str) -> None:
        self._left.discard(job_id)
        if not self._left:
            self.end()

    def end(self) -> None:
        """End the wait."""
        self.is_done = True
        if self.done is not None and not self.done.done():
            self.done.set_result(None)


class Subscription:
    """One stream: the updates that it has not sent yet.

    Attributes:
        position: of the last event that it has sent or passed over.
        begun: every event that gets its position from now on is passed on to it.
        lagging: it has to read events from the database, at first and when there were too many.
        stopped: it ends without its last event: the key is no longer valid, or the job is gone.
        wakes: set when there is something to do.
    """

    def __init__(self, asked: EventStream) -> None:
        self.asked, self.position = asked, asked.after
        self.begun, self.lagging, self.stopped = False, True, False
        self.pending: deque[JobUpdate] = deque()
        self.wakes = asyncio.Event()
        self.queued = False
        self._progress: dict[str, Any] | None = None

    def wants(self, update: JobUpdate) -> bool:
        """Return whether the client wants an update. A job's last one is always sent, or the client would come back."""
        if update.position is None and not self.asked.progress:
            return False
        if update.position is not None and update.position <= self.position:
            return False
        is_last = update.is_last and self.asked.job_id is not None
        return is_last or self.asked.kinds is None or update.kind in self.asked.kinds

    def push(self, update: JobUpdate) -> bool:
        """Keep an update until it is sent; when there are too many, let events be read again later.

        Returns:
            False: there is nothing to do for it.
        """
        if self.lagging or not self.wants(update):
            return False
        if update.position is None:
            if update.data == self._progress:
                return False
            self._progress = update.data
        if len(self.pending) >= MAX_PENDING:
            self.pending.clear()
            self.lagging = True
        else:
            self.pending.append(update)
        return True


@dataclass
class Wanted:
    """What the notifier has to find out.

    Attributes:
        active: somebody waits or streams.
        period: number of the present period in which somebody does, without a break.
        unchecked: jobs whose row is to be looked at, because somebody has just begun to wait for them.
        progress: jobs whose progress is streamed.
    """

    active: bool
    period: int
    unchecked: list[str]
    progress: frozenset[str]


@dataclass
class Batch:
    """What the notifier has found out."""

    period: int
    events: list[JobUpdate] = field(default_factory=list)
    progress: list[JobUpdate] = field(default_factory=list)
    versions: Mapping[str, JobVersion | None] = field(default_factory=dict)


class Subscriptions:
    """All waiting requests and streams of the process."""

    def __init__(self) -> None:
        self._waiters: dict[str, set[JobWaiter]] = {}
        self._of_job: dict[str, set[Subscription]] = {}
        self._of_tenant: dict[str, set[Subscription]] = {}
        self._lock = threading.Lock()
        self._count = 0
        self._period = 0
        self._begun = -1
        self._unchecked: set[str] = set()
        self._progress: frozenset[str] | None = frozenset()
        self._starting: set[Subscription] = set()
        self._to_wake: deque[Subscription] = deque()
        self._waking: asyncio.Task[None] | None = None
        self.wanted = threading.Event()
        """Set while somebody waits or streams."""

    @property
    def count(self) -> int:
        """How many wait or stream."""
        return self._count

    def streams(self) -> list[Subscription]:
        """Return the open streams."""
        sets = [*self._of_job.values(), *self._of_tenant.values()]
        return [stream for streams in sets for stream in streams]

    def add_waiter(self, asked: JobWait, done: asyncio.Future[None]) -> JobWaiter:
        """Begin to wait; `done` ends when the jobs have ended or changed."""
        waiter = JobWaiter(asked, done)
        with self._lock:
            for job_id in asked.job_ids:
                self._waiters.setdefault(job_id, set()).add(waiter)
            self._unchecked.update(asked.job_ids)
            self._count += 1
        self.wanted.set()
        return waiter

    def remove_waiter(self, waiter: JobWaiter) -> None:
        """End a wait."""
        with self._lock:
            for job_id in waiter.job_ids:
                _discard(self._waiters, job_id, waiter)
            self._count -= 1

    def add_stream(self, asked: EventStream) -> Subscription:
        """Begin to stream."""
        stream = Subscription(asked)
        with self._lock:
            if asked.job_id is None:
                self._of_tenant.setdefault(asked.tenant, set()).add(stream)
            else:
                self._of_job.setdefault(asked.job_id, set()).add(stream)
                self._progress = None
            self._count += 1
            stream.begun = self._begun == self._period
            if not stream.begun:
                self._starting.add(stream)
        self.wanted.set()
        return stream

    def remove_stream(self, stream: Subscription) -> None:
        """End a stream."""
        asked = stream.asked
        with self._lock:
            if asked.job_id is None:
                _discard(self._of_tenant, asked.tenant, stream)
            else:
                _discard(self._of_job, asked.job_id, stream)
                self._progress = None
            self._count -= 1
            self._starting.discard(stream)
        stream.pending.clear()

    def take(self, *, all_jobs: bool = False) -> Wanted:
        """Return what is to be found out now; called by the notifier's thread.

        Args:
            all_jobs: look at the rows of all jobs that somebody waits for or streams.
        """
        with self._lock:
            if not self._count:
                self._period += 1
                self.wanted.clear()
                self._unchecked.clear()
                return Wanted(False, self._period, [], frozenset())
            if self._progress is None:
                self._progress = frozenset(
                    job_id for job_id, streams in self._of_job.items() if any(one.asked.progress for one in streams)
                )
            unchecked, self._unchecked = self._unchecked, set()
            if all_jobs:
                unchecked = {*self._waiters, *self._of_job}
            return Wanted(True, self._period, list(unchecked), self._progress)

    def check_again(self, job_ids: Iterable[str]) -> None:
        """Let rows be looked at again that could not be read."""
        with self._lock:
            self._unchecked.update(job_ids)

    def deliver(self, batch: Batch) -> None:
        """Pass on what the notifier has found."""
        with self._lock:
            self._begun = batch.period
            starting: set[Subscription] = set()
            if self._begun == self._period:
                starting, self._starting = self._starting, starting
        for stream in starting:
            stream.begun = True
            self._wake(stream)
        moved = set()
        for update in batch.events:
            moved.add(update.job_id)
            for waiter in tuple(self._waiters.get(update.job_id, ())):
                waiter.note_update(update)
            self._push(update, self._of_job.get(update.job_id, ()))
            self._push(update, self._of_tenant.get(update.tenant, ()))
        for update in batch.progress:
            if update.job_id not in moved:  # it was read before these events
                self._push(update, self._of_job.get(update.job_id, ()))
        for job_id, version in batch.versions.items():
            for waiter in tuple(self._waiters.get(job_id, ())):
                waiter.note_version(job_id, version)
            if version is None:
                for stream in self._of_job.get(job_id, ()):
                    self.stop(stream)

    def stop(self, stream: Subscription) -> None:
        """Let a stream end."""
        stream.stopped = True
        stream.wakes.set()

    def end_all(self) -> None:
        """Let every wait and stream end."""
        for waiters in list(self._waiters.values()):
            for waiter in list(waiters):
                waiter.end()
        for stream in self.streams():
            self.stop(stream)

    def _push(self, update: JobUpdate, streams: Iterable[Subscription]) -> None:
        for stream in streams:
            if stream.push(update):
                self._wake(stream)

    def _wake(self, stream: Subscription) -> None:
        if not stream.queued:
            stream.queued = True
            if stream.asked.job_id is not None:
                self._to_wake.appendleft(stream)
            else:
                self._to_wake.append(stream)
        if self._to_wake and (self._waking is None or self._waking.done()):
            self._waking = asyncio.get_running_loop().create_task(self._wake_in_turn())

    async def _wake_in_turn(self) -> None:
        loop = asyncio.get_running_loop()
        while self._to_wake:
            due = loop.time() + WAKES_AT_ONCE / WAKES_PER_S
            for _ in range(min(WAKES_AT_ONCE, len(self._to_wake))):
                stream = self._to_wake.popleft()
                stream.queued = False
                stream.wakes.set()
            await asyncio.sleep(max(0.0, due - loop.time()))


def _discard(sets: dict[str, set[Member]], key: str, value: Member) -> None:
    found = sets.get(key)
    if found is not None:
        found.discard(value)
        if not found:
            del sets[key]
