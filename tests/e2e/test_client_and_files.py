"""From a file on the disk to files on the disk, through the command and the Python client."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import av
import pytest
from PIL import Image

from demo.__main__ import check
from mmaudio_client import Client, ConflictError, InvalidRequestError, JobCanceledError, JobFailedError, NotFoundError
from tests.e2e.conftest import RunningPlatform


def mmaudio(platform: RunningPlatform, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mmaudio_client", *arguments],
        env={**os.environ, "MMAUDIO_API_URL": platform.url},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_submit_saves_a_sound_and_the_video_unchanged_beside_it(
    platform: RunningPlatform, demo_video: Path, tmp_path: Path
) -> None:
    done = mmaudio(platform, "submit", str(demo_video), "--prompt", "a [red] ball", "--output", str(tmp_path))
    assert done.returncode == 0, done.stderr
    sound, muxed = (Path(line) for line in done.stdout.split())
    assert (sound.name, muxed.name) == ("ball.flac", "ball-sound.mp4")
    assert check(demo_video, sound, muxed) == []
    assert "Warning: " in done.stderr


def test_a_folder_becomes_a_job_per_file_and_the_exit_code_is_that_of_the_worst(
    platform: RunningPlatform, demo_video: Path, tmp_path: Path
) -> None:
    clips = tmp_path / "clips"
    clips.mkdir()
    shutil.copy(demo_video, clips / "walk.mp4")
    Image.new("RGB", (64, 64), (9, 99, 9)).save(clips / "photo.png")
    (clips / "broken.mp4").write_bytes(b"this is no video" * 100)
    options = ("--num-steps", "1", "--duration", "0.64", "--output", str(tmp_path / "out"))
    done = mmaudio(platform, "submit", str(clips), *options)
    assert done.returncode == 1, done.stderr
    assert {Path(line).name for line in done.stdout.split()} == {"photo.flac", "walk.flac", "walk-sound.mp4"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"photo.flac", "walk.flac", "walk-sound.mp4"}
    assert done.stderr.splitlines()[-1] == "3 inputs: 2 succeeded, 1 failed"


def test_the_same_seed_gives_the_same_bytes(platform: RunningPlatform, tmp_path: Path) -> None:
    with Client(platform.url) as client:
        jobs = [client.wait(client.submit(prompt="rain", seed=5, duration_s=1, num_steps=3)) for _ in range(2)]
    assert jobs[0].id != jobs[1].id
    assert jobs[0].artifacts[0].sha256 == jobs[1].artifacts[0].sha256


@pytest.mark.parametrize("audio_format", ["flac", "wav", "mp3", "opus", "m4a"])
def test_every_audio_format_can_be_read_again(platform: RunningPlatform, tmp_path: Path, audio_format: str) -> None:
    with Client(platform.url) as client:
        job = client.wait(
            client.submit(prompt="x", duration_s=1.0, num_steps=2, audio_format=audio_format, loudness_lufs=-23)
        )
        (path,) = client.download(job, tmp_path)
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        samples = sum(frame.samples for frame in container.decode(stream))
        assert abs(samples / stream.rate - 1.0) < 0.15


def test_a_broken_video_fails_with_a_sentence_and_status_one(platform: RunningPlatform, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"#EXTM3U\nhttp://127.0.0.1:9/x.ts\n")
    done = mmaudio(platform, "submit", str(broken), "--output", str(tmp_path))
    assert done.returncode == 1
    assert "The job failed: The file is a playlist, not a video." in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == [broken]


def test_mistakes_on_the_command_line_are_sentences(platform: RunningPlatform, tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").write_bytes(b"")
    for arguments, status, words in [
        (("submit", "missing.mp4"), 2, "There is no file 'missing.mp4'"),
        (("submit", str(tmp_path / "empty.mp4")), 2, "is empty"),
        (("submit", "--prompt", "x", "--num-steps", "0"), 3, "num_steps"),
        (("submit", "--prompt", "x", "--metadata", "novalue"), 2, "KEY=VALUE"),
        (("status", "job_" + "0" * 32), 3, "There is no job"),
        (("status", "beef"), 3, "No job has an id that begins with job_beef"),
        (("list", "--api-url", "http://127.0.0.1:9"), 5, "Cannot connect to http://127.0.0.1:9"),
    ]:
        done = mmaudio(platform, *arguments)
        assert (done.returncode, words in done.stderr) == (status, True), (arguments, done.stderr)
    done = mmaudio(platform, "submit", "--prompt", "x", "--num-steps", "0", "--json")
    assert (done.returncode, done.stdout) == (3, "")
    assert "num_steps" in json.loads(done.stderr)["error"]["fields"]


def test_no_wait_watch_status_list_download_and_retry(platform: RunningPlatform, tmp_path: Path) -> None:
    job_id = mmaudio(
        platform, "submit", "--prompt", "wind", "--duration", "0.64", "--num-steps", "2", "--no-wait"
    ).stdout.strip()
    assert mmaudio(platform, "watch", job_id).returncode == 0
    assert json.loads(mmaudio(platform, "status", job_id, "--json").stdout)["state"] == "succeeded"
    assert job_id in [line.split("\t")[0] for line in mmaudio(platform, "list").stdout.splitlines()]
    saved = mmaudio(platform, "download", job_id[4:20], "--output", str(tmp_path)).stdout.split()
    assert saved == [str(tmp_path / "wind.flac")]
    again = json.loads(mmaudio(platform, "retry", job_id[:20], "--output", str(tmp_path), "--json").stdout)
    # The same seed gives the same bytes, which are there already.
    assert (again["retry_of"], again["saved_files"]) == (job_id, saved)


@pytest.mark.parametrize("form", ["string", "bytes", "memory", "open file"])
def test_a_video_can_be_given_as_path_bytes_or_open_file(
    platform: RunningPlatform, demo_video: Path, tmp_path: Path, form: str
) -> None:
    content = demo_video.read_bytes()
    with Client(platform.url) as client, demo_video.open("rb") as file:
        source = {"string": str(demo_video), "bytes": content, "memory": io.BytesIO(content), "open file": file}[form]
        job = client.submit(video=source, prompt="a ball", duration_s=0.64, num_steps=1, mux=False)
        client.wait(job.id)
        (path,) = client.download(job.id, str(tmp_path))
    assert path == tmp_path / ("ball.flac" if form in {"string", "open file"} else "a-ball.flac")


def test_cancel_and_its_conflict(platform: RunningPlatform) -> None:
    with Client(platform.url) as client:
        job = client.submit(prompt="x", duration_s=8, num_steps=100)
        client.cancel(job.id)
        with pytest.raises(JobCanceledError):
            client.wait(job, timeout_s=30)
        again = client.retry(job.id)
        assert again.retry_of == job.id
        assert client.cancel(again.id).id == again.id
        done = client.wait(client.submit(prompt="x", duration_s=0.64, num_steps=1))
        with pytest.raises(ConflictError):
            client.cancel(done.id)


def test_the_clients_errors_tell_what_is_wrong(platform: RunningPlatform, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_bytes(b"this is no video" * 100)
    with Client(platform.url) as client:
        with pytest.raises(InvalidRequestError) as refused:
            client.submit(prompt="x", num_steps=1000)
        assert "num_steps" in refused.value.fields
        with pytest.raises(NotFoundError):
            client.get("job_" + "0" * 32)
        with pytest.raises(JobFailedError, match="not a readable video"):
            client.wait(client.submit(video=tmp_path / "text.mp4"))
        assert [variant["name"] for variant in client.variants()] == ["tiny_16k"]
        assert len(list(client.list(limit=2))) > 2


def test_a_repeated_send_with_one_key_makes_one_job(platform: RunningPlatform) -> None:
    with Client(platform.url) as client:
        ids = {client.submit(prompt="x", duration_s=0.64, num_steps=1, idempotency_key="one").id for _ in range(3)}
    assert len(ids) == 1
