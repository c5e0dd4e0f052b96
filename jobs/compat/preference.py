"""The header `Prefer` (RFC 7240), as hosted services use it."""

from __future__ import annotations

MAX_WAIT_S = 60.0
# Clients give up half a second after the time that they asked for; the answer needs some of it.
MARGIN_S = 0.5
LEAST_WAIT_S = 0.5


def preferred_wait_s(header: str | None) -> float:
    """Return how long a caller wants to wait for the end, in seconds, at most `MAX_WAIT_S`; 0: not at all.

    `wait` alone is the longest time. Of several preferences of a name the first counts.
    """
    for part in (header or "").split(","):
        name, _, value = part.partition(";")[0].strip().partition("=")
        name, value = name.strip().lower(), value.strip().strip('"')
        if name == "respond-async":
            return 0.0
        if name == "wait":
            if not value:
                return MAX_WAIT_S
            if value.isascii() and value.isdigit():
                return min(float(value[:6]), MAX_WAIT_S)
    return 0.0


def held_s(wait_s: float) -> float:
    """Return how long a call is held that may last `wait_s` seconds."""
    return max(min(wait_s, LEAST_WAIT_S), wait_s - MARGIN_S)
