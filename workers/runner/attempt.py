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

from jobs.lifecycle import Stage, overall_progress
from jobs.request import MAX_SEED, JobRequest, is_web_url
from jobs.service.artifact_metadata import artifact_metadata
from jobs.tenants.rules import rules_of
from mmaudio_model.pipeline import GenerationRequest, text_is_cut
from mmaudio_model.result_sounds import silence_warnings
from mmaudio_model.variants import Variant, get_variant
from workers.engine.engine import EngineRequest
from workers.feature_cache.job_features import JobFeatures, find_job_features
from workers.media.sandbox import SandboxStoppedError
from workers.runner.active_jobs import ActiveJob, StoppedError
from workers.runner.attempt_files import ResultWriter, TakeFiles
from workers.runner.attempt_source import SourceParts, SourceReader
from workers.runner.delivery import AttemptDelivery, check_delivery_allowed
from workers.runner.eta import DEVICE_WAIT, JobWork
from workers.runner.inputs import fetch_input, fetch_url
from workers.runner.preview import store_previews
from workers.runner.result_hold import ResultHold
from workers.runner.result_store import store_result
from workers.runner.worker_context import AttemptOutput, WorkerContext

# How often a thread that waits for the device checks whether its job was stopped.
POLL_S = 0.1


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
            parts = SourceReader(self.claim, self.request, self.variant, self._context, self.output).read(
                source, features
            )
            self._work = replace(self._work, duration_s=parts.duration_s)
            waveforms = self._generate(parts, features)
            features.write_to(self._context.features)
            self.active_job.has_result = True
            files = self._hold.keep_trying(lambda: self._mux(folder, source, parts, waveforms), Stage.MUX)
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
            found = self._fetch_to(target)
        finally:
            self.active_job.fetching, self.active_job.fetch_s = False, time.monotonic() - began_at
        return target if found else None

    def _fetch_to(self, target: Path) -> bool:
        url, settings = self.claim.input_key, self._context.settings
        if url is not None and is_web_url(url):  # its host is nobody's here, and may be slow on purpose
            with self._context.db.of_tenant(self.claim.tenant).reading() as tx:
                hosts = rules_of(tx, settings).input_hosts
            fetch_url(url, self.claim, settings, target, hosts=hosts, check_stop=self.active_job.check)
            return True
        return fetch_input(self.claim, self._context.store, settings, target)

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

    def _generate(self, parts: SourceParts, features: JobFeatures) -> list[np.ndarray]:
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
        futures = self._context.engine.submit([self._take(take, parts, features) for take in takes])
        waveforms = self._waveforms(futures)
        self.output.warn_of(silence_warnings(waveforms, self.variant.sample_rate_hz))
        return waveforms

    def _take(self, take: int, parts: SourceParts, features: JobFeatures) -> EngineRequest:
        request = GenerationRequest(
            duration_s=parts.duration_s,
            seed=self._seed(take),
            prompt=self.request.prompt,
            negative_prompt=self.request.negative_prompt,
            num_steps=self.request.num_steps,
            cfg_strength=self.request.cfg_strength,
            mask_away_clip=self.request.mask_away_clip,
            video=parts.video,
            image=parts.image,
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

    def _mux(self, folder: Path, source: Path | None, parts: SourceParts, waveforms: list[np.ndarray]) -> TakeFiles:
        self._begin(Stage.MUX)
        writer = ResultWriter(self.claim, self.request, self._context, self.output, folder, source, parts)
        rate = self.variant.sample_rate_hz
        files = TakeFiles([], [])
        for take, waveform in enumerate(waveforms):
            self.active_job.check()
            written = writer.write(take, waveform, rate, seed=self._seed(take))
            files.results.extend(written.results)
            files.previews.extend(written.previews)
        return files

    def _upload(self, files: TakeFiles) -> None:
        self._begin(Stage.UPLOAD)
        if self.output.delivery is not None:
            self._hold.keep_trying(partial(check_delivery_allowed, self._context.db, self.claim), Stage.UPLOAD)
        for place, (path, artifact) in enumerate(files.results):
            self.active_job.check()
            self.output.stored_keys.append(artifact.storage_key)  # first, so that a half-done put is deleted as well
            metadata = artifact_metadata(self.claim, artifact, artifact_ttl_s=self._context.settings.artifact_ttl_s)
            kept = self._hold.keep_trying(
                partial(store_result, self._context.store, path, artifact, metadata), Stage.UPLOAD
            )
            delivery = self.output.delivery
            copy = self._hold.keep_trying(partial(delivery.put, kept, path), Stage.UPLOAD) if delivery else None
            self.output.artifacts.append(replace(kept, delivered_to=copy))
            done = (place + 1) / len(files.results)
            self._report(Stage.UPLOAD, done, None, self._context.eta.remaining_s(self._work, Stage.UPLOAD, done))
        store_previews(self.claim, self._context, self.output, files.previews)


@contextlib.contextmanager
def _sandbox_stop_stops_job() -> Iterator[None]:
    try:
        yield
    except SandboxStoppedError as exc:
        raise StoppedError("stopped while a media process ran") from exc
