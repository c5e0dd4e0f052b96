"""Jobs side by side in one worker: what one of them does or shows changes nothing for the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.lifecycle import Stage, State
from jobs.service.cancel import cancel
from jobs.service.queries import job_artifacts
from jobs.shared_features import PREFIX
from mmaudio_model.demo_video import render_demo_video
from tests.integration.conftest import TENANT, RealHouse
from tests.servers.commands import wait_until

# Seconds; these jobs take a few on a machine with nothing else to do.
PATIENCE_S = 240.0
ON_SQLITE = pytest.mark.parametrize("house", ["sqlite+folder"], indirect=True)


def sounds(house: RealHouse, job_id: str) -> list[str]:
    """Return the SHA-256 of a job's sounds."""
    with house.db.reading() as tx:
        return [artifact.sha256 for artifact in job_artifacts(tx, [job_id])[job_id] if artifact.kind == "audio"]


@ON_SQLITE
def test_good_jobs_among_canceled_late_and_broken_ones_sound_as_they_do_alone(house: RealHouse, tmp_path: Path) -> None:
    render_demo_video(tmp_path / "v.mp4", seconds=1.0)
    video = house.upload((tmp_path / "v.mp4").read_bytes())
    broken = house.upload((tmp_path / "v.mp4").read_bytes()[:3000])
    good = [{"seed": seed, "video": video, "duration_s": None, "audio_format": "wav", "mux": False} for seed in (1, 2)]
    house.commands.start("worker", "--devices", "cpu:0")
    alone = []
    for fields in good:
        (job_id,) = house.submit(**fields, prompt="alone")  # type: ignore[arg-type]
        house.wait_for([job_id], within_s=PATIENCE_S)
        alone.append(sounds(house, job_id))

    long = {"duration_s": 8.0, "num_steps": 100}
    (canceled,) = house.submit(**long)
    (late,) = house.submit(**long, run_timeout_s=1)
    wait_until(lambda: house.job(canceled).stage is Stage.SAMPLE, within_s=PATIENCE_S, what="sampling")
    mixed = [house.submit(**fields, prompt="alone")[0] for fields in good]  # type: ignore[arg-type]
    (damaged,) = house.submit(video=broken, duration_s=None)
    with house.db.transaction() as tx:
        cancel(tx, canceled, tenant=TENANT)
    jobs = house.wait_for([canceled, late, damaged, *mixed], within_s=PATIENCE_S)

    assert [(job.state, job.error_code) for job in jobs] == [
        (State.CANCELED, None),
        (State.FAILED, "run_timeout"),
        (State.FAILED, "media_invalid"),
        (State.SUCCEEDED, None),
        (State.SUCCEEDED, None),
    ]
    assert [sounds(house, job_id) for job_id in mixed] == alone


def test_a_second_prompt_finds_what_the_first_has_encoded_and_sounds_as_without_the_cache(
    house: RealHouse, tmp_path: Path
) -> None:
    render_demo_video(tmp_path / "v.mp4", seconds=1.0)
    video = house.upload((tmp_path / "v.mp4").read_bytes())
    fields = {"video": video, "duration_s": None, "seed": 5, "audio_format": "wav", "mux": False}
    house.commands.environment = {**house.commands.environment, "MMAUDIO_FEATURE_CACHE_BYTES": "0"}
    house.commands.start("worker", "--devices", "cpu:0")
    (first,) = house.submit(**fields, prompt="rain")  # type: ignore[arg-type]
    (job,) = house.wait_for([first], within_s=PATIENCE_S)
    assert job.state is State.SUCCEEDED
    # The picture, the prompt and the empty negative prompt; another worker would find them there as well.
    wait_until(lambda: len(list(house.store.list_keys(PREFIX))) == 3, within_s=20, what="shared features")

    (again,) = house.submit(**fields, prompt="rain")  # type: ignore[arg-type]
    (other,) = house.submit(**fields, prompt="a siren")  # type: ignore[arg-type]
    jobs = house.wait_for([again, other], within_s=PATIENCE_S)

    assert [job.state for job in jobs] == [State.SUCCEEDED, State.SUCCEEDED]
    assert [job.request["duration_s"] for job in jobs] == [1.0, 1.0]
    assert sounds(house, again) == sounds(house, first)
    assert sounds(house, other) != sounds(house, first)
    wait_until(lambda: len(list(house.store.list_keys(PREFIX))) == 4, within_s=20, what="the other prompt's features")
