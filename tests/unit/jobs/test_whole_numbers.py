"""JSON has one kind of number: 25.0 is the integer 25, and 25.5, "25" and true are not."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from api.schemas.api_keys import RotateApiKey
from api.schemas.bulk_retry import BulkRetryBody
from api.schemas.tenants import TenantChange
from api.schemas.triggers import BackfillBody
from api.schemas.uploads import NewUpload
from api.schemas.webhooks import RotateBody
from jobs.request import JobRequest

FIELDS: list[tuple[type[BaseModel], str, dict[str, Any]]] = [
    (JobRequest, "num_steps", {}),
    (JobRequest, "num_samples", {}),
    (JobRequest, "seed", {}),
    (JobRequest, "queue_ttl_s", {}),
    (JobRequest, "run_timeout_s", {}),
    (JobRequest, "channels", {}),
    (BulkRetryBody, "limit", {"state": "failed"}),
    (BackfillBody, "limit", {}),
    (BackfillBody, "max_jobs", {}),
    (NewUpload, "size_bytes", {"filename": "a"}),
    (RotateBody, "overlap_s", {}),
    (RotateApiKey, "grace_s", {}),
    (TenantChange, "max_running", {}),
]


@pytest.mark.parametrize(("model", "field", "others"), FIELDS)
def test_a_fraction_of_zero_is_an_integer(model: type[BaseModel], field: str, others: dict[str, Any]) -> None:
    value = getattr(model.model_validate({**others, field: 2.0}), field)
    assert (type(value), value) == (int, 2)


@pytest.mark.parametrize("value", [2.5, "2", True, float("inf"), [2]])
@pytest.mark.parametrize(("model", "field", "others"), FIELDS)
def test_other_values_are_not(model: type[BaseModel], field: str, others: dict[str, Any], value: Any) -> None:
    with pytest.raises(ValidationError):
        model.model_validate({**others, field: value})
