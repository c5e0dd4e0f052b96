"""Dependencies that hang or fail: few threads wait for them, for a short time, and the others are answered at once."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from sqlalchemy.exc import DBAPIError, InternalError, OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from api.bounded_store import BoundedBucketReader, StoreGate, bounded_store
from api.circuit_breaker import OPEN_S, CircuitBreaker
from api.context import EXTENSION, AppContext
from api.publishing import PUBLISHERS, Publishing
from api.readiness import LIMIT_S, ReadinessChecks
from api.shares import Places, ThreadShares
from jobs.db.database import Database
from jobs.db.time_limits import TimeLimits
from jobs.storage.errors import ObjectNotFoundError, StorageUnavailableError
from tests.in_memory_bucket import InMemoryBucket
from tests.unit.api.conftest import Harness, MonotonicClock

PATIENCE_S = 30.0


def context_of(harness: Harness) -> AppContext:
    context: AppContext = harness.app.extensions[EXTENSION]
    return context


class Store:
    """A store whose `head` does what a test says."""

    backend = "test"

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.error: Exception | None = None
        self.entered, self.release = threading.Semaphore(0), threading.Event()
        self.release.set()

    def head(self, key: str) -> str:
        self.calls.append(key)
        self.entered.release()
        self.release.wait(PATIENCE_S)
        if self.error is not None:
            raise self.error
        return "metadata"

    put_stream = head

    def presigned_get(self, key: str) -> str:
        return f"https://store/{key}"

    def check(self) -> None:
        self.calls.append("check")


def gated(store: Store, clock: MonotonicClock, places: int = 2) -> Any:
    return bounded_store(store, store, StoreGate(CircuitBreaker(clock), Places(places)))  # type: ignore[arg-type]


def test_a_store_that_failed_is_not_called_for_a_while_and_then_by_one_caller() -> None:
    store, clock = Store(), MonotonicClock()
    bounded = gated(store, clock)
    store.error = StorageUnavailableError("no answer", "test")
    for _ in range(3):
        with pytest.raises(StorageUnavailableError):
            bounded.head("a")
    assert store.calls == ["a"]
    clock.advance(OPEN_S)
    store.error = None
    store.release.clear()
    with ThreadPoolExecutor() as pool:
        trial = pool.submit(bounded.head, "b")
        assert store.entered.acquire(timeout=PATIENCE_S)
        assert store.entered.acquire(timeout=PATIENCE_S)
        with pytest.raises(StorageUnavailableError):
            bounded.head("c")
        store.release.set()
        assert trial.result(PATIENCE_S) == "metadata"
    assert bounded.head("d") == "metadata"
    assert store.calls == ["a", "b", "d"]


def test_few_callers_wait_for_a_store_that_hangs() -> None:
    store = Store()
    bounded = gated(store, MonotonicClock())
    store.release.clear()
    with ThreadPoolExecutor() as pool:
        waiting = [pool.submit(bounded.head, "a") for _ in range(2)]
        for _ in waiting:
            assert store.entered.acquire(timeout=PATIENCE_S)
        with pytest.raises(StorageUnavailableError):
            bounded.head("b")
        assert bounded.presigned_get("c") == "https://store/c"
        bounded.check()
        store.release.set()
        assert [one.result(PATIENCE_S) for one in waiting] == ["metadata"] * 2
    assert store.calls == ["a", "a", "check"]


def test_an_answer_that_the_caller_does_not_like_is_an_answer() -> None:
    store, clock = Store(), MonotonicClock()
    bounded = gated(store, clock)
    store.error = ObjectNotFoundError("none", "test")
    for _ in range(2):
        with pytest.raises(ObjectNotFoundError):
            bounded.head("a")
    assert store.calls == ["a", "a"]


def test_buckets_share_the_breaker_of_the_store() -> None:
    breaker = CircuitBreaker(MonotonicClock())
    breaker.record_failure()
    reader = BoundedBucketReader(InMemoryBucket(), StoreGate(breaker, Places(1)))
    with pytest.raises(StorageUnavailableError):
        reader.head_object("videos", "a.mp4")


def test_a_submit_with_a_ready_upload_calls_no_store(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    upload = harness.upload()

    def down(*_: object) -> None:
        raise StorageUnavailableError("no answer", "local")

    monkeypatch.setattr(harness.store, "head", down)
    assert harness.submit(video=upload)["state"] == "queued"


def test_a_submit_with_a_pending_upload_is_503_with_a_time_to_wait(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    announced = harness.client.post("/v1/uploads", json={"filename": "a.mp4", "size_bytes": 5}).json or {}

    def down(*_: object) -> None:
        raise StorageUnavailableError("no answer", "local")

    monkeypatch.setattr(harness.store, "head", down)
    answer = harness.client.post("/v1/jobs", json={"video": announced["id"]})
    assert (answer.status_code, (answer.json or {})["code"]) == (503, "storage_unavailable")
    assert answer.headers["Retry-After"] == "5"


@pytest.mark.parametrize(("threads", "shares"), [(32, (16, 8, 4)), (2, (1, 1, 1)), (512, (256, 128, 64))])
def test_slow_work_never_takes_every_thread(threads: int, shares: tuple[int, int, int]) -> None:
    found = ThreadShares.of(threads)
    assert (found.waiting, found.uploads, found.store) == shares
    assert sum(shares) < found.threads_needed(threads)


def test_one_wait_too_many_is_answered_at_once(harness: Harness) -> None:
    job = harness.submit()
    places = context_of(harness).waiting_places
    with ThreadPoolExecutor() as pool:
        held = [places.place() for _ in range(16)]
        assert all(place.__enter__() for place in held)
        for path, headers in ((f"{job['links']['self']}?wait=60", {}), (job["links"]["self"], {"Prefer": "wait=60"})):
            asked = pool.submit(harness.client.get, path, headers=headers)
            answer = asked.result(PATIENCE_S)
            assert (answer.status_code, (answer.json or {})["state"]) == (200, "queued")
            assert answer.headers["Retry-After"] == "5"
            assert "Preference-Applied" not in answer.headers
        for place in held:
            place.__exit__(None, None, None)
    answer = harness.client.get(f"{job['links']['self']}?wait=0.1")
    assert "Retry-After" not in answer.headers


def test_one_upload_too_many_is_503_and_can_be_sent_again(harness: Harness, caplog: pytest.LogCaptureFixture) -> None:
    announced = harness.client.post("/v1/uploads", json={"filename": "a.mp4", "size_bytes": 5}).json or {}
    url = announced["upload"]["url"]
    held = [context_of(harness).upload_places.place() for _ in range(8)]
    assert all(place.__enter__() for place in held)
    for _ in range(2):
        answer = harness.client.put(url, data=b"video")
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert sum("too many uploads" in message for message in caplog.messages) == 1
    for place in held:
        place.__exit__(None, None, None)
    assert harness.client.put(url, data=b"video").status_code == 204


def join_threads(name: str) -> None:
    for thread in threading.enumerate():
        if thread.name == name:
            thread.join(PATIENCE_S)


def test_readiness_does_not_wait_for_what_hangs_and_runs_it_once(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, release, begun = MonotonicClock(), threading.Event(), []
    context_of(harness).readiness = ReadinessChecks(clock)

    def hang() -> None:
        begun.append(1)
        join_threads("check-database")  # its time would be up as well
        clock.advance(LIMIT_S + 1)  # the time is up already
        release.wait(PATIENCE_S)

    monkeypatch.setattr(harness.store, "check", hang)
    before = threading.active_count()
    for _ in range(5):
        answer = harness.client.get("/readyz")
        assert (answer.status_code, (answer.json or {})["checks"]) == (503, {"database": "ok", "storage": "down"})
    assert len(begun) == 1
    assert threading.active_count() <= before + 1
    monkeypatch.setattr(harness.store, "check", lambda: None)
    release.set()
    join_threads("check-storage")
    assert harness.client.get("/readyz").status_code == 200


def test_a_check_says_what_the_database_said_without_the_drivers_names() -> None:
    def fail() -> None:
        raise OperationalError("SELECT 1", {}, Exception("connection refused\n\tIs the server running?"))

    assert ReadinessChecks().failures({"database": fail}) == {"database": "connection refused Is the server running?"}


def test_any_failure_of_a_check_is_told(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise ValueError("no such endpoint")

    monkeypatch.setattr(harness.db, "check", broken)
    assert (harness.client.get("/readyz").json or {})["checks"] == {"database": "down", "storage": "ok"}


def test_liveness_needs_no_dependency(harness: Harness) -> None:
    context = context_of(harness)
    context.database = context.store = context.broker = None  # type: ignore[assignment]
    assert harness.client.get("/healthz").status_code == 200


def test_few_threads_publish_and_what_the_others_left_is_published_by_them() -> None:
    publishing, release, entered = Publishing(), threading.Event(), threading.Semaphore(0)
    dispatched: list[tuple[str, ...]] = []

    def dispatch(variants: tuple[str, ...]) -> None:
        dispatched.append(variants)
        entered.release()
        release.wait(PATIENCE_S)

    with ThreadPoolExecutor() as pool:
        running = []
        for name in ("a", "b"):
            running.append(pool.submit(publishing.publish, name, dispatch))
            assert entered.acquire(timeout=PATIENCE_S)
        assert len(running) == PUBLISHERS
        publishing.publish("c", dispatch)  # returns although both are busy
        assert dispatched == [("a",), ("b",)]
        release.set()
        for one in running:
            one.result(PATIENCE_S)
        assert entered.acquire(timeout=PATIENCE_S)
    assert dispatched[2:] == [("c",)]


def test_a_request_does_not_wait_for_a_broker_that_hangs(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    monkeypatch.setattr("api.publishing.WAIT_S", 0.05)
    monkeypatch.setattr("api.context.dispatch", lambda *_, **__: release.wait(PATIENCE_S))
    assert harness.client.post("/v1/jobs", json={"prompt": "rain"}).status_code == 202
    release.set()


def refused(code: str, kind: type[DBAPIError] = InternalError) -> DBAPIError:
    error = psycopg.errors.lookup(code)("made by the test\nLINE 1: SELECT secret FROM jobs\n               ^")
    return kind("SELECT secret FROM jobs", {}, error)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (refused("25006"), 503),
        (refused("25P03"), 503),
        (refused("25P04"), 503),
        (refused("40001", OperationalError), 503),
        (refused("53200", OperationalError), 503),
        (refused("53300", OperationalError), 503),
        (refused("55P03", OperationalError), 503),
        (refused("57014", OperationalError), 503),
        (refused("57P01", OperationalError), 503),
        (refused("08006", OperationalError), 503),
        (refused("58030", OperationalError), 503),
        (refused("28P01", OperationalError), 503),
        (PoolTimeoutError("the pool is empty"), 503),
        (refused("54001", OperationalError), 500),
        (refused("42601", ProgrammingError), 500),
        (refused("42P01", ProgrammingError), 500),
        (refused("XX000"), 503),
    ],
)
def test_a_fault_of_the_database_is_told_by_its_code(
    harness: Harness,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    status: int,
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("api.routes.jobs.list_jobs", fail)
    with caplog.at_level(logging.WARNING):
        answer = harness.client.get("/v1/jobs")
    assert answer.status_code == status
    assert "SELECT" not in answer.text
    if status == 503:
        assert (answer.headers["Retry-After"], (answer.json or {})["code"]) == ("5", "database_unavailable")
        assert "secret" not in caplog.text
        code = getattr(getattr(error, "orig", None), "sqlstate", None)
        if code:
            assert f"(SQLSTATE {code}" in caplog.text
            assert type(error).__name__ not in caplog.text
            assert type(getattr(error, "orig", None)).__name__ not in caplog.text


def test_a_read_only_database_is_named_so(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise refused("25006")

    monkeypatch.setattr("api.submission.submit_and_commit", fail)
    answer = harness.client.post("/v1/jobs", json={"prompt": "rain"})
    assert answer.status_code == 503
    assert "accepts no changes" in (answer.json or {})["detail"]


def test_a_database_that_did_not_answer_is_not_called_for_a_while(harness: Harness) -> None:
    breaker = CircuitBreaker(harness.monotonic)
    limited = Database(str(harness.db.url), limits=TimeLimits(5, breaker)).of_platform()
    context_of(harness).database = limited
    assert harness.client.get("/v1/jobs").status_code == 200
    breaker.record_failure()
    assert harness.client.get("/v1/jobs").status_code == 503
    harness.monotonic.advance(OPEN_S)
    assert harness.client.get("/v1/jobs").status_code == 200
    limited.close()


def test_a_repeated_transaction_ends_with_its_time(harness: Harness) -> None:
    clock, tries = MonotonicClock(), []
    limited = Database(
        str(harness.db.url),
        limits=TimeLimits(5, CircuitBreaker(clock)),
        sleep=lambda _: None,
        monotonic=clock,
    ).of_platform()

    def step(_: Any) -> None:
        tries.append(1)
        clock.advance(3)
        raise refused("57P03", OperationalError)

    with pytest.raises(OperationalError):
        limited.run(step, repeatable=True)
    assert len(tries) == 2
    limited.close()
