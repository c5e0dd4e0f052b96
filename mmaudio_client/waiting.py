"""Waits for a job by long polls. Outages count for its time; a server that answers at once is not asked in a loop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from mmaudio_client.errors import UnavailableError, WaitTimeoutError
from mmaudio_client.models import Job

LONG_POLL_S = 30.0
POLL_GAP_S = 1.0
"""Least time between two long polls: a server with too many waiting callers answers at once."""


class Look(Protocol):
    """Asks for a job once; returns it, and the pause in seconds that the server asks for."""

    async def __call__(self, job: Job, *, wait_s: float, within_s: float | None) -> tuple[Job, float | None]: ...


async def wait_for_end(
    look: Look,
    job: Job,
    *,
    timeout_s: float | None,
    began: float,
    patience_s: float,
    clock: Callable[[], float],
    sleep: Callable[[float], Awaitable[None]],
) -> Job:
    """Return a job once it has ended.

    Args:
        began: when the time of `timeout_s` began, by `clock`.

    Raises:
        WaitTimeoutError: it has not within `timeout_s`.
        UnavailableError: an outage was longer than `patience_s`.
    """
    deadline = began + timeout_s if timeout_s is not None else None
    while not job.ended:
        asked = clock()
        left = None if deadline is None else deadline - asked
        if left is not None and left <= 0:
            raise WaitTimeoutError(f"Job {job.id} is still {job.state} after {timeout_s:g} s; it continues.")
        try:
            job, pause = await look(job, wait_s=LONG_POLL_S if left is None else min(LONG_POLL_S, left), within_s=left)
        except UnavailableError as exc:
            if left is None or left > patience_s:
                raise
            text = f"Job {job.id} was {job.state} when it was last seen; {timeout_s:g} s are over. {exc}"
            raise WaitTimeoutError(text) from exc
        pause = max(pause or 0.0, POLL_GAP_S) - (clock() - asked)
        if deadline is not None:
            pause = min(pause, deadline - clock())
        if not job.ended and pause > 0:
            await sleep(pause)
    return job
