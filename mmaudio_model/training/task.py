"""What the loop needs of a part's training: batches that follow from a step's number, and a loss."""

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
"""Named losses of a batch, scalars; `loss` is what is minimised, the others are told."""

VALIDATION_SHARE = 50
"""One clip in this many is kept out of training and validated on."""


@dataclass(frozen=True)
class Draw:
    """The chance of one batch: the same for the same seed, step and process, so that a resumed run is the same run."""

    numpy: np.random.Generator
    torch: torch.Generator

    @classmethod
    def of(cls, seed: int, step: int, rank: int) -> Draw:
        sequence = np.random.SeedSequence((seed, step, rank))
        own = int(sequence.generate_state(1, dtype=np.uint64)[0] >> 1)
        return cls(np.random.default_rng(sequence), torch.Generator().manual_seed(own))


class TrainingTask(Protocol):
    """One part's training.

    `module` is an `nn.Module` whose `forward(batch)` gives the losses, so that DDP can wrap it; whatever is random was
    drawn with the batch.
    """

    module: nn.Module
    parts: Mapping[str, str]
    """What is exported: part name to the name of its network inside `module`."""

    def draw_batch(self, draw: Draw, size: int, *, validation: bool) -> Batch: ...


def split(shards: Shards) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices to train on and to validate on; both are everything where there are few clips."""
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
