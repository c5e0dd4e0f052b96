"""What a receiver gets that was away, is slow to accept, or refuses one message: everything, in order, once."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from jobs.lifecycle import DeliveryState
from jobs.outbound.calls import OutboundAnswer
from jobs.webhooks.sending import SendingRules
from tests.contract.webhooks.conftest import DAY_S, HOOK, Webhooks


def accepted_positions(webhooks: Webhooks) -> list[int]:
    return [int(one.document["event_id"]) for one in webhooks.receiver.accepted]


def test_a_receiver_that_was_down_for_an_hour_gets_everything_in_order_and_once(webhooks: Webhooks) -> None:
    webhooks.endpoint(events=("started", "succeeded", "canceled"))
    webhooks.receiver.is_down()
    jobs = []
    for number in range(20):
        if number % 2:
            jobs.append(webhooks.ended_job())
        else:
            webhooks.succeed(job_id := webhooks.submit())
            jobs.append(job_id)
        webhooks.pass_time(180)
    assert webhooks.receiver.accepted == []
    webhooks.receiver.is_up()
    webhooks.pass_time(3 * 3600)
    positions = accepted_positions(webhooks)
    assert positions == sorted(set(positions)), "in order, none twice"
    assert len(positions) == 30
    assert [one.document["data"]["id"] for one in webhooks.receiver.accepted if "started" not in one.body[:40]] == jobs
    assert set(webhooks.states()) == {"delivered"}
    made = len(webhooks.receiver.received)
    webhooks.pass_time(2 * DAY_S)
    assert len(webhooks.receiver.received) == made, "what was accepted is not sent again"


def test_while_a_receiver_is_down_its_backlog_costs_no_more_tries(webhooks: Webhooks) -> None:
    webhooks.endpoint()
    webhooks.receiver.is_down()
    for _ in range(50):
        webhooks.ended_job()
    webhooks.pass_time(3600)
    assert len(webhooks.receiver.received) <= 4 + 2, "the oldest at 0 s, 5 s, 5 min, 30 min, and two later ones"


def test_the_tries_of_one_delivery_are_at_the_times_of_the_schedule(webhooks: Webhooks) -> None:
    webhooks.endpoint()
    webhooks.receiver.answers[HOOK] = 500
    began = webhooks.clock.time
    times = []
    webhooks.receiver.after = lambda: times.append((webhooks.clock.time - began).total_seconds())
    webhooks.ended_job()
    webhooks.deliver()
    webhooks.pass_time(25 * 3600)
    offsets = (0, 5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400)
    assert len(times) == len(offsets)
    assert all(offset <= time < offset + 1 for time, offset in zip(times, offsets, strict=True)), times
    (delivery,) = webhooks.deliveries()
    assert (delivery.state, delivery.tries, delivery.last_status) == (DeliveryState.FAILED, 10, 500)
    assert len({one.message_id for one in webhooks.receiver.received}) == 1


def test_a_refused_message_holds_up_the_others_for_some_minutes_only(webhooks: Webhooks) -> None:
    webhooks.endpoint()
    refused = webhooks.ended_job()
    webhooks.receiver.answers[HOOK] = lambda request: 500 if refused in request.body else 200
    others = [webhooks.ended_job() for _ in range(5)]
    webhooks.pass_time(60)
    assert webhooks.receiver.accepted == []
    webhooks.pass_time(600)
    assert sorted(one.document["data"]["id"] for one in webhooks.receiver.accepted) == sorted(others)
    later = webhooks.ended_job()
    webhooks.deliver()
    assert webhooks.receiver.accepted[-1].document["data"]["id"] == later, "it holds up nothing any more"
    webhooks.pass_time(2 * DAY_S)
    by_job = {row.job_id: row for row in webhooks.deliveries()}
    assert by_job[refused].state is DeliveryState.FAILED
    assert by_job[refused].tries == 10
    assert len(webhooks.receiver.accepted) == 6


def test_retry_after_is_respected_up_to_a_day(webhooks: Webhooks) -> None:
    webhooks.endpoint()
    webhooks.receiver.answers[HOOK] = OutboundAnswer(429, {"retry-after": "3600"}, b"")
    webhooks.ended_job()
    webhooks.deliver()
    webhooks.receiver.is_up()
    webhooks.pass_time(3500)
    assert webhooks.receiver.accepted == []
    webhooks.pass_time(200)
    assert len(webhooks.receiver.accepted) == 1


def test_endpoints_do_not_hold_up_each_other(webhooks: Webhooks) -> None:
    webhooks.endpoint()
    webhooks.endpoint("https://other.example.com/")
    webhooks.receiver.is_down()
    webhooks.ended_job()
    webhooks.deliver()
    assert [one.url for one in webhooks.receiver.accepted] == ["https://other.example.com/"]


@pytest.mark.parametrize("status", [301, 302, 307, 400, 404, 500])
def test_what_is_not_2xx_is_a_failure(webhooks: Webhooks, status: int) -> None:
    webhooks.endpoint()
    webhooks.receiver.answers[HOOK] = status
    webhooks.ended_job()
    webhooks.deliver()
    (delivery,) = webhooks.deliveries()
    assert (delivery.state, delivery.last_status) == (DeliveryState.PENDING, status)
    assert str(status) in (delivery.last_error or "")


def test_410_disables_the_endpoint_and_drops_what_is_pending(webhooks: Webhooks) -> None:
    endpoint = webhooks.endpoint()
    webhooks.receiver.answers[HOOK] = 410
    webhooks.ended_job()
    webhooks.ended_job()
    webhooks.deliver()
    assert webhooks.states() == ["failed", "dropped"]
    row = webhooks.row(endpoint.id)
    assert row.disabled_at is not None
    assert "410" in (row.disabled_reason or "")
    webhooks.ended_job()
    webhooks.pass_time(3600)
    assert len(webhooks.receiver.received) == 1


def test_an_endpoint_that_fails_for_days_is_disabled_and_says_so(
    webhooks: Webhooks, caplog: pytest.LogCaptureFixture
) -> None:
    webhooks.sender = replace(
        webhooks.sender, rules=SendingRules(timedelta(seconds=10), timedelta(days=2), lambda: 0.0)
    )
    endpoint = webhooks.endpoint()
    webhooks.receiver.is_down()
    for _ in range(4):
        webhooks.ended_job()
    webhooks.pass_time(1.9 * DAY_S)
    assert webhooks.row(endpoint.id).disabled_at is None
    webhooks.pass_time(1.1 * DAY_S)
    row = webhooks.row(endpoint.id)
    assert row.disabled_at is not None
    assert "2 days" in (row.disabled_reason or "")
    assert endpoint.id in caplog.text
    assert set(webhooks.states()) == {"failed", "dropped"}


def test_one_success_ends_the_streak_of_failures(webhooks: Webhooks) -> None:
    endpoint = webhooks.endpoint()
    webhooks.receiver.is_down()
    webhooks.ended_job()
    webhooks.pass_time(3600)
    assert webhooks.row(endpoint.id).failing_since is not None
    webhooks.receiver.is_up()
    webhooks.pass_time(2 * 3600)
    assert webhooks.row(endpoint.id).failing_since is None


def test_what_a_disabled_endpoint_missed_can_be_told_apart(webhooks: Webhooks) -> None:
    endpoint = webhooks.endpoint()
    webhooks.change(endpoint.id, enabled=False)
    webhooks.ended_job()
    webhooks.deliver()
    assert webhooks.states() == []
    webhooks.change(endpoint.id, enabled=True)
    webhooks.ended_job()
    webhooks.deliver()
    assert webhooks.states() == ["delivered"]
