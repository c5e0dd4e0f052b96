"""Variants, queue, workers, health, and the documents about the API itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from openapi_spec_validator import validate
from pydantic import BaseModel

from api.schemas.health import HealthView, ReadyView
from api.schemas.variants import VariantList
from api.schemas.workers import GpuView, WorkerList, WorkerView
from api.server import serve
from jobs.service.workers import mark_worker_stopped, record_heartbeat, register_worker
from jobs.settings import Settings
from tests.unit.api.conftest import Harness


def register(harness: Harness) -> None:
    with harness.db.transaction() as tx:
        register_worker(tx, worker_id="w1", hostname="h", pid=1, device="cpu:0", slots=4, variants=["tiny_16k"])
        record_heartbeat(tx, "w1", state="ready", variants_loaded=["tiny_16k"], memory_bytes=5)


def test_variants_show_limits_and_whether_a_worker_runs_them(harness: Harness) -> None:
    data = (harness.client.get("/v1/variants").json or {})["data"]
    assert [(v["name"], v["default"], v["installed"]) for v in data] == [("tiny_16k", True, False)]
    register(harness)
    answer = harness.client.get("/v1/variants").json or {}
    assert answer["data"][0]["installed"] is True
    assert (answer["limits"]["max_upload_bytes"], answer["limits"]["max_num_steps"]) == (1000, 100)


def test_workers_are_idle_busy_and_lost(harness: Harness) -> None:
    register(harness)

    def state() -> tuple[str, list[str]]:
        worker = (harness.client.get("/v1/workers").json or {})["data"][0]
        return worker["state"], worker["running_jobs"]

    assert state() == ("idle", [])
    job = harness.submit()
    harness.claim(job["id"])
    assert state() == ("busy", [job["id"]])
    harness.clock.advance(60)
    assert state()[0] == "lost"


@pytest.mark.parametrize("lacks", [None, [], ["landlock", "seccomp"]])
def test_a_worker_says_what_its_kernel_lacks(harness: Harness, lacks: list[str] | None) -> None:
    with harness.db.transaction() as tx:
        register_worker(
            tx, worker_id="w1", hostname="h", pid=1, device="cpu:0", slots=4, variants=[], sandbox_lacks=lacks
        )
    assert (harness.client.get("/v1/workers").json or {})["data"][0]["sandbox_lacks"] == lacks


def test_the_queue_is_summed(harness: Harness) -> None:
    harness.submit()
    running = harness.submit()
    harness.claim(running["id"])
    harness.clock.advance(5)
    answer = harness.client.get("/v1/queue").json or {}
    assert (answer["queued"], answer["running"], answer["data"][0]["oldest_queued_age_s"]) == (1, 1, 5.0)


def test_health_and_readiness(harness: Harness, tmp_path: Path) -> None:
    assert harness.client.get("/healthz").status_code == 200
    assert (harness.client.get("/readyz").json or {})["checks"] == {"database": "ok", "storage": "ok"}


def test_readiness_names_what_is_down(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    from jobs.storage.errors import StorageUnavailableError

    def down() -> None:
        raise StorageUnavailableError("no answer", "local")

    monkeypatch.setattr(harness.store, "check", down)
    answer = harness.client.get("/readyz")
    assert (answer.status_code, (answer.json or {})["checks"]["storage"]) == (503, "down")


def test_the_openapi_document_is_valid_and_names_every_call(harness: Harness) -> None:
    document = harness.client.get("/openapi.json").json or {}
    validate(document)
    assert document["openapi"].startswith("3.1")
    served = {rule.rule.replace("<", "{").replace(">", "}") for rule in harness.app.url_map.iter_rules()}
    expected = {path for path in served if path.startswith(("/v1", "/fal")) or path in {"/healthz", "/readyz"}}
    assert set(document["paths"]) == expected
    submit = document["paths"]["/v1/jobs"]["post"]
    assert [parameter["name"] for parameter in submit["parameters"]] == ["Idempotency-Key"]
    assert document["components"]["schemas"]["JobRequest"]["properties"]["prompt"]["maxLength"] == 20_000


def problem_type_of(path: str) -> str:
    """Return the media type of refusals; fal's clients know theirs only."""
    return "application/json" if path.startswith("/fal") else "application/problem+json"


def test_the_openapi_document_tells_refusals_as_problem_documents(harness: Harness) -> None:
    document = harness.client.get("/openapi.json").json or {}
    for path, operations in document["paths"].items():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                if int(status) >= 400 and (path, status) != ("/readyz", "503"):
                    assert list(response["content"]) == [problem_type_of(path)], (path, status)


@pytest.mark.parametrize(
    ("path", "view"), [("/healthz", HealthView), ("/readyz", ReadyView), ("/v1/variants", VariantList)]
)
def test_answers_have_the_documented_fields_and_no_others(harness: Harness, path: str, view: type[BaseModel]) -> None:
    answer = harness.client.get(path).json or {}
    view.model_validate(answer)
    assert set(answer) == set(view.model_fields)


def test_the_dashboard_loads_files_of_this_server_only(harness: Harness) -> None:
    page = harness.client.get("/")
    assert page.status_code == 200
    policy = page.headers["Content-Security-Policy"]
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert "http://" not in page.text.replace("http://www.w3.org", "")
    for name in ("style.css", "dashboard.js", "icon.svg"):
        assert f"/static/{name}" in page.text
        with harness.client.get(f"/static/{name}") as answer:
            assert answer.status_code == 200
    with harness.client.get("/docs/swagger") as documentation:
        assert documentation.status_code == 200


@pytest.mark.parametrize(
    ("host", "address"), [("localhost", "127.0.0.1"), ("127.0.0.1", "127.0.0.1"), ("[::1]", "::1")]
)
def test_the_server_listens_on_the_address_of_a_name(host: str, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    servers = []

    class Served:
        def __init__(self, *_: object, **options: object) -> None:
            servers.append(options)

        def serve(self, **options: object) -> None:
            servers.append(options)

    monkeypatch.setattr("granian.server.Server", Served)
    serve(Settings(api_bind=f"{host}:8000", broker_url="redis://localhost:1/0"))
    assert (servers[0]["address"], servers[0]["port"]) == (address, 8000)
    # granian's own loader puts the current folder first on the module path
    assert callable(servers[1]["target_loader"])
    assert servers[1]["wrap_loader"] is False


def test_draining_a_worker_is_idempotent(harness: Harness) -> None:
    register(harness)
    for _ in range(2):
        answer = harness.client.post("/v1/workers/w1/drain")
        assert (answer.status_code, (answer.json or {})["drain_requested"]) == (202, True)
        harness.clock.advance(1)
    WorkerView.model_validate(answer.json)
    with harness.db.transaction() as tx:
        assert record_heartbeat(tx, "w1", state="draining", variants_loaded=[], memory_bytes=5) is True
    workers = (harness.client.get("/v1/workers").json or {})["data"]
    assert [(worker["state"], worker["drain_requested"]) for worker in workers] == [("draining", True)]
    with harness.db.transaction() as tx:
        mark_worker_stopped(tx, "w1")
    answer = harness.client.post("/v1/workers/w1/drain")
    assert (answer.status_code, (answer.json or {})["state"]) == (200, "stopped")


def test_the_drain_of_an_unknown_worker_is_a_404(harness: Harness) -> None:
    answer = harness.client.post("/v1/workers/w1/drain")
    assert (answer.status_code, (answer.json or {})["code"]) == (404, "worker_not_found")


def test_another_site_cannot_drain_a_worker(harness: Harness) -> None:
    register(harness)
    answer = harness.client.post("/v1/workers/w1/drain", headers={"Sec-Fetch-Site": "cross-site"})
    assert (answer.status_code, (answer.json or {})["code"]) == (403, "cross_site")


def test_workers_show_the_figures_of_their_gpu(harness: Harness) -> None:
    register(harness)
    figures = {"memory_used_bytes": 3, "memory_total_bytes": 10, "utilization": 0.25, "temperature_c": 61}
    assert (harness.client.get("/v1/workers").json or {})["data"][0]["gpu"] is None
    with harness.db.transaction() as tx:
        record_heartbeat(tx, "w1", state="ready", variants_loaded=[], memory_bytes=5, gpu=figures)
    answer = harness.client.get("/v1/workers").json or {}
    assert WorkerList.model_validate(answer).data[0].gpu == GpuView(**figures)
    assert set(answer["data"][0]) == set(WorkerView.model_fields)
