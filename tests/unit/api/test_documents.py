"""Every answer is the document of its schema: the same keys in the same order, and times as `...T...Z` in ms."""

from __future__ import annotations

import re
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from api.schemas.jobs import ArtifactView, AttemptView, JobPage, JobView
from api.schemas.queues import QueueList
from api.schemas.triggers import TriggerList, TriggerView
from api.schemas.uploads import UploadView
from api.schemas.variants import VariantList
from api.schemas.view import Timestamp
from api.schemas.workers import WorkerList
from jobs.service.workers import record_heartbeat
from tests.bucket_events import aws
from tests.in_memory_bucket import BUCKET
from tests.unit.api.conftest import Harness
from tests.unit.api.test_s3_events_api import post, trigger

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
TIMESTAMP = get_args(Timestamp)[0]
OPTIONAL = {"upload"}


def names(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def nested(annotation: Any) -> type[BaseModel] | None:
    """Return the document type in an annotation such as `list[JobView] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for argument in get_args(annotation) if (found := nested(argument))), None)


def check(document: dict[str, Any], model: type[BaseModel]) -> None:
    """Check keys, their order, and the format of times, down to the innermost documents."""
    assert [key for key in document if key not in OPTIONAL] == [key for key in names(model) if key not in OPTIONAL]
    for name, field in model.model_fields.items():
        value = document.get(field.alias or name)
        if name.endswith("_at") and value is not None:
            assert TIME.fullmatch(value), (model, name, value)
        inner = nested(field.annotation)
        for part in value if isinstance(value, list) else [value]:
            if inner is not None and part is not None:
                check(part, inner)


def populated(harness: Harness) -> str:
    """Make one row of everything that is shown; return the job's id."""
    harness.add_worker()
    gpu = {"memory_used_bytes": 3, "memory_total_bytes": 10, "utilization": 0.25, "temperature_c": 61.0}
    with harness.db.transaction() as tx:
        record_heartbeat(tx, "w1", state="ready", variants_loaded=["tiny_16k"], memory_bytes=5, gpu=gpu)
    trigger(harness)
    post(harness, aws(BUCKET, "a.mp4", etag=harness.bucket_contents.put("a.mp4").etag))
    job_id = str(harness.submit(prompt="rain")["id"])
    harness.succeed(job_id)
    return job_id


def test_a_job_is_the_document_of_its_schema(harness: Harness) -> None:
    job_id = populated(harness)
    document = harness.client.get(f"/v1/jobs/{job_id}").json or {}
    check(document, JobView)
    check(document["artifacts"][0], ArtifactView)
    check(document["attempts"][0], AttemptView)
    assert (document["state"], document["artifacts"][0]["kind"]) == ("succeeded", "audio")
    assert document["created_at"] == "2026-01-01T12:00:00.000Z"


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/v1/jobs", JobPage),
        ("/v1/triggers", TriggerList),
        ("/v1/workers", WorkerList),
        ("/v1/variants", VariantList),
        ("/v1/queue", QueueList),
    ],
)
def test_a_list_is_the_document_of_its_schema(harness: Harness, path: str, model: type[BaseModel]) -> None:
    populated(harness)
    document = harness.client.get(path).json or {}
    assert document["data"]
    check(document, model)


def test_a_trigger_is_the_document_of_its_schema(harness: Harness) -> None:
    populated(harness)
    url = (harness.client.get("/v1/triggers").json or {})["data"][0]["links"]["self"]
    document = harness.client.get(url).json or {}
    assert document["latest_events"][0]["outcome"] == "submitted"
    check(document, TriggerView)


def test_only_the_announcement_of_an_upload_tells_how_to_send_it(harness: Harness) -> None:
    announced = harness.client.post("/v1/uploads", json={"filename": "a.mp4", "size_bytes": 5}).json or {}
    document = harness.client.get(f"/v1/uploads/{announced['id']}").json or {}
    check(announced, UploadView)
    check(document, UploadView)
    assert announced == {**document, "upload": announced["upload"]}


def test_the_openapi_document_has_the_schemas_of_the_answers(harness: Harness) -> None:
    schemas = (harness.client.get("/openapi.json").json or {})["components"]["schemas"]
    for model in (JobView, ArtifactView, AttemptView, TriggerView, UploadView):
        schema = schemas[model.__name__]
        assert list(schema["properties"]) == names(model)
        for name in names(model):
            if name.endswith("_at"):
                assert "date-time" in str(schema["properties"][name]), (model, name)
    assert set(schemas["AttemptOutcome"]["enum"]) >= {"lost", "requeued"}


def test_every_call_has_a_summary_and_a_description_and_every_field_of_a_request_is_described(
    harness: Harness,
) -> None:
    document = harness.client.get("/openapi.json").json or {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation["summary"], (path, method)
            assert operation["description"], (path, method)
            assert len(operation["tags"]) == 1, (path, method)
            for parameter in operation.get("parameters", []):
                assert parameter.get("description"), (path, method, parameter["name"])
    for name in ("JobRequest", "NewTrigger", "NewUpload", "DryRunBody", "TriggerUpdate"):
        for field, schema in document["components"]["schemas"][name]["properties"].items():
            assert schema.get("description"), (name, field)
