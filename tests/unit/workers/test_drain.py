"""When a worker process drains, and which of its jobs stop when."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from jobs.lifecycle import WorkerState
from tests.unit.workers.runner.test_active_jobs import active_job
from workers.drain import Drain
from workers.host.supervisor import EXIT_RESTART
from workers.runner.active_jobs import ActiveJobs, StopReason

GRACE_S = 30.0


@dataclass
class DrainHarness:
    """A drain with two jobs, one of which waits for the device, and a clock that the test moves."""

    now: float = 1000.0
    sent: int = 0
    exits: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.jobs = ActiveJobs()
        self.waiting, self.sampled = active_job("job_1"), active_job("job_2")
        self.waiting.waits_for_device = True
        for job in (self.waiting, self.sampled):
            self.jobs.add(job)
        self.drain = Drain(
            self.jobs,
            worker_id="w1",
            grace_s=GRACE_S,
            send_stop=self.send_stop,
            exit_now=self.exits.append,
            monotonic=lambda: self.now,
        )

    def send_stop(self) -> None:
        self.sent += 1
        self.drain.on_stop_signal()

    def reasons(self) -> tuple[StopReason | None, StopReason | None]:
        self.drain.stop_jobs()
        return self.waiting.reason, self.sampled.reason


@pytest.fixture
def harness() -> DrainHarness:
    harness = DrainHarness()
    harness.drain.mark_ready()
    return harness


def test_the_state_goes_from_starting_over_ready_to_draining() -> None:
    drain = DrainHarness().drain
    states = [drain.state()]
    drain.mark_ready()
    states.append(drain.state())
    drain.on_stop_signal()
    states.append(drain.state())

    assert states == [WorkerState.STARTING, WorkerState.READY, WorkerState.DRAINING]


def test_the_first_signal_requeues_the_jobs_that_wait_for_the_device_and_the_grace_period_the_rest(
    harness: DrainHarness,
) -> None:
    harness.drain.on_stop_signal()
    assert harness.reasons() == (StopReason.DRAINED, None)
    harness.now += GRACE_S
    assert harness.reasons() == (StopReason.DRAINED, None)
    harness.now += 0.1
    assert harness.reasons() == (StopReason.DRAINED, StopReason.DRAINED)


def test_a_second_signal_requeues_all_jobs_at_once(harness: DrainHarness) -> None:
    harness.drain.on_stop_signal()
    harness.drain.on_stop_signal()
    assert harness.reasons() == (StopReason.DRAINED, StopReason.DRAINED)


def test_a_requested_drain_sends_one_signal_that_does_not_count_as_the_first_of_two(harness: DrainHarness) -> None:
    for _ in range(3):
        harness.drain.request("a drain was requested", restart=False)
    assert (harness.sent, harness.drain.restart) == (1, False)
    harness.drain.on_stop_signal()  # the operator's first one
    assert harness.reasons() == (StopReason.DRAINED, None)
    harness.drain.on_stop_signal()
    assert harness.reasons() == (StopReason.DRAINED, StopReason.DRAINED)


def test_before_the_worker_is_ready_no_drain_starts() -> None:
    harness = DrainHarness()
    harness.drain.request("it uses too much memory", restart=True)
    assert (harness.sent, harness.drain.restart, harness.drain.started) == (0, False, False)


def test_a_drain_without_restart_prevails_over_a_restart(harness: DrainHarness) -> None:
    harness.drain.request("it uses too much memory", restart=True)
    assert harness.drain.restart
    harness.drain.request("a drain was requested", restart=False)
    harness.drain.request("it uses too much memory", restart=True)
    assert (harness.sent, harness.drain.restart) == (1, False)


def test_a_consumer_that_does_not_stop_ends_the_process(
    harness: DrainHarness, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(harness.drain._stopped, "wait", lambda timeout: False)
    harness.drain.exit_when_overdue()
    assert harness.exits == [EXIT_RESTART]
    assert "consumer did not stop within the grace period; exiting" in caplog.text


def test_a_closed_drain_ends_its_thread_and_no_process(harness: DrainHarness) -> None:
    harness.drain.start()
    harness.drain.close()
    harness.drain.exit_when_overdue()
    assert harness.exits == []
    assert not harness.drain._thread.is_alive()
