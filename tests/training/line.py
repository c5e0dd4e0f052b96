"""A task of nine weights, and the loop that trains it, written down a second time and straight."""

from __future__ import annotations

import copy
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmaudio_model.training.loop import rate_at
from mmaudio_model.training.options import TrainOptions
from mmaudio_model.training.task import Batch, Draw, Losses

BETAS = (0.9, 0.95)


class Line(nn.Module):
    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.line = nn.Linear(inputs, 1)
        with torch.no_grad():
            self.line.weight.fill_(0.5)
            self.line.bias.fill_(-0.5)
        self.seen: torch.dtype | None = None

    def forward(self, batch: Batch) -> Losses:
        given = self.line(batch["x"])
        self.seen = given.dtype
        return {"loss": F.mse_loss(given.float(), batch["y"])}


class LineTask:
    """Learns the sum of its inputs.

    Args:
        poison_from: from this batch on the answer is no number.
    """

    parts = MappingProxyType({"line": "line"})

    def __init__(self, inputs: int = 8, *, poison_from: int | None = None) -> None:
        self._inputs, self._poison_from, self._drawn = inputs, poison_from, 0
        self.module = Line(inputs)

    def draw_batch(self, draw: Draw, size: int, *, validation: bool) -> Batch:
        x = torch.randn((size, self._inputs), generator=draw.torch)
        y = x.sum(1, keepdim=True)
        if not validation:
            if self._drawn == self._poison_from:
                y = y * torch.nan
            self._drawn += 1
        return {"x": x, "y": y}


def by_hand(options: TrainOptions, *, ranks: int) -> tuple[nn.Module, nn.Module]:
    """Train a line in one process on what several would draw; return it and its average."""
    task = LineTask()
    module, average = task.module, copy.deepcopy(task.module)
    optimizer = torch.optim.AdamW(
        [
            {"params": [module.line.weight], "weight_decay": options.weight_decay},
            {"params": [module.line.bias], "weight_decay": 0.0},
        ],
        betas=BETAS,
    )
    for step in range(options.steps):
        for group in optimizer.param_groups:
            group["lr"] = options.learning_rate * rate_at(step, options)
        parts = [
            task.draw_batch(Draw.of(options.seed, step, rank), options.batch_size, validation=False)
            for rank in range(ranks)
        ]
        optimizer.zero_grad()
        module({name: torch.cat([part[name] for part in parts]) for name in parts[0]})["loss"].backward()
        _clip(list(module.parameters()), options.clip_norm)
        optimizer.step()
        for mean, weight in zip(average.parameters(), module.parameters(), strict=True):
            _average(mean, weight, options.ema_decay if step else 0.0)
    return module, average


@torch.no_grad()
def _clip(weights: list[nn.Parameter], norm: float) -> None:
    total = torch.stack([weight.grad.norm() for weight in weights if weight.grad is not None]).norm()
    for weight in weights:
        assert weight.grad is not None
        weight.grad *= (norm / (total + 1e-6)).clamp(max=1.0)


@torch.no_grad()
def _average(mean: Tensor, weight: Tensor, decay: float) -> None:
    mean.lerp_(weight, 1 - decay)
