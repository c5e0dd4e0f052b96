"""The judge of the chaos run must be able to say no: stories and ends that cannot be are seen."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from chaos.history import illegal_events
from chaos.ledger import Entry, Kind, draw_ledger
from jobs.db.tables import Job, JobEvent
from jobs.lifecycle import State

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def story(*told: tuple[str, int] | tuple[str, int, str], state: State = State.SUCCEEDED, attempt: int = 1) -> list[str]:
    events = [
        JobEvent(id=n, job_id="j", kind=kind, attempt=number, data={"stage": more[0]} if more else {}, created_at=NOW)
        for n, (kind, number, *more) in enumerate(told)
    ]
    return illegal_events(Job(id="j", state=state, attempt=attempt), events)


def test_legal_stories_are_legal() -> None:
    assert story(("queued", 0), ("running", 1), ("stage", 1, "decode"), ("stage", 1, "sample"), ("succeeded", 1)) == []
    lost = [("queued", 0), ("running", 1), ("stage", 1, "sample"), ("queued", 1), ("running", 2)]
    assert story(*lost, ("stage", 2, "decode"), ("succeeded", 2), attempt=2) == []
    assert story(("queued", 0), ("canceled", 0), state=State.CANCELED, attempt=0) == []
    assert story(("queued", 0), ("running", 1), ("cancel_requested", 1), ("canceled", 1), state=State.CANCELED) == []


@pytest.mark.parametrize(
    ("told", "fault"),
    [
        ([("running", 1), ("succeeded", 1)], "is the first"),
        ([("queued", 0), ("succeeded", 0)], "follows queued"),
        ([("queued", 0), ("running", 1), ("succeeded", 1), ("succeeded", 1)], "comes after the end"),
        ([("queued", 0), ("running", 1), ("running", 2), ("succeeded", 2)], "follows running"),
        ([("queued", 0), ("running", 1), ("stage", 1, "sample"), ("stage", 1, "fetch"), ("succeeded", 1)], "goes back"),
        ([("queued", 0), ("stage", 0, "fetch"), ("running", 1), ("succeeded", 1)], "while queued"),
        ([("queued", 0), ("running", 1), ("stage", 2, "fetch"), ("succeeded", 1)], "in attempt 1"),
        ([("queued", 0), ("running", 1)], "the story ends with running"),
    ],
)
def test_a_story_that_cannot_be_is_seen(told: list[Any], fault: str) -> None:
    assert any(fault in said for said in story(*told))


@pytest.mark.parametrize(
    ("kind", "agreed", "state", "code", "right"),
    [
        (Kind.WORDS, False, "succeeded", None, True),
        (Kind.WORDS, False, "failed", "worker_lost", False),
        (Kind.BROKEN_VIDEO, False, "failed", "media_invalid", True),
        (Kind.BROKEN_VIDEO, False, "failed", "storage_unavailable", False),
        (Kind.CANCELED, True, "canceled", None, True),
        (Kind.CANCELED, False, "succeeded", None, True),
        (Kind.CANCELED, True, "succeeded", None, False),
    ],
)
def test_each_request_has_its_right_ends(kind: Kind, agreed: bool, state: str, code: str | None, right: bool) -> None:
    entry = Entry("k", "default", kind, {}, cancel_agreed=agreed)
    assert entry.right_end(state, code) is right


def test_a_seed_draws_the_same_requests_again() -> None:
    assert draw_ledger(50, 3, delivery="s3://b/").entries == draw_ledger(50, 3, delivery="s3://b/").entries
    kinds = {entry.kind for entry in draw_ledger(300, 1, delivery="s3://b/").entries}
    assert kinds == set(Kind)
