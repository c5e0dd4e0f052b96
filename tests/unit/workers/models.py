"""A model that only counts: what the engine asked of it can be read off, and it fails when it is told to."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from jobs.lifecycle import Stage
from mmaudio_model.errors import RequestInvalidError
from mmaudio_model.pipeline import GenerationRequest
from workers.engine import EngineRequest

UNSERVABLE_S = -1.0
BREAKS = "breaks whatever batch it is in"


@dataclass
class CountingBatch:
    requests: list[GenerationRequest]
    rows: list[int]
    taken: Counter[int] = field(default_factory=Counter)


class CountingModel:
    """Its sound of a request is (seed, sampling steps that it took part in). A request is known by its seed.

    Attributes:
        fits: how many requests fit into a batch's memory while it is sampled, and while it is vocoded.
        during_step: called in the middle of each step with its number.
        batches: the seeds of each batch that was begun.
        steps: how many steps each seed took part in, all its batches together.
        alive: batches that still hold memory at the moment that the next one begins, at most.
    """

    def __init__(
        self, *, fits: int = 99, fits_vocode: int = 99, during_step: Callable[[int], None] = lambda step: None
    ) -> None:
        self.fits, self.fits_vocode, self.during_step = fits, fits_vocode, during_step
        self.batches: list[list[int]] = []
        self.steps: Counter[int] = Counter()
        self.alive = 0
        self._held: weakref.WeakSet[torch.Tensor] = weakref.WeakSet()

    def batch_key(self, request: GenerationRequest) -> Hashable:
        if request.duration_s == UNSERVABLE_S:
            raise RequestInvalidError(f"Got a duration of {request.duration_s}.")
        return request.duration_s, request.num_steps

    def encode(self, requests: Sequence[GenerationRequest]) -> tuple[CountingBatch, torch.Tensor]:
        self.batches.append([request.seed for request in requests])
        self.alive = max(self.alive, len(self._held))
        assert len({self.batch_key(request) for request in requests}) == 1, requests
        if any(request.prompt == BREAKS for request in requests):
            raise ValueError("the model met something it does not know")
        memory = torch.zeros(1)
        self._held.add(memory)
        return CountingBatch(list(requests), list(range(len(requests)))), memory

    def sample(
        self,
        encoded: tuple[CountingBatch, torch.Tensor],
        *,
        on_step: Callable[[int, int], Collection[int] | None],
    ) -> tuple[CountingBatch, torch.Tensor]:
        batch, _ = encoded
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
        return encoded

    def vocode(self, latents: tuple[CountingBatch, torch.Tensor]) -> list[np.ndarray | None]:
        batch, _ = latents
        _fit(len(batch.rows), self.fits_vocode)
        return [
            np.array([request.seed, batch.taken[row]], dtype=np.float32) if row in batch.rows else None
            for row, request in enumerate(batch.requests)
        ]


def _fit(count: int, room: int) -> None:
    if count > room:
        raise torch.OutOfMemoryError(f"{count} requests where {room} fit")


@dataclass
class Told:
    """Remembers the progress calls of one request."""

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
    """Return a request to the engine that is known by its seed."""
    request = GenerationRequest(duration_s=duration_s, seed=seed, num_steps=num_steps, prompt=prompt)
    return EngineRequest(variant, request, stopped, on_progress)
