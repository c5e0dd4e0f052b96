"""Worker processes on real parts: every job once, whatever dies."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from jobs.lifecycle import Stage, State
from jobs.queue import queue_name
from jobs.service.cancellation import cancel
from local_services.commands import children_of, wait_until
from mmaudio_model.demo_video import render_demo_video
from tests.integration.conftest import ON_SQLITE, PATIENCE_S, PlatformHarness


def test_two_workers_finish_many_jobs_each_once(serving: PlatformHarness) -> None:
    ids = serving.submit(16)
    jobs = serving.wait_for(ids)
    assert {job.state for job in jobs} == {State.SUCCEEDED}
    assert len({job.worker_id for job in jobs}) == 2
    for job_id in ids:
        assert serving.outcomes(job_id) == ["succeeded"]
        assert serving.story(job_id) == ["queued", "running", "succeeded"]
        assert serving.stored(job_id) == serving.artifact_keys(job_id)
        assert len(serving.stored(job_id)) == 1


def test_a_broker_that_is_wiped_while_jobs_run_loses_none(serving: PlatformHarness) -> None:
    import redis

    ids = serving.submit(8)
    wait_until(lambda: serving.states()["running"] > 0, within_s=PATIENCE_S, what="a running job")
    redis.Redis.from_url(serving.settings.broker_url).flushall()
    assert {job.state for job in serving.wait_for(ids)} == {State.SUCCEEDED}


def test_a_message_delivered_twice_runs_once(platform: PlatformHarness) -> None:
    ids = platform.submit(3)
    platform.broker.publish(ids * 3, variant="tiny_16k")
    assert platform.broker.enqueued_job_ids("tiny_16k") == set(ids)
    platform.commands.start("worker", "--devices", "cpu:0")
    platform.wait_for(ids)
    wait_until(lambda: not platform.broker.enqueued_job_ids("tiny_16k"), within_s=PATIENCE_S, what="an empty queue")
    for job_id in ids:
        assert platform.outcomes(job_id) == ["succeeded"]


def test_cancel_of_a_running_job_frees_the_engine(serving: PlatformHarness) -> None:
    (long,) = serving.submit(duration_s=30, num_steps=100, num_samples=2)
    wait_until(lambda: serving.job(long).stage is Stage.SAMPLE, within_s=PATIENCE_S, what="sampling")
    with serving.db.transaction() as tx:
        cancel(tx, long)
    (short,) = serving.submit()
    (job,) = serving.wait_for([long])
    assert job.state is State.CANCELED
    # It left in the middle; that it left within one step is counted in tests/unit/workers/engine/test_engine_stops.py.
    assert (serving.job(long).step or 0) < 100
    assert serving.wait_for([short])[0].state is State.SUCCEEDED
    assert serving.stored(long) == []
    # The worker that had it works on.
    wait_until(
        lambda: serving.wait_for(serving.submit())[0].worker_id == job.worker_id,
        within_s=PATIENCE_S,
        what="a job in the worker whose job was canceled",
    )


def test_a_run_that_takes_too_long_is_ended(serving: PlatformHarness) -> None:
    (job_id,) = serving.submit(duration_s=30, num_steps=100, num_samples=4, run_timeout_s=1)
    (job,) = serving.wait_for([job_id])
    assert (job.state, job.error_code) == (State.FAILED, "run_timeout")
    assert job.error is not None
    assert job.error["stage"] in {"encode", "sample"}


def test_a_video_and_a_broken_one_in_one_worker(serving: PlatformHarness, tmp_path: Path) -> None:
    render_demo_video(tmp_path / "v.mp4", seconds=2.0)
    good = serving.upload((tmp_path / "v.mp4").read_bytes())
    broken = serving.upload((tmp_path / "v.mp4").read_bytes()[:3000])
    text = serving.upload(b"#EXTM3U\nfile:///etc/passwd\n")
    pids = set(serving.wait_for_workers(2))
    ids = [serving.submit(video=upload, duration_s=None)[0] for upload in (broken, text, good)]
    jobs = serving.wait_for(ids)
    assert [(job.state, job.error_code) for job in jobs] == [
        (State.FAILED, "media_invalid"),
        (State.FAILED, "media_invalid"),
        (State.SUCCEEDED, None),
    ]
    assert jobs[0].error is not None
    assert jobs[0].error["message"] == "The video is damaged: none of its frames can be decoded."
    assert jobs[0].error["stage"] == "decode"
    assert [serving.outcomes(job_id) for job_id in ids] == [["failed"], ["failed"], ["succeeded"]]
    assert jobs[2].request["duration_s"] == 2.0
    assert [key.rpartition("/")[2] for key in serving.artifact_keys(ids[2])] == ["audio.flac", "video.mp4"]
    assert set(serving.wait_for_workers(2)) == pids
    assert serving.files_in_scratch() == []


def test_sigterm_finishes_what_runs_and_hands_back_the_rest(platform: PlatformHarness) -> None:
    platform.commands.environment = {**platform.commands.environment, "MMAUDIO_DRAIN_GRACE_S": "1"}
    worker = platform.commands.start("worker", "--devices", "cpu:0")
    platform.wait_for_workers(1)
    ids = platform.submit(3, duration_s=30, num_steps=100)
    wait_until(lambda: platform.states()["running"] == 3, within_s=PATIENCE_S, what="three running jobs")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(PATIENCE_S) == 0
    assert {str(platform.job(job_id).state) for job_id in ids} == {"queued"}
    assert {tuple(platform.outcomes(job_id)) for job_id in ids} == {("requeued",)}
    assert children_of(worker.pid) == []


@ON_SQLITE
def test_a_draining_worker_hands_back_what_waits_for_the_device_before_its_batch_has_ended(
    platform: PlatformHarness,
) -> None:
    platform.commands.environment = {
        **platform.commands.environment,
        "MMAUDIO_DRAIN_GRACE_S": "240",
        "MMAUDIO_MAX_BATCH": "1",
    }
    worker = platform.commands.start("worker", "--devices", "cpu:0")
    platform.wait_for_workers(1)
    (sampled,) = platform.submit(duration_s=4, num_steps=100)
    wait_until(lambda: platform.job(sampled).stage is Stage.SAMPLE, within_s=PATIENCE_S, what="sampling")
    (waiting,) = platform.submit()
    wait_until(
        lambda: platform.job(waiting).stage is Stage.ENCODE, within_s=PATIENCE_S, what="a job that waits for the device"
    )
    worker.send_signal(signal.SIGTERM)
    wait_until(
        lambda: platform.outcomes(waiting) == ["requeued"], within_s=PATIENCE_S, what="a job that is handed back"
    )

    assert platform.outcomes(sampled) == [None], "its batch has ended, so this run shows nothing"
    assert worker.wait(PATIENCE_S) == 0
    assert platform.outcomes(sampled) == ["succeeded"]
    assert (str(platform.job(waiting).state), platform.outcomes(waiting)) == ("queued", ["requeued"])


@ON_SQLITE
def test_a_worker_that_is_drained_by_the_api_lets_go_of_its_jobs_ends_and_is_not_started_again(
    platform: PlatformHarness,
) -> None:
    command = platform.commands.start("worker", "--devices", "cpu:0")
    platform.wait_for_workers(1)
    ids = platform.submit(2, duration_s=2, num_steps=100)
    wait_until(lambda: platform.states()["running"] == 2, within_s=PATIENCE_S, what="two running jobs")
    platform.drain()
    wait_until(
        lambda: platform.worker_states() in (["draining"], []), within_s=PATIENCE_S, what="a worker that has heard"
    )
    late = platform.submit()[0]
    assert command.wait(PATIENCE_S) == 0
    # Within the grace they end, or else they go back to the queue.
    assert all(platform.outcomes(job_id) in (["succeeded"], ["requeued"]) for job_id in ids)
    assert str(platform.job(late).state) == "queued"
    assert platform.worker_states() == []


def test_takes_have_their_seeds_and_their_files(serving: PlatformHarness, tmp_path: Path) -> None:
    alone = serving.submit(seed=8, audio_format="wav")[0]
    takes = serving.submit(seed=7, num_samples=3, audio_format="wav")[0]
    serving.wait_for([alone, takes])
    assert [key.rpartition("/")[2] for key in serving.artifact_keys(takes)] == [
        "audio-1.wav",
        "audio-2.wav",
        "audio-3.wav",
    ]
    second = next(key for key in serving.artifact_keys(takes) if key.endswith("audio-2.wav"))
    import av
    import numpy as np

    def samples(key: str) -> np.ndarray:
        serving.store.download_to(key, tmp_path / "x.wav")
        with av.open(str(tmp_path / "x.wav")) as container:
            return np.concatenate([frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)]).astype(float)

    one, two = samples(serving.artifact_keys(alone)[0]), samples(second)
    assert np.linalg.norm(one - two) <= 1e-4 * np.linalg.norm(one)


@pytest.mark.parametrize("serving", ["postgresql+s3"], indirect=True)
def test_an_object_of_a_listed_bucket_is_read_from_there(serving: PlatformHarness, tmp_path: Path) -> None:
    import boto3

    render_demo_video(tmp_path / "v.mp4", seconds=1.0)
    (bucket,) = serving.settings.input_buckets
    client = boto3.client("s3", endpoint_url=serving.settings.s3_endpoint_url)
    client.upload_file(str(tmp_path / "v.mp4"), bucket, "in box/red flower+ü.mp4")
    there = serving.submit(video=f"s3://{bucket}/in box/red flower+ü.mp4", duration_s=None)[0]
    missing = serving.submit(video=f"s3://{bucket}/missing.mp4", duration_s=None)[0]
    jobs = serving.wait_for([there, missing])
    assert [(job.state, job.error_code) for job in jobs] == [
        (State.SUCCEEDED, None),
        (State.FAILED, "input_missing"),
    ]


def test_a_killed_worker_loses_no_job(serving: PlatformHarness) -> None:
    """It is the last one on this platform: its workers are not the ones that began."""
    (long,) = serving.submit(duration_s=4, num_steps=60)
    ids = [long, *serving.submit(6, num_steps=8)]
    wait_until(lambda: serving.job(long).stage is Stage.SAMPLE, within_s=PATIENCE_S, what="sampling")
    killed = serving.pid_of_worker(serving.job(long))
    os.kill(killed, signal.SIGKILL)
    serving.expire_leases(serving.running_in(killed))
    jobs = serving.wait_for(ids)
    assert {job.state for job in jobs} == {State.SUCCEEDED}
    lost = [job_id for job_id in ids if "lost" in serving.outcomes(job_id)]
    assert lost, "the kill hit no running job, so this run shows nothing"
    for job_id in ids:
        assert serving.outcomes(job_id).count("succeeded") == 1
        assert set(serving.artifact_keys(job_id)) <= set(serving.stored(job_id))
    # The supervisor has started another one in its place.
    supervisor = serving.commands.started[1]
    assert supervisor.poll() is None
    wait_until(
        lambda: len(set(serving.wait_for_workers(2)) - {killed}) >= 2,
        within_s=PATIENCE_S,
        what="the restarted worker",
    )


def test_each_variant_has_a_queue_of_its_own() -> None:
    assert queue_name("tiny_16k") != queue_name("small_16k")
