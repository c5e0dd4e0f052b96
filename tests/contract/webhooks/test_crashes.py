"""Crashes at any point: nothing is lost, nothing is made twice, and what is sent twice has one id."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy.exc import DBAPIError

from jobs.db.database import Database
from jobs.webhooks import outbox, sending
from tests.contract.webhooks.conftest import Webhooks
from workers.webhooks import sender as sender_module

CLAIM_S = 10 + sending.CLAIM_MARGIN_S


class Crash(BaseException):
    """The process ends here: nothing catches it."""


def test_a_crash_between_send_and_mark_delivers_at_most_twice_with_the_same_id(
    webhooks: Webhooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    webhooks.endpoint()
    first, second = webhooks.ended_job(), webhooks.ended_job()

    def crash(*_: object) -> bool:
        raise Crash

    with monkeypatch.context() as patched:
        patched.setattr(sender_module, "finish_try", crash)
        with pytest.raises(Crash):
            webhooks.deliver()
    assert webhooks.sender.send_due() == 0, "another process leaves it to the claim"
    webhooks.pass_time(CLAIM_S + 1)
    ids = [one.message_id for one in webhooks.receiver.received]
    assert [one.document["data"]["id"] for one in webhooks.receiver.received] == [first, first, second]
    assert len(set(ids)) == 2
    assert webhooks.states() == ["delivered", "delivered"]
    webhooks.pass_time(86_400)
    assert len(webhooks.receiver.received) == 3


def test_a_sender_that_was_suspended_past_its_claim_records_its_success(webhooks: Webhooks) -> None:
    webhooks.endpoint()
    webhooks.ended_job()
    webhooks.fan_out()

    def another_sender_comes() -> None:
        webhooks.receiver.after = lambda: None
        webhooks.clock.advance(CLAIM_S + 1)
        webhooks.sender.send_due()

    webhooks.receiver.after = another_sender_comes
    webhooks.sender.send_due()
    assert len(webhooks.receiver.received) == 2
    assert len({one.message_id for one in webhooks.receiver.received}) == 1
    assert webhooks.states() == ["delivered"]
    webhooks.pass_time(3600)
    assert len(webhooks.receiver.received) == 2


def test_a_crash_in_the_middle_of_the_fan_out_loses_and_doubles_nothing(
    webhooks: Webhooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    webhooks.endpoint()
    jobs = [webhooks.ended_job() for _ in range(5)]

    def crash(*_: object) -> None:
        raise Crash

    with monkeypatch.context() as patched:
        patched.setattr(outbox, "mark_due", crash)
        with pytest.raises(Crash):
            webhooks.fan_out()
    assert webhooks.deliveries() == []
    webhooks.deliver()
    webhooks.deliver()
    assert [one.document["data"]["id"] for one in webhooks.receiver.accepted] == jobs


def test_a_delivery_whose_last_try_has_no_outcome_has_failed(
    webhooks: Webhooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    webhooks.endpoint()
    webhooks.ended_job()

    def crash(*_: object) -> bool:
        raise Crash

    monkeypatch.setattr(sender_module, "finish_try", crash)
    for _ in range(10):
        with pytest.raises(Crash):
            webhooks.deliver()
        webhooks.clock.advance(CLAIM_S + 1)
    assert webhooks.deliver() == 0
    (delivery,) = webhooks.deliveries()
    assert (delivery.state.value, delivery.tries) == ("failed", 10)


def test_an_outcome_waits_for_the_database(webhooks: Webhooks, monkeypatch: pytest.MonkeyPatch) -> None:
    webhooks.endpoint()
    webhooks.ended_job()
    pauses: list[float] = []
    faults = [DBAPIError("UPDATE", None, Exception("away"))] * 3

    def finish(*arguments: Any) -> bool:
        if faults:
            raise faults.pop()
        return sending.finish_try(*arguments)

    monkeypatch.setattr(sender_module, "finish_try", finish)
    webhooks.sender = replace(webhooks.sender, pause=pauses.append)
    webhooks.deliver()
    assert webhooks.states() == ["delivered"]
    assert (len(webhooks.receiver.received), len(pauses)) == (1, 3)


def test_two_control_processes_send_each_delivery_once(webhooks: Webhooks, db: Database) -> None:
    """The claims of two processes, turn by turn: an endpoint belongs to one of them."""
    for number in range(4):
        webhooks.endpoint(f"https://hooks{number}.example.com/")
    for _ in range(3):
        webhooks.ended_job()
    webhooks.fan_out()
    claims = [webhooks.sender.claim() for _ in range(5)]
    assert claims.pop() is None
    assert len({claim.endpoint_id for claim in claims if claim is not None}) == 4
    for claim in reversed(claims):
        assert claim is not None
        webhooks.sender.serve(claim)
    assert len(webhooks.receiver.accepted) == 12
    assert len({one.message_id for one in webhooks.receiver.accepted}) == 12
