"""The checker of a chaos run finds illegal histories and final states."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from chaos.history import check_history
from chaos.ledger import Entry, Kind, draw_ledger
from jobs.db.tables import Job, JobEvent
from jobs.lifecycle import State

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def violations(
    *history: tuple[str, int] | tuple[str, int, str], state: State = State.SUCCEEDED, attempt: int = 1
) -> list[str]:
    events = [
        JobEvent(id=n, job_id="j", kind=kind, attempt=number, data={"stage": more[0]} if more else {}, created_at=NOW)
        for n, (kind, number, *more) in enumerate(history)
    ]
    return check_history(Job(id="j", state=state, attempt=attempt), events)


def test_legal_histories_have_no_violations() -> None:
    assert (
        violations(("queued", 0), ("running", 1), ("stage", 1, "decode"), ("stage", 1, "sample"), ("succeeded", 1))
        == []
    )
    lost = [("queued", 0), ("running", 1), ("stage", 1, "sample"), ("queued", 1), ("running", 2)]
    assert violations(*lost, ("stage", 2, "decode"), ("succeeded", 2), attempt=2) == []
    assert violations(("queued", 0), ("canceled", 0), state=State.CANCELED, attempt=0) == []
    assert (
        violations(("queued", 0), ("running", 1), ("cancel_requested", 1), ("canceled", 1), state=State.CANCELED) == []
    )


@pytest.mark.parametrize(
    ("history", "violation"),
    [
        ([("running", 1), ("succeeded", 1)], "is the first, expected queued"),
        ([("queued", 0), ("succeeded", 0)], "follows queued"),
        ([("queued", 0), ("running", 1), ("succeeded", 1), ("succeeded", 1)], "follows a final state"),
        ([("queued", 0), ("running", 1), ("running", 2), ("succeeded", 2)], "follows running"),
        ([("queued", 0), ("running", 1), ("stage", 1, "sample"), ("stage", 1, "fetch"), ("succeeded", 1)], "goes back"),
        ([("queued", 0), ("stage", 0, "fetch"), ("running", 1), ("succeeded", 1)], "while the job was queued"),
        ([("queued", 0), ("running", 1), ("stage", 2, "fetch"), ("succeeded", 1)], "during attempt 1"),
        ([("queued", 0), ("running", 1)], "the history ends with running"),
    ],
)
def test_an_illegal_history_is_found(history: list[Any], violation: str) -> None:
    assert any(violation in found for found in violations(*history))


@pytest.mark.parametrize(
    ("kind", "cancel_accepted", "state", "code", "allowed"),
    [
        (Kind.PROMPT, False, "succeeded", None, True),
        (Kind.PROMPT, False, "failed", "worker_lost", False),
        (Kind.BROKEN_VIDEO, False, "failed", "media_invalid", True),
        (Kind.BROKEN_VIDEO, False, "failed", "storage_unavailable", False),
        (Kind.CANCELED, True, "canceled", None, True),
        (Kind.CANCELED, False, "succeeded", None, True),
        (Kind.CANCELED, True, "succeeded", None, False),
    ],
)
def test_each_kind_of_request_allows_its_final_states(
    kind: Kind, cancel_accepted: bool, state: str, code: str | None, allowed: bool
) -> None:
    entry = Entry("k", "default", kind, {}, cancel_accepted=cancel_accepted)
    assert entry.allows(state, code) is allowed


def test_the_same_seed_draws_the_same_requests() -> None:
    assert draw_ledger(50, 3, delivery="s3://b/").entries == draw_ledger(50, 3, delivery="s3://b/").entries
    kinds = {entry.kind for entry in draw_ledger(300, 1, delivery="s3://b/").entries}
    assert kinds == set(Kind)
