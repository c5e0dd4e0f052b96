"""The thread that owns a device and its loaded models. It batches the compatible requests that wait.

A batch never waits for further requests. All access to the device happens on this thread, so that no other code needs
locks for it; jobs, SQL and files do not belong here.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
import traceback
from collections.abc import Callable, Collection, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import torch

from jobs.errors import DeviceOutOfMemoryError
from jobs.lifecycle import Stage
from mmaudio_model.features import Features
from mmaudio_model.pipeline import GenerationRequest
from workers.engine.batch_limit import BatchLimit
from workers.engine.model_cache import ModelCache
from workers.engine.utilization import UtilizationClock
from workers.engine.watchdog import Watchdog
from workers.runner.active_jobs import StoppedError

log = logging.getLogger(__name__)

EVICT_AFTER_S = 10.0
"""How long a request for a variant that is not loaded waits, at most, for requests for loaded ones."""


class EncodedBatch(Protocol):
    """An encoded batch; the engine reads only the features of each request."""

    @property
    def features(self) -> tuple[Features, ...]: ...


class LoadedModel(Protocol):
    """The methods of `mmaudio_model.pipeline.Pipeline` that the engine calls."""

    def batch_key(self, request: GenerationRequest) -> Hashable: ...

    def latent_tokens(self, request: GenerationRequest) -> int: ...

    def encode(self, requests: Sequence[GenerationRequest]) -> EncodedBatch: ...

    def sample(self, encoded: Any, *, on_step: Callable[[int, int], Collection[int] | None]) -> Any: ...

    def vocode(self, latents: Any) -> list[np.ndarray | None]: ...


@dataclass
class EngineRequest:
    """One sound to generate, with the callbacks of its job. No callback may block.

    Attributes:
        stopped: called between steps; True removes the request from its batch.
        on_progress: called with the stage, the fraction of it that is done, and the sampling step.
        cached_features: returns the features that need not be encoded.
        on_encoded: called with the encoded features, for the next take of the same job.
    """

    variant: str
    request: GenerationRequest
    stopped: Callable[[], bool]
    on_progress: Callable[[Stage, float, int | None], None]
    cached_features: Callable[[], Features] = Features
    on_encoded: Callable[[Features], None] = lambda _: None
    future: Future[np.ndarray] = field(default_factory=Future)
    arrived_at: float = 0.0


class Engine:
    """Owns one device.

    Args:
        models: the loaded variants; used on the engine's thread.
        limit: how many requests may share a batch.
        watchdog: reset with every step of this thread, and stopped while it is idle.
        after_batch: called on this thread when a batch has ended and its tensors are freed.
    """

    def __init__(
        self,
        models: ModelCache[LoadedModel],
        limit: BatchLimit,
        *,
        watchdog: Watchdog | None = None,
        after_batch: Callable[[], None] = lambda: None,
    ) -> None:
        self._models, self._limit, self._after_batch = models, limit, after_batch
        self._watchdog = watchdog or Watchdog(limit_s=0)
        self.clock = UtilizationClock()
        self._arrivals: queue.SimpleQueue[Sequence[EngineRequest] | str | None] = queue.SimpleQueue()
        self._waiting: list[EngineRequest] = []
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    @property
    def loaded(self) -> list[str]:
        """Variants in memory."""
        return self._models.loaded

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def preload(self, variant: str) -> None:
        """Load a variant before its first request arrives."""
        self._arrivals.put(variant)

    def submit(self, requests: Sequence[EngineRequest]) -> list[Future[np.ndarray]]:
        """Queue requests together, so that they may share a batch; return a future waveform, float32 (samples,), each.

        A request whose future is canceled before its batch starts never reaches the device.

        Raises (from a future):
            StoppedError: `stopped` returned True.
            DeviceOutOfMemoryError: the request exceeds the device's memory even alone.
            ModelError: raised by the pipeline.
        """
        now = time.monotonic()
        for request in requests:
            request.arrived_at = now
        self._arrivals.put(requests)
        return [request.future for request in requests]

    def close(self) -> None:
        """Stop the thread when all submitted requests are done."""
        self._arrivals.put(None)
        self._thread.join()

    def _run(self) -> None:
        open_ = True
        while open_ or self._waiting:
            self.clock.idle()
            if not self._waiting:
                self._watchdog.idle()
            open_ = self._collect(wait=open_ and not self._waiting) and open_
            self.clock.busy()
            self._watchdog.progressed()
            batch = self._next_batch()
            if batch:
                self._run_batch(batch)
                self._after_batch()
        self._watchdog.idle()

    def _collect(self, *, wait: bool) -> bool:
        """Move arrivals to the waiting list; return False when the engine was closed."""
        while True:
            try:
                arrival = self._arrivals.get(block=wait)
            except queue.Empty:
                return True
            wait = False
            if arrival is None:
                return False
            if isinstance(arrival, str):
                self._preload(arrival)
            else:
                self._waiting.extend(arrival)

    def _preload(self, variant: str) -> None:
        self._watchdog.progressed()
        try:
            self._models.get(variant)
        except Exception:
            # The first request for it fails with the same error; the worker still serves its other variants.
            log.exception("variant %s could not be loaded", variant)

    def _next_batch(self) -> list[EngineRequest]:
        """Remove the first request and all that may share its batch from the waiting list, in order of arrival."""
        batch: list[EngineRequest] = []
        key: Hashable = None
        limit = 1
        left: list[EngineRequest] = []
        for item in self._due_first():
            if item.future.cancelled():
                item.future.set_running_or_notify_cancel()  # wakes up whoever waits for the future
                continue
            if batch and (item.variant != batch[0].variant or len(batch) >= limit):
                left.append(item)
                continue
            try:
                model = self._models.get(item.variant)
                own_key = model.batch_key(item.request)
            except Exception as exc:  # the fault of this request or of its variant
                if item.future.set_running_or_notify_cancel():
                    item.future.set_exception(exc)
                continue
            if batch and own_key != key:
                left.append(item)
            elif item.future.set_running_or_notify_cancel():
                if not batch:
                    limit = self._limit.requests(item.variant, model.latent_tokens(item.request))
                batch.append(item)
                key = own_key
        self._waiting = sorted(left, key=lambda item: item.arrived_at)
        return batch

    def _due_first(self) -> list[EngineRequest]:
        """Return the waiting requests, oldest first; those for loaded variants precede one that would evict a variant.

        Only for `EVICT_AFTER_S`: variants that do not fit into memory together alternate at that interval instead of
        being loaded for every request.
        """
        oldest = self._waiting[:1]
        if not oldest or not self._models.evicts(oldest[0].variant):
            return self._waiting
        if time.monotonic() - oldest[0].arrived_at > EVICT_AFTER_S:
            return self._waiting
        loaded = set(self._models.loaded)
        return sorted(self._waiting, key=lambda item: item.variant not in loaded)

    def _run_batch(self, batch: list[EngineRequest]) -> None:
        """Run a batch; when a batch of several fails, run it in parts, so that only the faulty request fails."""
        batch = [item for item in batch if not _resolve_stopped(item)]
        fault = self._generate(batch) if batch else None
        # The tensors of the failed run are freed by now; inside an `except` they would still be alive.
        if fault is None:
            return
        if isinstance(fault, torch.OutOfMemoryError):
            torch.cuda.empty_cache()
            if len(batch) > 1:
                self._limit.ran_out(batch[0].variant, len(batch), self._tokens(batch))
            fault = _out_of_memory(fault)
            parts = [batch[: len(batch) // 2], batch[len(batch) // 2 :]]
        else:
            parts = [[item] for item in batch]
        if len(batch) == 1:
            if not _resolve_stopped(batch[0]):
                batch[0].future.set_exception(fault)
            return
        log.warning("a batch of %d requests failed (%s); running it in parts", len(batch), fault)
        for part in parts:
            self._run_batch(part)

    def _generate(self, batch: list[EngineRequest]) -> Exception | None:
        """Resolve the futures of a batch; return the error, if any, without references to its tensors."""
        try:
            waveforms = self._waveforms(batch)
        except Exception as exc:
            traceback.clear_frames(exc.__traceback__)
            return exc
        for item, waveform in zip(batch, waveforms, strict=True):
            if waveform is not None:
                item.future.set_result(waveform)
        return None

    def _waveforms(self, batch: list[EngineRequest]) -> list[np.ndarray | None]:
        model = self._models.get(batch[0].variant)
        self._limit.begin()
        _report(batch, Stage.ENCODE, 0.0)
        encoded = model.encode([replace(item.request, features=item.cached_features()) for item in batch])
        for item, features in zip(batch, encoded.features, strict=True):
            item.on_encoded(features.cpu())
        _report(batch, Stage.SAMPLE, 0.0)

        def after_step(step: int, steps: int) -> list[int]:
            self._watchdog.progressed()
            # Resolve a stopped request now: its batch may end a minute later.
            stopped = [row for row, item in enumerate(batch) if _resolve_stopped(item)]
            for row, item in enumerate(batch):
                if row not in stopped:
                    item.on_progress(Stage.SAMPLE, step / steps, step)
            return stopped

        latents = model.sample(encoded, on_step=after_step)
        self._watchdog.progressed()
        _report(batch, Stage.VOCODE, 0.0)
        waveforms = model.vocode(latents)
        stopped, missing = [item.future.done() for item in batch], [waveform is None for waveform in waveforms]
        assert stopped == missing, (stopped, missing)
        self._limit.fitted(batch[0].variant, len(batch), self._tokens(batch))
        return waveforms

    def _tokens(self, batch: list[EngineRequest]) -> int:
        return self._models.get(batch[0].variant).latent_tokens(batch[0].request)


def _resolve_stopped(item: EngineRequest) -> bool:
    """Resolve the future of a request whose job was stopped; return whether the future is resolved."""
    if not item.future.done() and item.stopped():
        item.future.set_exception(StoppedError("stopped before its sound was generated"))
    return item.future.done()


def _report(batch: list[EngineRequest], stage: Stage, fraction: float) -> None:
    for item in batch:
        if not item.future.done():
            item.on_progress(stage, fraction, None)


def _out_of_memory(exc: BaseException) -> DeviceOutOfMemoryError:
    error = DeviceOutOfMemoryError("The request exceeds the device's memory; request a shorter sound.")
    error.__cause__ = exc
    return error
