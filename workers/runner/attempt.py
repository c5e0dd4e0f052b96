"""One attempt at one job: fetch, decode, encode, sample, vocode, mux, upload; each stage is a named step.

Claiming the job and recording how the attempt ended do not belong here: the executor does both.
"""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from jobs.lifecycle import ArtifactKind, Stage, overall_progress
from jobs.request import MAX_SEED, JobRequest
from jobs.service.artifact_metadata import artifact_metadata
from jobs.service.attempts import NewArtifact, record_resolved_request
from mmaudio_model.errors import MediaInvalidError
from mmaudio_model.media.audio import AUDIO_FORMATS, Sound, write_audio
from mmaudio_model.media.frames import ImageFrame, VideoFrames
from mmaudio_model.media.loudness import is_silent, normalise_loudness
from mmaudio_model.pipeline import GenerationRequest, text_is_cut
from mmaudio_model.variants import Variant, get_variant
from workers.engine.engine import EngineRequest
from workers.feature_cache.job_features import JobFeatures, find_job_features
from workers.media.sandbox import SandboxStoppedError
from workers.runner.active_jobs import ActiveJob, StoppedError
from workers.runner.delivery import AttemptDelivery
from workers.runner.eta import DEVICE_WAIT, JobWork
from workers.runner.inputs import fetch_input
from workers.runner.result_hold import ResultHold
from workers.runner.result_store import store_result
from workers.runner.worker_context import AttemptOutput, WorkerContext

# How often a thread that waits for the device checks whether its job was stopped.
POLL_S = 0.1
# A video that is shorter than requested by less than this gets no warning: it is about one frame.
SHORTER_S = 0.05


class AttemptPipeline:
    """One attempt; used once, in one thread. `stage` is the stage that was running when an error was raised."""

    def __init__(self, active_job: ActiveJob, context: WorkerContext) -> None:
        self.active_job, self.claim, self._context = active_job, active_job.claim, context
        self.request = JobRequest.model_validate(active_job.claim.request)
        self.variant: Variant = get_variant(active_job.claim.variant)
        self.output = AttemptOutput(delivery=AttemptDelivery.of(active_job.claim, context.settings))
        self.stage = Stage.FETCH
        self._began = False
        self._stage_began = time.monotonic()
        duration_s = self.request.duration_s or self.variant.default_duration_s
        self._work = JobWork(self.variant.name, duration_s, self.request.num_steps)
        self._abandoned = threading.Event()
        self._takes: list[tuple[Stage, float, int | None]] = []
        self._hold = ResultHold(active_job, context.availability, context.errors, wait_s=context.settings.result_wait_s)

    def run(self) -> AttemptOutput:
        """Generate the artifacts and store them.

        Raises:
            StoppedError: the job was stopped.
            MediaError, JobError, ModelError: why it failed.
            LeaseLostError: the attempt is no longer this worker's.
        """
        parent = self._context.settings.scratch_dir
        if parent is not None:
            parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="mmaudio-job-", dir=parent) as name, _sandbox_stop_stops_job():
            folder = Path(name)
            source = self._fetch(folder)
            features = self._find_features(source)
            self._work = replace(self._work, features_cached=features.visual_cached)
            video, image, duration_s = self._decode(source, features)
            self._work = replace(self._work, duration_s=duration_s)
            waveforms = self._generate(video, image, duration_s, features)
            features.write_to(self._context.features)
            self.active_job.has_result = True
            files = self._hold.keep_trying(lambda: self._mux(folder, source, waveforms, duration_s), Stage.MUX)
            self._upload(files)
        self._end_stage()
        return self.output

    def _begin(self, stage: Stage) -> None:
        self.active_job.check()
        if self._began:
            self._end_stage()
        self.stage, self._began, self._stage_began = stage, True, time.monotonic()
        self._report(
            stage, 0.0, None, self._context.eta.remaining_s(self._work, stage, 0.0, waits=stage is Stage.ENCODE)
        )

    def _report(self, stage: Stage, fraction: float, step: int | None, remaining_s: float | None) -> None:
        self._context.report(self.active_job, stage, fraction, step, remaining_s)

    def _end_stage(self) -> None:
        """Add the time since the stage began; takes in several batches enter a stage more than once."""
        seconds = time.monotonic() - self._stage_began
        self._add_time(f"{self.stage}_s", seconds)
        self._context.eta.record(self._work, self.stage, seconds)

    def _add_time(self, name: str, seconds: float) -> None:
        self.output.timings[name] = round(self.output.timings.get(name, 0.0) + seconds, 4)

    def _fetch(self, folder: Path) -> Path | None:
        self._begin(Stage.FETCH)
        target, began_at = folder / "input", time.monotonic()
        self.active_job.fetching = True
        try:
            found = fetch_input(self.claim, self._context.store, self._context.settings, target)
        finally:
            self.active_job.fetching, self.active_job.fetch_s = False, time.monotonic() - began_at
        return target if found else None

    def _find_features(self, source: Path | None) -> JobFeatures:
        """Find the features of the input that the cache already has."""
        self._begin(Stage.DECODE)
        sha256 = None
        if source is not None:
            with source.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        context = self._context
        return find_job_features(
            context.features,
            context.revision,
            self.variant,
            self.request,
            tenant=self.claim.tenant,
            source_sha256=sha256,
        )

    def _decode(
        self, source: Path | None, features: JobFeatures
    ) -> tuple[VideoFrames | None, ImageFrame | None, float]:
        """Return the decoded frames, none where their features are cached, and the duration of the sound."""
        requested, variant, visual = self.request.duration_s, self.variant, features.visual
        if source is None or visual is None:
            return None, None, requested or variant.default_duration_s
        if self.request.image is not None:
            if not features.visual_cached:
                visual.image = visual.image or self._read_image(source)
            return None, None if features.visual_cached else visual.image, requested or variant.default_duration_s
        if not features.visual_cached:
            frames = self._read_frames(source)
            # Running jobs with the same stretch share its frames, so that the device encodes them once.
            visual.video = visual.video or frames
            visual.facts = {"duration_s": frames.duration_s, "warnings": [warning.text for warning in frames.warnings]}
        duration_s = float(visual.facts["duration_s"])
        for text in visual.facts["warnings"]:
            self.output.warn("video_damaged", text)
        if duration_s < variant.min_duration_s:
            raise MediaInvalidError(
                f"The stretch has {duration_s:.2f} s of video; "
                f"{variant.name} needs at least {variant.min_duration_s:g} s."
            )
        if requested is not None and duration_s < requested - SHORTER_S:
            self.output.warn("video_shorter", f"The video has {duration_s:.2f} s of the requested {requested:g} s.")
        resolved = {"duration_s": round(duration_s, 6)}
        self._context.db.run(lambda tx: record_resolved_request(tx, self.claim, resolved), repeatable=True)
        return None if features.visual_cached else visual.video, None, duration_s

    def _read_image(self, source: Path) -> ImageFrame:
        return self._context.sandbox.read_image(source, owner=self.claim.job_id, clip_size=self.variant.clip.frame_size)

    def _read_frames(self, source: Path) -> VideoFrames:
        return self._context.sandbox.read_frames(
            source,
            owner=self.claim.job_id,
            start_s=self.request.start_s,
            duration_s=self.request.duration_s or self.variant.max_duration_s,
            clip_size=self.variant.clip.frame_size,
            sync_size=self.variant.sync.frame_size,
        )

    def _generate(
        self, video: VideoFrames | None, image: ImageFrame | None, duration_s: float, features: JobFeatures
    ) -> list[np.ndarray]:
        """Return a waveform per take. The engine reports when it encodes, samples and vocodes."""
        self._begin(Stage.ENCODE)
        if self.variant.note is not None:
            self.output.warn("model_limits", f"{self.variant.name} is {self.variant.note}.")
        for name, text in (("prompt", self.request.prompt), ("negative_prompt", self.request.negative_prompt)):
            if text_is_cut(text):
                self.output.warn("prompt_cut", f"Only the first 75 tokens of `{name}` are read.")
        takes = range(self.request.num_samples)
        self._takes = [(Stage.ENCODE, 0.0, None) for _ in takes]
        self.active_job.waits_for_device = True
        futures = self._context.engine.submit([self._take(take, video, image, duration_s, features) for take in takes])
        waveforms = self._waveforms(futures)
        silent = [take + 1 for take, waveform in enumerate(waveforms) if is_silent(waveform)]
        if silent:
            which = "The sound" if len(waveforms) == 1 else f"Take {', '.join(map(str, silent))}"
            self.output.warn("silent", f"{which} is silent; try another seed or prompt.")
        if self.request.loudness_lufs is not None:
            waveforms = [self._normalised(waveform) for waveform in waveforms]
        return waveforms

    def _take(
        self,
        take: int,
        video: VideoFrames | None,
        image: ImageFrame | None,
        duration_s: float,
        features: JobFeatures,
    ) -> EngineRequest:
        request = GenerationRequest(
            duration_s=duration_s,
            seed=self._seed(take),
            prompt=self.request.prompt,
            negative_prompt=self.request.negative_prompt,
            num_steps=self.request.num_steps,
            cfg_strength=self.request.cfg_strength,
            mask_away_clip=self.request.mask_away_clip,
            video=video,
            image=image,
        )
        return EngineRequest(
            variant=self.variant.name,
            request=request,
            stopped=lambda: self.active_job.stopped or self._abandoned.is_set(),
            on_progress=lambda stage, fraction, step: self._engine_progress(take, stage, fraction, step),
            cached_features=features.cached,
            on_encoded=features.store_encoded,
        )

    def _seed(self, take: int) -> int:
        """Return the seed of a take; beyond `MAX_SEED` it wraps around."""
        return ((self.request.seed or 0) + take) % (MAX_SEED + 1)

    def _waveforms(self, futures: list[Future[np.ndarray]]) -> list[np.ndarray]:
        """Wait until the device has finished every take. A stop, or a take that fails, ends them all."""
        pending = set(futures)
        while pending:
            done, pending = wait(pending, timeout=POLL_S, return_when=FIRST_COMPLETED)
            if self.active_job.stopped or any(not future.cancelled() and future.exception() for future in done):
                self._abandoned.set()
                # A take that the device has not started is canceled at once; another ends between two steps.
                pending = {future for future in pending if not future.cancel()}
        self.active_job.check()
        for future in futures:
            fault = None if future.cancelled() else future.exception()
            if fault is not None and not isinstance(fault, StoppedError):
                raise fault
        return [future.result() for future in futures]

    def _engine_progress(self, take: int, stage: Stage, fraction: float, step: int | None) -> None:
        """Note how far a take is and report the one that is furthest behind. Runs on the engine's thread."""
        if self.active_job.waits_for_device:
            self.active_job.waits_for_device = False
            waited_s = time.monotonic() - self._stage_began
            self._add_time("device_wait_s", waited_s)
            self._context.eta.record(self._work, DEVICE_WAIT, waited_s)
            self._stage_began = time.monotonic()
        if stage != self.stage:
            self._end_stage()
            self.stage, self._stage_began = stage, time.monotonic()
        self._takes[take] = (stage, fraction, step)
        behind = min(self._takes, key=lambda take: overall_progress(take[0], take[1]))
        self._report(*behind, self._takes_remaining_s())

    def _takes_remaining_s(self) -> float | None:
        """Estimate the seconds until all takes end: equally far takes share a batch, and batches run in turn."""
        estimates = [
            self._context.eta.remaining_s(self._work, stage, fraction) for stage, fraction, _ in set(self._takes)
        ]
        known = [estimate for estimate in estimates if estimate is not None]
        return sum(known) if len(known) == len(estimates) else None

    def _normalised(self, waveform: np.ndarray) -> np.ndarray:
        assert self.request.loudness_lufs is not None
        result = normalise_loudness(waveform, self.variant.sample_rate_hz, self.request.loudness_lufs)
        if result.limited:
            self.output.warn(
                "loudness_limited", "A true-peak ceiling of -1 dBFS keeps the sound below the requested loudness."
            )
        return result.waveform

    def _mux(
        self, folder: Path, source: Path | None, waveforms: list[np.ndarray], duration_s: float
    ) -> list[tuple[Path, NewArtifact]]:
        """Write each take as an audio file, and as a video where requested; return the files with their artifacts."""
        self._begin(Stage.MUX)
        rate, audio_format = self.variant.sample_rate_hz, self.request.audio_format
        gain_db = (self.request.original_gain_db or 0.0) if self.request.original_audio == "mix" else None
        files = []
        for take, waveform in enumerate(waveforms):
            suffix = f"-{take + 1}" if len(waveforms) > 1 else ""
            seconds = len(waveform) / rate
            sound = folder / f"audio{suffix}.{audio_format}"
            write_audio(sound, Sound.mono(waveform, rate), audio_format)
            content_type = AUDIO_FORMATS[audio_format].content_type
            files.append(
                (sound, self._artifact(sound.name, ArtifactKind.AUDIO, audio_format, content_type, seconds, take))
            )
            if source is None or not self.request.wants_mux:
                continue
            draft = folder / f"draft{suffix}"
            result = self._context.sandbox.mux(
                source,
                waveform,
                rate,
                draft,
                owner=self.claim.job_id,
                start_s=self.request.start_s,
                duration_s=duration_s,
                original_gain_db=gain_db,
            )
            for text in result.warnings:
                self.output.warn("video_note", text)
            name = f"video{suffix}.{result.format}"
            files.append(
                (draft, self._artifact(name, ArtifactKind.VIDEO, result.format, result.content_type, seconds, take))
            )
        return files

    def _artifact(
        self, name: str, kind: ArtifactKind, file_format: str, content_type: str, duration_s: float, take: int
    ) -> NewArtifact:
        return NewArtifact(
            name=name,
            kind=kind,
            format=file_format,
            content_type=content_type,
            storage_key=f"jobs/{self.claim.job_id}/{self.claim.attempt}/{name}",
            size_bytes=0,
            sha256="",
            duration_s=round(duration_s, 6),
            sample_index=take,
            seed=self._seed(take),
        )

    def _upload(self, files: list[tuple[Path, NewArtifact]]) -> None:
        self._begin(Stage.UPLOAD)
        for place, (path, artifact) in enumerate(files):
            self.active_job.check()
            self.output.stored_keys.append(artifact.storage_key)  # first, so that a half-done put is deleted as well
            metadata = artifact_metadata(self.claim, artifact, artifact_ttl_s=self._context.settings.artifact_ttl_s)
            kept = self._hold.keep_trying(
                partial(store_result, self._context.store, path, artifact, metadata), Stage.UPLOAD
            )
            delivery = self.output.delivery
            copy = self._hold.keep_trying(partial(delivery.put, kept, path), Stage.UPLOAD) if delivery else None
            self.output.artifacts.append(replace(kept, delivered_to=copy))
            done = (place + 1) / len(files)
            self._report(Stage.UPLOAD, done, None, self._context.eta.remaining_s(self._work, Stage.UPLOAD, done))


@contextlib.contextmanager
def _sandbox_stop_stops_job() -> Iterator[None]:
    try:
        yield
    except SandboxStoppedError as exc:
        raise StoppedError("stopped while a media process ran") from exc
