"""The interface between the training loop and a task: batches that depend only on the step number, and losses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from mmaudio_model.training.data.shards import Shards

Batch = dict[str, Tensor]
Losses = dict[str, Tensor]
"""Named scalar losses of a batch; `loss` is minimised, the others are logged."""

VALIDATION_SHARE = 50
"""One clip in this many is held out for validation."""


@dataclass(frozen=True)
class Draw:
    """Random generators of one batch, determined by seed, step and process, so that a resumed run is reproducible."""

    numpy: np.random.Generator
    torch: torch.Generator

    @classmethod
    def of(cls, seed: int, step: int, rank: int) -> Draw:
        sequence = np.random.SeedSequence((seed, step, rank))
        own = int(sequence.generate_state(1, dtype=np.uint64)[0] >> 1)
        return cls(np.random.default_rng(sequence), torch.Generator().manual_seed(own))


class TrainingTask(Protocol):
    """The training of one network.

    `module.forward(batch)` returns the losses, so that DDP can wrap it; all randomness is drawn with the batch.
    """

    @property
    def module(self) -> nn.Module: ...

    @property
    def parts(self) -> Mapping[str, str]:
        """Return what is exported: part name to the name of its network inside `module`."""
        ...

    def draw_batch(self, draw: Draw, size: int, *, validation: bool) -> Batch: ...


def split(shards: Shards) -> tuple[np.ndarray, np.ndarray]:
    """Return training and validation indices, int64 (n,); with few clips both contain all of them."""
    everything = np.arange(len(shards))
    held = everything % VALIDATION_SHARE == VALIDATION_SHARE - 1
    return (everything[~held], everything[held]) if held.any() else (everything, everything)


def draw_clips(shards: Shards, draw: Draw, size: int, *, validation: bool) -> list[int]:
    train, held = split(shards)
    chosen = held if validation else train
    return [int(index) for index in draw.numpy.choice(chosen, size, replace=size > len(chosen))]


def waveforms(shards: Shards, indices: list[int]) -> Tensor:
    """Return float32 (B, samples) in [-1, 1]."""
    return torch.from_numpy(shards.batch("waveform", indices).astype(np.float32) / 32767)
