"""Jobs as predictions of Replicate and as requests of fal: pure mappings, read by the official clients."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from replicate.prediction import Prediction

from jobs.compat import fal_request, replicate_prediction
from jobs.compat.job_log import JobProgress
from jobs.compat.replicate_model import variant_of_model, variant_of_version
from jobs.compat.replicate_prediction import RunningMoment, input_source, prediction_document
from jobs.db.tables import Artifact, Job
from jobs.lifecycle import ArtifactKind, Stage, State

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
UPLOAD = "upl_" + "a" * 32
BASE = "https://sounds.example.com"


REQUEST = {"video": UPLOAD, "prompt": "rain", "duration_s": 2.0, "num_steps": 4, "cfg_strength": 4.5, "seed": 7}


@dataclass(frozen=True)
class Urls:
    base: str = BASE
    now: datetime = NOW

    def artifact(self, job_id: str, name: str) -> str:
        return f"{self.base}/v1/jobs/{job_id}/artifacts/{name}?expires=1&signature=2"


def job_in(state: State, **fields: Any) -> Job:
    ended = state.is_terminal
    values: dict[str, Any] = {
        "id": "job_1", "tenant": "default", "state": state, "variant": "tiny_16k", "attempt": 1, "max_attempts": 3,
        "request": REQUEST,
        "stage": Stage.SAMPLE if state is State.RUNNING else None, "step": 2 if state is State.RUNNING else None,
        "error": {"code": "media_unreadable", "message": "It is no video.", "stage": "decode", "retryable": False}
        if state is State.FAILED else None,
        "warnings": [], "created_at": NOW, "started_at": NOW + timedelta(seconds=1),
        "finished_at": NOW + timedelta(seconds=4) if ended else None,
    }  # fmt: skip
    return Job(**{**values, **fields})


def artifact(name: str, kind: ArtifactKind, sample: int = 0, *, expires_at: datetime | None = None) -> Artifact:
    return Artifact(
        job_id="job_1", name=name, kind=kind, format="x", content_type=f"{kind}/x", size_bytes=10, take=sample,
        seed=7, expires_at=expires_at, deleted_at=None,
    )  # fmt: skip


BOTH = [artifact("audio.flac", ArtifactKind.AUDIO), artifact("video.mp4", ArtifactKind.VIDEO)]


@pytest.mark.parametrize(
    ("state", "status"),
    [
        (State.QUEUED, "starting"),
        (State.RUNNING, "processing"),
        (State.SUCCEEDED, "succeeded"),
        (State.FAILED, "failed"),
        (State.CANCELED, "canceled"),
    ],
)
def test_the_official_client_reads_every_state(state: State, status: str) -> None:
    document = prediction_document(job_in(state), BOTH if state is State.SUCCEEDED else [], Urls())
    read = Prediction(**document)

    assert read.status == status
    assert read.error == ("It is no video." if state is State.FAILED else None)
    assert (read.output is not None) == (state is State.SUCCEEDED)
    assert (read.metrics == {}) == (not state.is_terminal)
    assert read.input == {
        "video": f"{BASE}/v1/files/{UPLOAD}", "prompt": "rain", "duration": 2.0, "num_steps": 4, "cfg_strength": 4.5,
        "seed": 7,
    }  # fmt: skip


def test_the_output_is_the_video_of_the_first_sample_or_its_sound() -> None:
    done = job_in(State.SUCCEEDED)
    assert "/video.mp4?" in prediction_document(done, BOTH, Urls())["output"]
    assert prediction_document(done, BOTH, Urls())["output"].endswith("&redirect=0")
    sounds = [artifact("audio-1.flac", ArtifactKind.AUDIO), artifact("audio-2.flac", ArtifactKind.AUDIO, 1)]
    assert "/audio-1.flac?" in prediction_document(done, sounds, Urls())["output"]


def test_an_expired_output_is_said_to_be_removed() -> None:
    gone = [artifact("audio.flac", ArtifactKind.AUDIO, expires_at=NOW)]
    document = prediction_document(job_in(State.SUCCEEDED), gone, Urls())
    assert (document["output"], document["data_removed"]) == (None, True)
    assert fal_request.result_document("job_1", fal_request.made_by(gone, NOW), Urls()) == {}


def test_a_document_of_an_earlier_moment_tells_nothing_later() -> None:
    moment = RunningMoment(JobProgress(7, 4, 1, Stage.SAMPLE, 1), NOW)
    document = prediction_document(job_in(State.SUCCEEDED), BOTH, Urls(), moment=moment)
    assert (document["status"], document["output"], document["completed_at"]) == ("processing", None, None)
    assert document["metrics"] == {}
    assert "4/4" not in document["logs"]


def test_hosted_input_becomes_a_request() -> None:
    given = {"prompt": "x", "video": f"{BASE}/v1/files/{UPLOAD}", "image": None, "duration": 8.0, "seed": -1}
    fields = replicate_prediction.request_fields(given, variant="tiny_16k", bases=[BASE])
    assert fields == {"prompt": "x", "video": UPLOAD, "duration_s": 8.0, "variant": "tiny_16k"}
    theirs = {"prompt": "x", "video_url": f"{BASE}/v1/files/{UPLOAD}", "mask_away_clip": False, "seed": None}
    fields = fal_request.request_fields(theirs, variant="tiny_16k", bases=[BASE])
    assert fields == {"prompt": "x", "video": UPLOAD, "mask_away_clip": False, "variant": "tiny_16k"}


def test_only_urls_of_this_server_are_taken_for_uploads() -> None:
    for url in (
        f"https://evil.example/v1/files/{UPLOAD}",
        f"{BASE}.evil.example/v1/files/{UPLOAD}",
        f"{BASE}/v1/files/{UPLOAD}/x",
        f"{BASE}/v1/files/upl_1",
    ):
        assert input_source(url, [BASE, ""]) == url
    assert input_source(f"{BASE}/v1/files/{UPLOAD}", ["", BASE]) == UPLOAD


def test_names_of_models_and_versions_stand_for_variants() -> None:
    offered = ("large_44k_v2", "tiny_16k")
    assert variant_of_model("mmaudio", offered) == "large_44k_v2"
    assert variant_of_model("tiny_16k", offered) == "tiny_16k"
    assert variant_of_model("whisper", offered) is None
    assert variant_of_model("mmaudio", ()) is None
    for version, variant in (
        ("tiny_16k", "tiny_16k"),
        ("zsxkib/mmaudio:tiny_16k", "tiny_16k"),
        ("zsxkib/mmaudio", "large_44k_v2"),
        ("62871fb59889b2d7c13777f08deb3b36bdff88f7e1d53a50ad7694548a41b484", "large_44k_v2"),
        ("owner/whisper", None),
        ("v1", None),
        ("", None),
    ):
        assert variant_of_version(version, offered) == variant


def test_fals_status_counts_the_requests_before_it_and_tells_errors() -> None:
    def status(state: State, **fields: Any) -> dict[str, Any]:
        document: dict[str, Any] = fal_request.job_status_document(
            job_in(state), f"{BASE}/fal-ai/mmaudio-v2", queue_position=3, with_logs=True, **fields
        )
        return document

    assert (status(State.QUEUED)["status"], status(State.QUEUED)["queue_position"]) == ("IN_QUEUE", 2)
    running = status(State.RUNNING)
    assert (running["status"], "queue_position" in running) == ("IN_PROGRESS", False)
    assert running["logs"][-1]["message"] == " 50%|█████     | 2/4"
    failed = status(State.FAILED)
    assert (failed["status"], failed["error"], failed["error_type"]) == (
        "COMPLETED", "It is no video.", "media_unreadable",
    )  # fmt: skip
    assert status(State.SUCCEEDED)["metrics"] == {"inference_time": 3.0}
    assert "error" not in status(State.SUCCEEDED)


def test_fals_webhook_tells_the_result_or_the_error() -> None:
    made = fal_request.made_by(BOTH, NOW)
    done = fal_request.webhook_document(job_in(State.SUCCEEDED), made, Urls())
    assert (done["status"], done["payload"]["video"]["file_size"]) == ("OK", 10)
    failed = fal_request.webhook_document(job_in(State.FAILED), [], Urls())
    assert (failed["status"], failed["error"]) == ("ERROR", "It is no video.")
    assert fal_request.webhook_document(job_in(State.CANCELED), [], Urls())["payload"]["error_type"] == "canceled"
