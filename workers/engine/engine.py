"""The thread that owns a device and the loaded models. It batches whatever compatible requests wait, never for them.

Everything that touches the device happens here, so nothing else in the process has to think of it.
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

PATIENCE_S = 10.0
"""How long a request waits, at most, for those of variants that are loaded already."""


class EncodedBatch(Protocol):
    """What is sampled; the engine reads only each request's features."""

    @property
    def features(self) -> tuple[Features, ...]: ...


class LoadedModel(Protocol):
    """What the engine needs of `mmaudio_model.pipeline.Pipeline`."""

    def batch_key(self, request: GenerationRequest) -> Hashable: ...

    def latent_tokens(self, request: GenerationRequest) -> int: ...

    def encode(self, requests: Sequence[GenerationRequest]) -> EncodedBatch: ...

    def sample(self, encoded: Any, *, on_step: Callable[[int, int], Collection[int] | None]) -> Any: ...

    def vocode(self, latents: Any) -> list[np.ndarray | None]: ...


@dataclass
class EngineRequest:
    """One sound to make, and how its job hears of it.

    Attributes:
        stopped: asked between steps; True takes the request out of its batch.
        on_progress: told the stage, the fraction of it that is done, and the sampling step; must not block.
        known: says what need not be encoded; `learned` is told what was, for the next take of the same job. Must not
            block either.
    """

    variant: str
    request: GenerationRequest
    stopped: Callable[[], bool]
    on_progress: Callable[[Stage, float, int | None], None]
    known: Callable[[], Features] = Features
    learned: Callable[[Features], None] = lambda _: None
    future: Future[np.ndarray] = field(default_factory=Future)
    arrived_at: float = 0.0


class Engine:
    """Owns one device.

    Args:
        models: loads variants and holds them; used on the engine's thread.
        limit: how many requests may share a batch.
        watchdog: told when this thread begins, goes on and rests.
        after_batch: called on this thread when a batch has ended and nothing of it is held any more.
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
        return self._models.loaded

    def start(self) -> None:
        self._thread.start()

    def preload(self, variant: str) -> None:
        """Load a variant before the first request for it comes."""
        self._arrivals.put(variant)

    def submit(self, requests: Sequence[EngineRequest]) -> list[Future[np.ndarray]]:
        """Queue requests, together, so that they may share a batch; each future gives a waveform, float32 (samples,).

        A future that is canceled before the device has taken its request never gets there.

        Raises (from a future):
            StoppedError: `stopped` said so.
            DeviceOutOfMemoryError: it does not fit into the device's memory even alone.
            ModelError: as the pipeline says.
        """
        now = time.monotonic()
        for request in requests:
            request.arrived_at = now
        self._arrivals.put(requests)
        return [request.future for request in requests]

    def close(self) -> None:
        """End the thread when what was submitted before is done."""
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
        """Move arrivals to the waiting list; False when the engine was closed."""
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
            # The first request for it will say so to its job; a worker for several variants serves the others.
            log.exception("variant %s could not be loaded", variant)

    def _next_batch(self) -> list[EngineRequest]:
        """Take the first request that is due and all that may share its batch, in order of arrival."""
        batch: list[EngineRequest] = []
        key: Hashable = None
        limit = 1
        left: list[EngineRequest] = []
        for item in self._due_first():
            if item.future.cancelled():
                item.future.set_running_or_notify_cancel()  # without it nobody who waits for the future ever hears
                continue
            if batch and (item.variant != batch[0].variant or len(batch) >= limit):
                left.append(item)
                continue
            try:
                model = self._models.get(item.variant)
                own_key = model.batch_key(item.request)
            except Exception as exc:  # this request's own fault, or its variant's
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
        """Return what waits, oldest first; but what a loaded variant can serve goes before what would drive it out.

        Not for ever: who has waited `PATIENCE_S` has its turn, so variants that do not fit together take turns of that
        length instead of being loaded for every request.
        """
        oldest = self._waiting[:1]
        if not oldest or not self._models.makes_room(oldest[0].variant):
            return self._waiting
        if time.monotonic() - oldest[0].arrived_at > PATIENCE_S:
            return self._waiting
        loaded = set(self._models.loaded)
        return sorted(self._waiting, key=lambda item: item.variant not in loaded)

    def _run_batch(self, batch: list[EngineRequest]) -> None:
        """Run a batch; a fault in a batch of several is found by running them apart."""
        batch = [item for item in batch if not _left(item)]
        fault = self._generate(batch) if batch else None
        # Here nothing of the failed run is held any more: inside an `except` its tensors would still be alive.
        if fault is None:
            return
        if isinstance(fault, torch.OutOfMemoryError):
            _free_memory()
            if len(batch) > 1:
                self._limit.ran_out(batch[0].variant, len(batch), self._tokens(batch))
            fault = _does_not_fit(fault)
            parts = [batch[: len(batch) // 2], batch[len(batch) // 2 :]]
        else:
            parts = [[item] for item in batch]
        if len(batch) == 1:
            if not _left(batch[0]):
                batch[0].future.set_exception(fault)
            return
        log.warning("a batch of %d failed (%s); running it in parts", len(batch), fault)
        for part in parts:
            self._run_batch(part)

    def _generate(self, batch: list[EngineRequest]) -> Exception | None:
        """Give every request of a batch its waveform; return what went wrong, with none of its tensors."""
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
        _tell(batch, Stage.ENCODE, 0.0)
        encoded = model.encode([replace(item.request, features=item.known()) for item in batch])
        for item, features in zip(batch, encoded.features, strict=True):
            item.learned(features.cpu())
        _tell(batch, Stage.SAMPLE, 0.0)

        def after_step(step: int, steps: int) -> list[int]:
            self._watchdog.progressed()
            # Told now, not when its batch ends: that may be a minute later.
            leaving = [row for row, item in enumerate(batch) if _left(item)]
            for row, item in enumerate(batch):
                if row not in leaving:
                    item.on_progress(Stage.SAMPLE, step / steps, step)
            return leaving

        latents = model.sample(encoded, on_step=after_step)
        self._watchdog.progressed()
        _tell(batch, Stage.VOCODE, 0.0)
        waveforms = model.vocode(latents)
        left, silent = [item.future.done() for item in batch], [waveform is None for waveform in waveforms]
        assert left == silent, (left, silent)
        self._limit.fitted(batch[0].variant, len(batch), self._tokens(batch))
        return waveforms

    def _tokens(self, batch: list[EngineRequest]) -> int:
        return self._models.get(batch[0].variant).latent_tokens(batch[0].request)


def _left(item: EngineRequest) -> bool:
    """Let a request go whose job was stopped; say whether it has gone, now or before."""
    if not item.future.done() and item.stopped():
        item.future.set_exception(StoppedError("stopped before its sound was made"))
    return item.future.done()


def _tell(batch: list[EngineRequest], stage: Stage, fraction: float) -> None:
    for item in batch:
        if not item.future.done():
            item.on_progress(stage, fraction, None)


def _does_not_fit(exc: BaseException) -> DeviceOutOfMemoryError:
    error = DeviceOutOfMemoryError("The request does not fit into the device's memory; ask for a shorter sound.")
    error.__cause__ = exc
    return error


def _free_memory() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
