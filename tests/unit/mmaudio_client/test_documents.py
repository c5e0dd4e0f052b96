"""The documents of these tests are those of the API, so that the client is tested against what it will meet."""

from __future__ import annotations

import inspect
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import BaseModel

from api.schemas.jobs import ArtifactView, AttemptView, ErrorView, JobPage, JobView, WarningView
from api.schemas.responses import Problem
from api.schemas.uploads import UploadView
from jobs.lifecycle import State
from jobs.request import JobRequest as ServerJobRequest
from jobs.triggers.rule import NewTrigger
from mmaudio_client.models import TERMINAL_STATES, Artifact, Attempt, Job, JobError, JobRequest, JobWarning
from mmaudio_client.submit_fields import SubmitFields
from mmaudio_client.triggers import Triggers
from tests.unit.mmaudio_client.scripted_server import (
    job,
    job_document,
    page_document,
    problem_document,
    upload_document,
)

SOURCES = {"video", "image"}


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


def offered_fields() -> set[str]:
    """The request fields that this server offers; the others are refused when given."""
    described = ServerJobRequest.model_fields.items()
    return {name for name, field in described if not (field.description or "").startswith("Reserved")}


@pytest.mark.parametrize(
    ("kind", "view"),
    [
        (Job, JobView),
        (Artifact, ArtifactView),
        (Attempt, AttemptView),
        (JobError, ErrorView),
        (JobWarning, WarningView),
    ],
)
def test_every_field_of_a_document_is_an_attribute(kind: type[Any], view: type[BaseModel]) -> None:
    assert {field.name for field in fields(kind)} - {"raw"} == set(view.model_fields)


def test_every_field_of_a_request_can_be_submitted_and_read() -> None:
    assert SubmitFields.__optional_keys__ | SOURCES == offered_fields()
    assert {field.name for field in fields(JobRequest)} == offered_fields()


def test_every_field_of_a_trigger_can_be_given() -> None:
    assert set(inspect.signature(Triggers.add).parameters) - {"self"} == set(NewTrigger.model_fields)


def test_previews_are_typed() -> None:
    peaks = {
        "version": 2,
        "channels": 1,
        "sample_rate": 44100,
        "samples_per_pixel": 512,
        "bits": 8,
        "length": 2,
        "data": [-3, 4, -1, 2],
    }
    picture = {
        "url": "/v1/jobs/job_1/artifacts/preview.png?signature=x",
        "format": "png",
        "width": 640,
        "height": 128,
        "size_bytes": 9000,
        "min_hz": 20.0,
        "max_hz": 22050.0,
        "floor_db": -80.0,
    }
    documents = [
        {"take": 0, "seed": 7, "duration_s": 8.0, "peaks": peaks, "spectrogram": picture},
        {"take": 1, "seed": 8, "duration_s": 8.0, "peaks": None, "spectrogram": None},
    ]
    JobView.model_validate(job_document("succeeded", preview=documents))
    first, second = job("succeeded", preview=documents).preview or ()
    assert first.peaks is not None
    assert first.peaks.data == (-3, 4, -1, 2)
    assert first.spectrogram is not None
    assert (first.spectrogram.width, first.seed) == (640, 7)
    assert (second.peaks, second.spectrogram) == (None, None)


def test_a_job_is_typed_down_to_its_times() -> None:
    attempt = {
        "attempt": 1,
        "worker": "w",
        "started_at": "2026-01-01T00:00:01.000Z",
        "finished_at": "2026-01-01T00:00:02.000Z",
        "outcome": "failed",
        "error": {"code": "disk_full", "message": "The disk is full.", "stage": "mux", "retryable": True},
    }
    found = job("failed", attempts=[attempt], warnings=[{"code": "untrained", "message": "Untrained."}])
    assert found.created_at == datetime(2026, 1, 1, tzinfo=UTC)
    assert (found.started_at, found.finished_at) == (None, None)
    assert found.attempts[0].finished_at == datetime(2026, 1, 1, 0, 0, 2, tzinfo=UTC)
    assert found.attempts[0].error == JobError("disk_full", "The disk is full.", "mux", True)
    assert (found.error_message, str(found.error)) == ("The file is empty.", "The file is empty.")
    assert [str(warning) for warning in found.warnings] == ["Untrained."]
    assert (found.request.variant, found.request.prompt, found.request.video) == ("tiny_16k", "rain", None)
    (artifact,) = job("succeeded").artifacts
    assert artifact.expires_at == datetime(2026, 1, 2, tzinfo=UTC)
