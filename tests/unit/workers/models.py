"""A fake model that records what the engine calls, and fails on demand."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
import torch

from jobs.lifecycle import Stage
from mmaudio_model.errors import RequestInvalidError
from mmaudio_model.features import Features
from mmaudio_model.pipeline import GenerationRequest
from workers.engine.batch_limit import BatchLimit
from workers.engine.device_memory import DeviceMemory, UnknownMemory
from workers.engine.engine import Engine, EngineRequest, LoadedModel
from workers.engine.model_cache import ModelCache
from workers.engine.watchdog import Watchdog

UNSERVABLE_S = -1.0
BREAKS = "breaks whatever batch it is in"


@dataclass
class CountingBatch:
    requests: list[GenerationRequest]
    rows: list[int]
    memory: torch.Tensor
    taken: Counter[int] = field(default_factory=Counter)
    features: tuple[Features, ...] = ()


class CountingModel:
    """Returns (seed, number of sampling steps) as the sound of a request; requests are identified by their seed.

    Attributes:
        fits, fits_vocode: how many requests fit into memory while a batch is sampled, and while it is vocoded.
        during_step: called in the middle of each step with its number.
        batches: the seeds of each batch that was started.
        steps: number of steps of each seed, over all its batches.
        encoded: the prompts whose features were not cached.
        alive: maximum number of batches that still hold memory when the next one starts.
    """

    def __init__(
        self, *, fits: int = 99, fits_vocode: int = 99, during_step: Callable[[int], None] = lambda step: None
    ) -> None:
        self.fits, self.fits_vocode, self.during_step = fits, fits_vocode, during_step
        self.batches: list[list[int]] = []
        self.steps: Counter[int] = Counter()
        self.encoded: list[str] = []
        self.alive = 0
        self._held: weakref.WeakSet[torch.Tensor] = weakref.WeakSet()

    def batch_key(self, request: GenerationRequest) -> Hashable:
        if request.duration_s == UNSERVABLE_S:
            raise RequestInvalidError(f"Got a duration of {request.duration_s}.")
        return request.duration_s, request.num_steps

    def latent_tokens(self, request: GenerationRequest) -> int:
        return int(request.duration_s * 10)

    def encode(self, requests: Sequence[GenerationRequest]) -> CountingBatch:
        self.batches.append([request.seed for request in requests])
        self.alive = max(self.alive, len(self._held))
        assert len({self.batch_key(request) for request in requests}) == 1, requests
        if any(request.prompt == BREAKS for request in requests):
            raise ValueError("the model failed on this input")
        memory = torch.zeros(1)
        self._held.add(memory)
        features = []
        for request in requests:
            if request.features.text is None:
                self.encoded.append(request.prompt)
            features.append(Features(text=torch.zeros(1)))
        return CountingBatch(list(requests), list(range(len(requests))), memory, features=tuple(features))

    def sample(
        self,
        batch: CountingBatch,
        *,
        on_step: Callable[[int, int], Collection[int] | None],
    ) -> CountingBatch:
        _fit(len(batch.rows), self.fits)
        num_steps = batch.requests[0].num_steps
        for step in range(1, num_steps + 1):
            for row in batch.rows:
                batch.taken[row] += 1
                self.steps[batch.requests[row].seed] += 1
            self.during_step(step)
            leaving = set(on_step(step, num_steps) or ())
            batch.rows = [row for row in batch.rows if row not in leaving]
            if not batch.rows:
                break
        return batch

    def vocode(self, batch: CountingBatch) -> list[np.ndarray | None]:
        _fit(len(batch.rows), self.fits_vocode)
        return [
            np.array([request.seed, batch.taken[row]], dtype=np.float32) if row in batch.rows else None
            for row, request in enumerate(batch.requests)
        ]


def _fit(count: int, limit: int) -> None:
    if count > limit:
        raise torch.OutOfMemoryError(f"{count} requests where {limit} fit")


@dataclass
class ProgressRecorder:
    """Records the progress calls of one request."""

    calls: list[tuple[Stage, float, int | None]] = field(default_factory=list)

    def __call__(self, stage: Stage, fraction: float, step: int | None) -> None:
        self.calls.append((stage, fraction, step))


def asking(
    seed: int,
    *,
    variant: str = "tiny_16k",
    duration_s: float = 1.0,
    num_steps: int = 4,
    prompt: str = "",
    stopped: Callable[[], bool] = lambda: False,
    on_progress: Callable[[Stage, float, int | None], None] = lambda stage, fraction, step: None,
) -> EngineRequest:
    """Return an engine request that is identified by its seed."""
    request = GenerationRequest(duration_s=duration_s, seed=seed, num_steps=num_steps, prompt=prompt)
    return EngineRequest(variant, request, stopped, on_progress)


def engine_of(
    load: Callable[[str], LoadedModel],
    *,
    max_batch: int = 8,
    memory: DeviceMemory | None = None,
    watchdog: Watchdog | None = None,
) -> Engine:
    """Return an engine whose variants all fit into memory."""
    return Engine(ModelCache(load), BatchLimit(max_batch, memory or UnknownMemory()), watchdog=watchdog)


def run(model: LoadedModel, *submitted: list[EngineRequest], max_batch: int = 8) -> Engine:
    """Run an engine on requests that were submitted before it started, until all are done."""
    engine = engine_of(lambda variant: model, max_batch=max_batch)
    for requests in submitted:
        engine.submit(requests)
    engine.start()
    engine.close()
    return engine


def sound(future: Future[np.ndarray]) -> list[float]:
    """Return the waveform of a future that must be done."""
    assert future.done()
    return [float(value) for value in future.result()]


def fault(future: Future[np.ndarray]) -> BaseException | None:
    assert future.done()
    return future.exception()
