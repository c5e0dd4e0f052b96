"""The committed OpenAPI document is that of the routes, and it says what holds for every call."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import validate

from api.app import new_app
from api.openapi_document import without_keys
from tests.unit.api.conftest import Harness

COMMITTED = Path(__file__).parents[3] / "docs" / "openapi.json"


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return dict(new_app(access_log=False).api_doc)  # type: ignore[attr-defined]


def calls(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (path, method, operation)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    ]


def test_the_committed_document_is_up_to_date(document: dict[str, Any]) -> None:
    assert json.loads(COMMITTED.read_text()) == json.loads(json.dumps(document)), (
        "run `python -m api.openapi_document > docs/openapi.json`"
    )
    validate(document)


def test_every_call_but_the_open_ones_declares_its_key(document: dict[str, Any]) -> None:
    open_calls = {path for path, _, operation in calls(document) if not operation["security"]}
    assert open_calls == {"/healthz", "/readyz", "/v1/s3-events"}
    for path, _, operation in calls(document):
        if operation["security"]:
            assert {"401", "403", "429"} <= set(operation["responses"]), path


def test_every_call_declares_the_refusals_that_any_call_may_meet(document: dict[str, Any]) -> None:
    for path, method, operation in calls(document):
        expected = {"400", "422"} | ({"404"} if "{" in path else set())
        expected |= {"408", "411", "413", "415"} if "requestBody" in operation else set()
        assert expected <= set(operation["responses"]), (method, path)
        assert all(response["description"] for response in operation["responses"].values()), (method, path)


def test_a_server_that_needs_no_key_says_so(harness: Harness, document: dict[str, Any]) -> None:
    served = harness.client.get("/openapi.json").json or {}
    assert served == json.loads(json.dumps(without_keys(document)))
    assert served["paths"]["/v1/jobs"]["get"]["security"] == [{}, {"bearer": []}]
    assert served["paths"]["/healthz"]["get"]["security"] == []


@pytest.mark.parametrize(
    ("path", "methods"), [("/v1/jobs/retry", {"POST", "OPTIONS"}), ("/v1/jobs/counts", {"GET", "HEAD", "OPTIONS"})]
)
def test_a_path_of_its_own_has_not_the_methods_of_an_id(harness: Harness, path: str, methods: set[str]) -> None:
    allowed = harness.client.options(path).headers["Allow"]
    assert {name.strip() for name in allowed.split(",")} == methods
    refused = harness.client.delete(path)
    assert refused.status_code == 405
    assert {name.strip() for name in refused.headers["Allow"].split(",")} == methods
