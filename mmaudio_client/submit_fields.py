"""The request fields that `Client.submit` takes besides the input, for type checkers and editors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypedDict

AudioFormat = Literal["flac", "wav", "mp3", "opus", "m4a"]
OriginalAudio = Literal["drop", "mix"]
AudioFiles = Literal["effect", "mix", "both"]
VideoContainer = Literal["auto", "mp4", "mov", "mkv", "webm"]
WebhookEvent = Literal["started", "progress", "succeeded", "failed", "canceled"]
Priority = Literal["low", "normal", "high"]


class SubmitFields(TypedDict, total=False):
    """Fields of `POST /v1/jobs`; None means "not given". The server checks ranges and fills in defaults.

    Keys:
        prompt, negative_prompt: what it should, and should not, sound like.
        variant: model variant.
        start_s, duration_s: section of the video, in seconds.
        seed: same seed, same sound.
        num_steps, cfg_strength, num_samples: sampling steps, guidance strength, number of takes.
        mask_away_clip: use only the motion of the video, not its content.
        audio_format: format of the sound file.
        channels: 1, or 2 with the same sound in both.
        sample_rate_hz: sample rate of the sounds; default: the model's, of a mix the original's.
        mux: also produce the video with the new sound.
        original_audio, original_gain_db: drop the video's own sound, or mix it in with this gain in dB.
        duck_db: lower the video's own sound in the mix by this much while the new one is heard.
        audio_files: whether the sound files have the new sound (`effect`), the `mix`, or there is one of each (`both`).
        keep_tracks: keep the video's other tracks, chapters and tags.
        video_container: container of the video with the new sound; `auto`: the source's where possible.
        loudness_lufs: normalise to this loudness.
        priority, queue_ttl_s, run_timeout_s: urgency, longest wait in the queue, longest time of one attempt.
        metadata: string pairs that are stored with the job.
        preset: name of a preset, or `name@version`: its fields, where none are given here.
        webhook_url, webhook_events: the URL that the server calls, and at which events.
        deliver_to: `s3://bucket/prefix/` to which the server also copies the results.
        webhook_url, webhook_events: URL that the server calls, and at which of `started`, `progress`, `succeeded`,
            `failed`, `canceled`; default: the last three.
    """

    prompt: str | None
    negative_prompt: str | None
    variant: str | None
    start_s: float | None
    duration_s: float | None
    seed: int | None
    num_steps: int | None
    cfg_strength: float | None
    num_samples: int | None
    mask_away_clip: bool | None
    audio_format: AudioFormat | None
    channels: Literal[1, 2] | None
    sample_rate_hz: int | None
    mux: bool | None
    original_audio: OriginalAudio | None
    original_gain_db: float | None
    duck_db: float | None
    audio_files: AudioFiles | None
    keep_tracks: bool | None
    video_container: VideoContainer | None
    loudness_lufs: float | None
    priority: Priority | None
    queue_ttl_s: int | None
    run_timeout_s: int | None
    metadata: Mapping[str, str] | None
    preset: str | None
    webhook_url: str | None
    webhook_events: Sequence[WebhookEvent] | None
    deliver_to: str | None
