"""Refuses requests beyond the limits of their tenant or key, and tells every caller where it stands."""

from __future__ import annotations

from flask import Flask, Response, g

from api.auth import Principal
from api.context import current_context
from api.limits.request_rate import WINDOW_S, Standing
from jobs.errors import TooManyRequestsError

_STANDING = "mmaudio_standing"


def register_rate_headers(app: Flask) -> None:
    """Add `RateLimit-*` headers to the answers to counted requests."""
    app.after_request(_add_headers)


def count_request(principal: Principal) -> None:
    """Count a request for its tenant and its key.

    Raises:
        TooManyRequestsError: one of them has sent as many in this minute as allowed.
    """
    ctx = current_context()
    rules = ctx.rules.of(principal.tenant)
    standings = []
    if rules.requests_per_minute:
        standings.append(ctx.request_rate.count(f"tenant:{principal.tenant}", rules.requests_per_minute))
    if rules.key_requests_per_minute and principal.key_id is not None:
        standings.append(ctx.request_rate.count(f"key:{principal.key_id}", rules.key_requests_per_minute))
    known = [standing for standing in standings if standing is not None]
    if not known:
        return
    narrowest = min(known, key=lambda standing: (standing.allowed, standing.remaining))
    setattr(g, _STANDING, narrowest)
    if not narrowest.allowed:
        raise TooManyRequestsError(
            f"More than {narrowest.limit} requests came in this minute; wait {narrowest.reset_s} s.",
            narrowest.limit,
            retry_s=narrowest.reset_s,
        )


def _add_headers(response: Response) -> Response:
    standing: Standing | None = g.get(_STANDING)
    if standing is None:
        return response
    policy = f"{standing.limit};w={WINDOW_S}"
    if not standing.allowed:
        response.headers["RateLimit-Policy"] = policy
    elif "RateLimit-Limit" not in response.headers:  # a full queue, say, tells where that one stands
        response.headers["RateLimit-Policy"] = policy
        response.headers["RateLimit-Limit"] = str(standing.limit)
        response.headers["RateLimit-Remaining"] = str(standing.remaining)
        response.headers["RateLimit-Reset"] = str(standing.reset_s)
    return response
