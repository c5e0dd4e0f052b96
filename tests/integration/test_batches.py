"""Jobs side by side in one worker: what one of them does or shows changes nothing for the others."""

from __future__ import annotations

from pathlib import Path

from jobs.lifecycle import Stage, State
from jobs.service.artifacts import artifacts_by_job
from jobs.service.cancellation import cancel
from jobs.shared_features import PREFIX
from local_services.commands import wait_until
from mmaudio_model.demo_video import render_demo_video
from tests.integration.conftest import ON_SQLITE, PATIENCE_S, PlatformHarness


def sounds(platform: PlatformHarness, job_id: str) -> list[str]:
    """Return the SHA-256 of a job's sounds."""
    with platform.db.reading() as tx:
        return [artifact.sha256 for artifact in artifacts_by_job(tx, [job_id])[job_id] if artifact.kind == "audio"]


@ON_SQLITE
def test_good_jobs_that_share_a_batch_with_canceled_and_late_ones_sound_as_they_do_alone(
    platform: PlatformHarness, tmp_path: Path
) -> None:
    render_demo_video(tmp_path / "v.mp4", seconds=2.0)
    video = platform.upload((tmp_path / "v.mp4").read_bytes())
    broken = platform.upload((tmp_path / "v.mp4").read_bytes()[:3000])
    shared = {"video": video, "duration_s": None, "num_steps": 100, "audio_format": "wav", "mux": False}
    # Nothing may be found from the runs alone.
    uncached = {"MMAUDIO_FEATURE_CACHE_BYTES": "0", "MMAUDIO_FEATURE_TTL_S": "0"}
    platform.commands.environment = {**platform.commands.environment, **uncached}
    platform.commands.start("worker", "--devices", "cpu:0")
    alone = []
    for seed in (1, 2):
        (job_id,) = platform.submit(**shared, seed=seed)
        platform.wait_for([job_id], within_s=PATIENCE_S)
        alone.append(sounds(platform, job_id))

    # Four that share a batch come while the device is busy with another; it begins with them when that one is gone.
    (other,) = platform.submit(duration_s=30.0, num_steps=100, num_samples=4)
    wait_until(lambda: platform.job(other).stage is Stage.SAMPLE, within_s=PATIENCE_S, what="sampling")
    (canceled,), (late,) = platform.submit(**shared, seed=3), platform.submit(**shared, seed=4, run_timeout_s=1)
    good = [platform.submit(**shared, seed=seed)[0] for seed in (1, 2)]
    (damaged,) = platform.submit(video=broken, duration_s=None)
    wait_until(
        lambda: all(
            platform.job(one).stage is Stage.ENCODE or platform.ended([one]) for one in (canceled, late, *good)
        ),
        within_s=PATIENCE_S,
        what="four that wait for the device",
    )
    ask_to_cancel(platform, other)
    wait_until(lambda: platform.job(canceled).stage is Stage.SAMPLE, within_s=PATIENCE_S, what="sampling of the batch")
    ask_to_cancel(platform, canceled)
    jobs = platform.wait_for([other, canceled, late, damaged, *good], within_s=PATIENCE_S)

    assert [(job.state, job.error_code) for job in jobs] == [
        (State.CANCELED, None),
        (State.CANCELED, None),
        (State.FAILED, "run_timeout"),
        (State.FAILED, "media_invalid"),
        (State.SUCCEEDED, None),
        (State.SUCCEEDED, None),
    ]
    assert all(platform.outcomes(job.id) == [str(job.state)] for job in jobs)
    assert all(alone)
    assert [sounds(platform, job_id) for job_id in good] == alone


def ask_to_cancel(platform: PlatformHarness, job_id: str) -> None:
    with platform.db.transaction() as tx:
        cancel(tx, job_id)


def test_a_second_prompt_finds_what_the_first_has_encoded_and_sounds_as_without_the_cache(
    platform: PlatformHarness, tmp_path: Path
) -> None:
    render_demo_video(tmp_path / "v.mp4", seconds=1.0)
    video = platform.upload((tmp_path / "v.mp4").read_bytes())
    fields = {"video": video, "duration_s": None, "seed": 5, "audio_format": "wav", "mux": False}
    platform.commands.environment = {**platform.commands.environment, "MMAUDIO_FEATURE_CACHE_BYTES": "0"}
    platform.commands.start("worker", "--devices", "cpu:0")
    (first,) = platform.submit(**fields, prompt="rain")  # type: ignore[arg-type]
    (job,) = platform.wait_for([first], within_s=PATIENCE_S)
    assert job.state is State.SUCCEEDED
    # The picture, the prompt and the empty negative prompt; another worker would find them there as well.
    wait_until(lambda: len(list(platform.store.list_keys(PREFIX))) == 3, within_s=PATIENCE_S, what="shared features")

    (again,) = platform.submit(**fields, prompt="rain")  # type: ignore[arg-type]
    (other,) = platform.submit(**fields, prompt="a siren")  # type: ignore[arg-type]
    jobs = platform.wait_for([again, other], within_s=PATIENCE_S)

    assert [job.state for job in jobs] == [State.SUCCEEDED, State.SUCCEEDED]
    assert [job.request["duration_s"] for job in jobs] == [1.0, 1.0]
    assert sounds(platform, again) == sounds(platform, first)
    assert sounds(platform, other) != sounds(platform, first)
    wait_until(
        lambda: len(list(platform.store.list_keys(PREFIX))) == 4,
        within_s=PATIENCE_S,
        what="the other prompt's features",
    )
