"""When a worker takes no jobs, and when it takes them again."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from jobs.errors import (
    BucketFailedError,
    InfrastructureError,
    StorageFailedError,
    StorageRefusedError,
    VariantFailedError,
)
from jobs.lifecycle import Dependency
from workers.runner.availability import LONGEST_PAUSE_S, VARIANT_PAUSE_S, Availability

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Worker:
    """An availability whose store fails with `error`, and whose time stands still."""

    def __init__(self) -> None:
        self.time = 100.0
        self.error: InfrastructureError | None = None
        self.checks = 0
        self.changes = 0
        self.availability = Availability(
            {Dependency.STORE: self.check},
            variants=["small_16k", "tiny_16k"],
            worker_id="w1",
            monotonic=lambda: self.time,
            now=lambda: NOON,
        )
        self.availability.on_change = self.changed

    def check(self) -> None:
        self.checks += 1
        if self.error is not None:
            raise self.error

    def changed(self) -> None:
        self.changes += 1

    def tick(self, after_s: float) -> None:
        self.time += after_s
        self.availability.tick()


@pytest.fixture
def worker() -> Worker:
    return Worker()


def test_a_worker_proves_what_it_needs_before_its_first_job(worker: Worker) -> None:
    worker.error = StorageRefusedError("Host h may not use the store.")
    worker.availability.check_all()
    assert not worker.availability.available
    assert worker.availability.trouble() == {
        "code": "storage_refused",
        "message": "Host h may not use the store.",
        "since": NOON.isoformat(),
    }


def test_what_a_check_found_is_not_replaced_by_what_a_job_met(worker: Worker) -> None:
    met = StorageFailedError("The object store did not answer.")
    worker.error = StorageFailedError("Host h cannot use the store s3://sounds: SlowDown.")
    worker.availability.report(met)
    worker.tick(1.1)
    worker.availability.report(met)
    trouble = worker.availability.trouble()
    assert trouble is not None
    assert trouble["message"] == "Host h cannot use the store s3://sounds: SlowDown."
    worker.error = StorageRefusedError("Host h may not use the store.")
    worker.tick(LONGEST_PAUSE_S)
    trouble = worker.availability.trouble()
    assert trouble is not None
    assert trouble["code"] == "storage_refused"


def test_trouble_lasts_until_a_check_succeeds(worker: Worker) -> None:
    worker.error = StorageFailedError("away")
    worker.availability.report(worker.error)
    worker.tick(1.1)
    assert (worker.checks, worker.availability.available) == (1, False)
    worker.error = None
    worker.tick(0.1)
    assert worker.checks == 1  # the pause between two checks grows
    worker.tick(2)
    assert worker.availability.available
    assert worker.availability.trouble() is None
    assert worker.changes == 2


def test_the_pause_between_checks_has_an_upper_bound(worker: Worker) -> None:
    worker.error = StorageFailedError("away")
    worker.availability.report(worker.error)
    for _ in range(10):
        worker.tick(LONGEST_PAUSE_S)
    assert worker.checks == 10


def test_trouble_that_the_check_does_not_see_is_checked_less_often_each_time(worker: Worker) -> None:
    error = StorageFailedError("large files fail")
    worker.availability.report(error)
    worker.tick(1.1)
    assert worker.availability.available
    worker.availability.report(error)
    worker.tick(1.1)
    assert not worker.availability.available
    worker.tick(1)
    assert worker.availability.available


def test_many_threads_that_meet_one_trouble_change_nothing_twice(worker: Worker) -> None:
    for _ in range(5):
        worker.availability.report(StorageFailedError("away"))
    assert worker.changes == 1


def test_the_trouble_of_a_callers_bucket_stops_no_worker(worker: Worker) -> None:
    worker.availability.report(BucketFailedError("theirs is away"))
    assert worker.availability.available
    assert worker.changes == 0


def test_a_variant_that_cannot_be_loaded_is_left_alone_for_a_while(worker: Worker) -> None:
    worker.availability.report(VariantFailedError("no weights", "tiny_16k"))
    assert worker.availability.available
    assert worker.availability.usable_variants() == ["small_16k"]
    worker.time += VARIANT_PAUSE_S
    assert worker.availability.usable_variants() == ["small_16k", "tiny_16k"]
    worker.availability.report(VariantFailedError("no weights", "tiny_16k"))
    worker.time += VARIANT_PAUSE_S
    assert worker.availability.failed_variants() == {"tiny_16k"}  # longer each time


def test_a_check_that_breaks_proves_nothing(worker: Worker, caplog: pytest.LogCaptureFixture) -> None:
    worker.availability.report(StorageFailedError("away"))
    worker.availability._checks[Dependency.STORE] = lambda: 1 / 0  # type: ignore[assignment]
    worker.tick(1.1)
    assert not worker.availability.available
    assert "the check of the store broke" in caplog.text


def test_waiting_ends_with_the_trouble_or_when_told(worker: Worker) -> None:
    assert worker.availability.wait(Dependency.STORE, 10, lambda: False)
    worker.availability.report(StorageFailedError("away"))
    assert not worker.availability.wait(Dependency.STORE, 0, lambda: False)
    assert not worker.availability.wait(Dependency.STORE, 10, lambda: True)
