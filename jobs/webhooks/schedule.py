"""When a delivery is tried: Standard Webhooks' schedule with jitter, and `Retry-After`. Pure; times are given."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

MINUTE_S, HOUR_S = 60, 3600
# Seconds after the first try.
TRY_OFFSETS_S = (
    0,
    5,
    5 * MINUTE_S,
    30 * MINUTE_S,
    2 * HOUR_S,
    5 * HOUR_S,
    10 * HOUR_S,
    14 * HOUR_S,
    20 * HOUR_S,
    24 * HOUR_S,
)
MAX_TRIES = len(TRY_OFFSETS_S)
JITTER = 0.1
"""Up to this part of the pause is added, so that receivers that come back do not get everything in one second."""
MAX_RETRY_AFTER_S = 24 * HOUR_S


def next_try_at(
    tries: int, *, first_tried_at: datetime, now: datetime, rng: Callable[[], float], retry_after_s: float | None = None
) -> datetime | None:
    """Return when a delivery is tried again after `tries` failures; None: it is not.

    Args:
        rng: from 0 up to 1.
        retry_after_s: what the receiver asked for.
    """
    if tries >= MAX_TRIES:
        return None
    pause_s = TRY_OFFSETS_S[tries] - TRY_OFFSETS_S[tries - 1]
    # Half of the pause at least: after an outage of this platform several of these times have passed at once.
    planned = max(first_tried_at + timedelta(seconds=TRY_OFFSETS_S[tries]), now + timedelta(seconds=pause_s / 2))
    planned += timedelta(seconds=JITTER * pause_s * rng())
    if retry_after_s is not None:
        planned = max(planned, now + timedelta(seconds=min(retry_after_s, MAX_RETRY_AFTER_S)))
    return planned


def parse_retry_after(value: str | None, *, now: datetime) -> float | None:
    """Return the seconds that a `Retry-After` header asks for, in seconds or as a date; None: nothing that is valid."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), MAX_RETRY_AFTER_S)
    try:
        until = parsedate_to_datetime(text)
    except (TypeError, ValueError, IndexError):
        return None
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return min(max((until - now).total_seconds(), 0.0), MAX_RETRY_AFTER_S)
