"""The header `Prefer`, and webhooks' filters."""

from __future__ import annotations

import pytest

from jobs.compat.preference import held_s, preferred_wait_s
from jobs.compat.replicate_events import subscribed_events


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, 0),
        ("", 0),
        ("wait", 60),
        ("wait=5", 5),
        ("wait=600", 60),
        ("wait=0", 0),
        ('Wait="7"', 7),
        ("respond-async", 0),
        ("respond-async, wait=5", 0),
        ("handling=lenient, wait=5;x=1", 5),
        ("wait=-1", 0),
        ("wait=5.5", 0),
        ("wait=99999999999999999999", 60),
    ],
)
def test_how_long_a_caller_wants_to_wait(header: str | None, seconds: float) -> None:
    assert preferred_wait_s(header) == seconds


def test_a_call_is_answered_before_its_client_gives_up() -> None:
    assert (held_s(60), held_s(1), held_s(0.2)) == (59.5, 0.5, 0.2)


def test_a_filter_of_events_names_the_jobs_events_in_their_order() -> None:
    url = "https://example.com/hook"
    assert subscribed_events(None, ["start"], None) == {}
    ended = ["succeeded", "failed", "canceled"]
    assert subscribed_events(url, None, None) == {"webhook_url": url, "webhook_events": ended}
    assert subscribed_events(url, ["completed", "start"], None)["webhook_events"] == ["started", *ended]
    assert subscribed_events(url, ["logs", "output"], None)["webhook_events"] == ["progress", "succeeded"]
    assert subscribed_events(None, None, url)["webhook_events"] == ended
