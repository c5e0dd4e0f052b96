"""The documents of these tests are those of the API, so that the client is tested against what it will meet."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from api.schemas.jobs import JobPage, JobView
from api.schemas.responses import Problem
from api.schemas.uploads import UploadView
from jobs.lifecycle import State
from mmaudio_client.models import TERMINAL_STATES
from tests.unit.mmaudio_client.scripted_server import job_document, page_document, problem_document, upload_document


@pytest.mark.parametrize(
    ("view", "document"),
    [
        *((JobView, job_document(state)) for state in State),
        (JobPage, page_document(job_document(), following="/v1/jobs?cursor=c")),
        (UploadView, upload_document("PUT")),
        (UploadView, upload_document("POST")),
        (Problem, problem_document(422, "invalid_request", "No.", errors=[{"field": "a", "message": "b"}])),
    ],
)
def test_the_scripted_documents_are_those_of_the_api(view: type[BaseModel], document: dict[str, Any]) -> None:
    names = {field.alias or name for name, field in view.model_fields.items()}
    assert set(document) <= names
    view.model_validate(document)


def test_the_client_knows_the_terminal_states_of_the_platform() -> None:
    assert {state for state in State if state.is_terminal} == TERMINAL_STATES
