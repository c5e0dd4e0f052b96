"""Writes the files of each take: the sound, its mix with the original, the video with the sound."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from jobs.lifecycle import ArtifactKind
from jobs.request import JobRequest
from jobs.service.attempts import Claim, NewArtifact
from mmaudio_model.media.audio import AUDIO_FORMATS, Sound, write_audio
from mmaudio_model.media.broadcast_wave import BroadcastFacts
from mmaudio_model.result_sounds import ResultSounds, SoundOptions, result_sounds
from workers.runner.attempt_source import SourceParts
from workers.runner.preview import write_preview
from workers.runner.worker_context import AttemptOutput, WorkerContext

File = tuple[Path, NewArtifact]


@dataclass(frozen=True)
class TakeFiles:
    """The files of takes with their artifacts, and those of their previews."""

    results: list[File]
    previews: list[File]


def sound_options(request: JobRequest) -> SoundOptions:
    """Return what a request asks of the delivered sounds."""
    return SoundOptions(
        channels=request.channels,
        sample_rate_hz=request.sample_rate_hz,
        loudness_lufs=request.loudness_lufs,
        mixes=request.original_audio == "mix" and (request.wants_mux or request.audio_files != "effect"),
        original_gain_db=request.original_gain_db or 0.0,
        duck_db=request.duck_db,
    )


class ResultWriter:
    """Writes one attempt's files into its folder; warnings go to `output`."""

    def __init__(
        self,
        claim: Claim,
        request: JobRequest,
        context: WorkerContext,
        output: AttemptOutput,
        folder: Path,
        source: Path | None,
        parts: SourceParts,
    ) -> None:
        self._claim, self._request, self._context, self._output = claim, request, context, output
        self._folder, self._source, self._parts = folder, source, parts
        self._options = sound_options(request)

    def write(self, take: int, waveform: np.ndarray, sample_rate_hz: int, *, seed: int) -> TakeFiles:
        """Write the files of a take, and its preview, which shows its first sound."""
        sounds = result_sounds(waveform, sample_rate_hz, self._options, self._parts.original)
        self._output.warn_of(sounds.warnings)
        suffix = f"-{take + 1}" if self._request.num_samples > 1 else ""
        files = [
            self._audio(f"{name}{suffix}.{self._request.audio_format}", sound, take, seed)
            for name, sound in self._named(sounds)
        ]
        if self._source is not None and self._request.wants_mux:
            files.append(self._video(self._source, suffix, sounds.of_video, take, seed))
        preview = write_preview(
            self._claim, self._output, self._folder, self._named(sounds)[0][1], suffix=suffix, take=take, seed=seed
        )
        return TakeFiles(files, [preview] if preview is not None else [])

    def _named(self, sounds: ResultSounds) -> list[tuple[str, Sound]]:
        """Return the sounds that are audio files, with their names."""
        if self._request.original_audio != "mix":
            return [("audio", sounds.effect)]
        wanted = self._request.audio_files
        named = [("audio-effect", sounds.effect)] if wanted in {"effect", "both"} else []
        if sounds.mix is not None and wanted in {"mix", "both"}:
            named.append(("audio-mix", sounds.mix))
        return named

    def _audio(self, name: str, sound: Sound, take: int, seed: int) -> File:
        path, audio_format = self._folder / name, self._request.audio_format
        written = write_audio(path, sound, audio_format, broadcast=self._broadcast())
        self._output.warn_of(written.warnings)
        content_type = AUDIO_FORMATS[audio_format].content_type
        return path, self._artifact(name, ArtifactKind.AUDIO, audio_format, content_type, sound.duration_s, take, seed)

    def _video(self, source: Path, suffix: str, sound: Sound, take: int, seed: int) -> File:
        parts, draft = self._parts, self._folder / f"draft{suffix}"
        assert parts.options is not None, "a video has mux options"
        result = self._context.sandbox.mux(
            source,
            sound,
            draft,
            owner=self._claim.job_id,
            options=parts.options,
            plan=parts.plan,
            source=parts.facts,
        )
        self._output.warn_of(result.warnings)
        name = f"video{suffix}.{result.format}"
        artifact = self._artifact(
            name, ArtifactKind.VIDEO, result.format, result.content_type, sound.duration_s, take, seed
        )
        return draft, artifact

    def _broadcast(self) -> BroadcastFacts | None:
        """Return what a WAV file says about its place on the source's clock; None: the source has no time code."""
        if self._request.audio_format != "wav" or self._parts.timecode is None:
            return None
        timecode, frame_rate = self._parts.timecode
        return BroadcastFacts(
            description=f"Job {self._claim.job_id}",
            created=self._claim.started_at,
            timecode=timecode,
            frame_rate=Fraction(frame_rate) if frame_rate else None,
        )

    def _artifact(
        self,
        name: str,
        kind: ArtifactKind,
        file_format: str,
        content_type: str,
        duration_s: float,
        take: int,
        seed: int,
    ) -> NewArtifact:
        return NewArtifact(
            name=name,
            kind=kind,
            format=file_format,
            content_type=content_type,
            storage_key=f"jobs/{self._claim.job_id}/{self._claim.attempt}/{name}",
            size_bytes=0,
            sha256="",
            duration_s=round(duration_s, 6),
            take=take,
            seed=seed,
        )
