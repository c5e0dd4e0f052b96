"""Which events of a job a prediction's `webhook` is called for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

ENDED = ("succeeded", "failed", "canceled")
# The output of this model comes whole, at the end.
EVENTS: dict[str, tuple[str, ...]] = {
    "start": ("started",),
    "output": ("succeeded",),
    "logs": ("progress",),
    "completed": ENDED,
}
DEFAULT_FILTER = ("output", "completed")


def subscribed_events(
    webhook: str | None, events_filter: Sequence[str] | None, webhook_completed: str | None
) -> dict[str, Any]:
    """Return the fields of a job's request for the webhook of a prediction; none: nobody is called.

    Args:
        events_filter: of `webhook`; None or empty: the default.
        webhook_completed: the older form, for the end only.
    """
    url = webhook if webhook is not None else webhook_completed
    if url is None:
        return {}
    wanted = tuple(events_filter or DEFAULT_FILTER) if webhook is not None else ("completed",)
    named = {event for name in wanted for event in EVENTS[name]}
    order = ("started", "progress", *ENDED)
    return {"webhook_url": url, "webhook_events": [event for event in order if event in named]}
