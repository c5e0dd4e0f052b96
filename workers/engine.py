"""The thread that owns a device and the loaded models. It batches whatever compatible requests wait, never for them.

Everything that touches the device happens here, so nothing else in the process has to think of it.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Collection, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch

from jobs.errors import DeviceOutOfMemoryError
from jobs.lifecycle import Stage
from mmaudio_model.pipeline import GenerationRequest
from workers.in_hand import StoppedError

log = logging.getLogger(__name__)


class LoadedModel(Protocol):
    """What the engine needs of `mmaudio_model.pipeline.Pipeline`."""

    def batch_key(self, request: GenerationRequest) -> Hashable: ...

    def encode(self, requests: Sequence[GenerationRequest]) -> Any: ...

    def sample(self, encoded: Any, *, on_step: Callable[[int, int], Collection[int] | None]) -> Any: ...

    def vocode(self, latents: Any) -> list[np.ndarray | None]: ...


@dataclass
class EngineRequest:
    """One sound to make, and how its job hears of it.

    Attributes:
        stopped: asked between steps; True takes the request out of its batch.
        on_progress: told the stage, the fraction of it that is done, and the sampling step; must not block.
    """

    variant: str
    request: GenerationRequest
    stopped: Callable[[], bool]
    on_progress: Callable[[Stage, float, int | None], None]
    future: Future[np.ndarray] = field(default_factory=Future)


class Engine:
    """Owns one device.

    Args:
        load: loads a variant; called on the engine's thread, once a variant.
        max_batch: how many requests may share a batch.
    """

    def __init__(self, load: Callable[[str], LoadedModel], *, max_batch: int) -> None:
        self._load, self._max_batch = load, max_batch
        self._models: dict[str, LoadedModel] = {}
        self._arrivals: queue.SimpleQueue[EngineRequest | str | None] = queue.SimpleQueue()
        self._waiting: list[EngineRequest] = []
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    @property
    def loaded(self) -> list[str]:
        return list(self._models)

    def start(self) -> None:
        self._thread.start()

    def preload(self, variant: str) -> None:
        """Load a variant before the first request for it comes."""
        self._arrivals.put(variant)

    def submit(self, request: EngineRequest) -> Future[np.ndarray]:
        """Queue a request; the future gives its waveform, float32 (samples,), or raises.

        Raises (from the future):
            StoppedError: `stopped` said so.
            DeviceOutOfMemoryError: it does not fit into the device's memory even alone.
            ModelError: as the pipeline says.
        """
        self._arrivals.put(request)
        return request.future

    def close(self) -> None:
        """End the thread when what was submitted before is done."""
        self._arrivals.put(None)
        self._thread.join()

    def _run(self) -> None:
        open_ = True
        while open_ or self._waiting:
            open_ = self._collect(wait=open_ and not self._waiting) and open_
            batch = self._next_batch()
            if batch:
                self._run_batch(batch)

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
                self._waiting.append(arrival)

    def _preload(self, variant: str) -> None:
        try:
            self._model(variant)
        except Exception:
            # The first request for it will say so to its job; a worker for several variants serves the others.
            log.exception("variant %s could not be loaded", variant)

    def _model(self, variant: str) -> LoadedModel:
        if variant not in self._models:
            log.info("loading %s", variant)
            self._models[variant] = self._load(variant)
        return self._models[variant]

    def _next_batch(self) -> list[EngineRequest]:
        """Take the oldest request and all that may share its batch, in order of arrival."""
        batch: list[EngineRequest] = []
        key: Hashable = None
        left: list[EngineRequest] = []
        for item in self._waiting:
            if item.stopped():
                item.future.set_exception(StoppedError("stopped before it began"))
                continue
            try:
                own_key = (item.variant, self._model(item.variant).batch_key(item.request))
            except Exception as exc:  # this request's own fault, or its variant's
                item.future.set_exception(exc)
                continue
            if not batch:
                key = own_key
            if own_key == key and len(batch) < self._max_batch:
                batch.append(item)
            else:
                left.append(item)
        self._waiting = left
        return batch

    def _run_batch(self, batch: list[EngineRequest]) -> None:
        """Run a batch; a fault in a batch of several is found by running them apart."""
        try:
            self._generate(batch)
        except torch.OutOfMemoryError as exc:
            if len(batch) == 1:
                batch[0].future.set_exception(_does_not_fit(exc))
                return
            middle = len(batch) // 2
            log.warning("out of memory with a batch of %d; going on with halves", len(batch))
            _free_memory()
            self._run_batch(batch[:middle])
            self._run_batch(batch[middle:])
        except Exception as exc:
            if len(batch) == 1:
                batch[0].future.set_exception(exc)
                return
            log.warning("a batch of %d failed (%s); running its requests one by one", len(batch), exc)
            for item in batch:
                self._run_batch([item])

    def _generate(self, batch: list[EngineRequest]) -> None:
        model = self._model(batch[0].variant)
        _tell(batch, Stage.ENCODE, 0.0)
        encoded = model.encode([item.request for item in batch])
        _tell(batch, Stage.SAMPLE, 0.0)

        def after_step(step: int, steps: int) -> list[int]:
            leaving = [row for row, item in enumerate(batch) if item.stopped()]
            for row, item in enumerate(batch):
                if row not in leaving:
                    item.on_progress(Stage.SAMPLE, step / steps, step)
            return leaving

        latents = model.sample(encoded, on_step=after_step)
        _tell(batch, Stage.VOCODE, 0.0)
        for item, waveform in zip(batch, model.vocode(latents), strict=True):
            if waveform is None:
                item.future.set_exception(StoppedError("stopped between two steps"))
            else:
                item.future.set_result(waveform)


def _tell(batch: list[EngineRequest], stage: Stage, fraction: float) -> None:
    for item in batch:
        item.on_progress(stage, fraction, None)


def _does_not_fit(exc: BaseException) -> DeviceOutOfMemoryError:
    error = DeviceOutOfMemoryError("The request does not fit into the device's memory; ask for a shorter sound.")
    error.__cause__ = exc
    return error


def _free_memory() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
