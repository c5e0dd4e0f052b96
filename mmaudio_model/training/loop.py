"""The training loop: AdamW, warm-up, gradient clipping, averaged weights, DDP, checkpoints, logs.

A run is a folder: `options.json`, `log.jsonl`, TensorBoard events if that package is installed, and the checkpoint
`last.pt`. A resumed run gives the same weights as an uninterrupted one: a batch depends only on its step number. With
several processes, each draws its own batch and gradients are averaged; only the first process writes.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from mmaudio_model.errors import TrainingDataError
from mmaudio_model.training.log import TrainingLog
from mmaudio_model.training.options import TrainOptions
from mmaudio_model.training.task import Batch, Draw, Losses, TrainingTask

CHECKPOINT = "last.pt"
OPTIONS = "options.json"
FINAL_SHARE = 0.1
"""Share of the peak learning rate at the end of the cosine schedule."""
VALIDATION_BATCHES = 4

Sample = Callable[[nn.Module, int], None]
"""Called with the averaged module and the step at every validation; writes samples to the run folder."""


class Trainer:
    """Trains one task in one folder; one process per device.

    Args:
        folder: of the run; training resumes from its `last.pt` if there is one.
        device: torch device name of this process.
        resume_from: another checkpoint to resume from; later results in the folder are overwritten.

    Raises:
        TrainingDataError: the checkpoint is missing, damaged or of another model.
    """

    def __init__(
        self,
        task: TrainingTask,
        options: TrainOptions,
        folder: Path,
        *,
        device: str = "cpu",
        on_validation: Sample | None = None,
        on_step: Callable[[int], None] | None = None,
        resume_from: Path | None = None,
    ) -> None:
        self._task, self._options, self._folder, self._device = task, options, folder, device
        self._on_validation, self._on_step = on_validation, on_step
        self._rank, self._world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        self._module = task.module.to(device)
        self.average = AveragedModel(
            self._module, multi_avg_fn=get_ema_multi_avg_fn(options.ema_decay), use_buffers=False
        )
        self.average.requires_grad_(False)
        self._weights = [weight for weight in self._module.parameters() if weight.requires_grad]
        self._optimizer = torch.optim.AdamW(
            _parameter_groups(self._module, options.weight_decay), lr=options.learning_rate, betas=options.betas
        )
        self.step = 0
        folder.mkdir(parents=True, exist_ok=True)
        self._resume(resume_from)
        self._log: TrainingLog | None = None

    def run(self) -> Losses:
        """Train to the last step; return the validation losses of the averaged weights."""
        if self._rank == 0:
            self._log = TrainingLog(self._folder, after_step=self.step)
        try:
            self._train()
        finally:
            if self._log is not None:
                self._log.close()
                self._log = None
        return self.validate()

    def _train(self) -> None:
        options, module = self._options, self._module
        parallel: nn.Module = module
        if self._world > 1:
            parallel = DistributedDataParallel(module, device_ids=[self._device] if "cuda" in self._device else None)
        began, clips_seen = time.monotonic(), 0
        if self.step == 0:
            self._write_log("validation", self.validate())  # the baseline to compare with
        module.train()
        while self.step < options.steps:
            for group in self._optimizer.param_groups:
                group["lr"] = options.learning_rate * rate_at(self.step, options)
            losses = self._losses(parallel, self.step, validation=False)
            if not math.isfinite(loss := losses["loss"].item()):
                raise TrainingDataError(f"The loss became {loss} at step {self.step}; use a lower learning rate.")
            self._optimizer.zero_grad(set_to_none=True)
            losses["loss"].backward()
            norm = nn.utils.clip_grad_norm_(self._weights, options.clip_norm)
            self._optimizer.step()
            self.average.update_parameters(module)
            self.step, clips_seen = self.step + 1, clips_seen + options.batch_size * self._world
            if self.step % options.log_every == 0:
                elapsed = time.monotonic() - began
                self._write_log("train", losses, norm=float(norm), clips_per_s=clips_seen / elapsed)
            if self.step % options.validate_every == 0 or self.step == options.steps:
                self._write_log("validation", self.validate())
                if self._on_validation is not None and self._rank == 0:
                    self._on_validation(self.average.module, self.step)
            if self._is_save_step():
                self._save()
            if self._on_step is not None:
                self._on_step(self.step)

    @torch.no_grad()
    def validate(self) -> Losses:
        """Return the validation losses of the averaged weights, always on the same batches."""
        self.average.module.eval()
        parts = [self._losses(self.average.module, -1 - index, validation=True) for index in range(VALIDATION_BATCHES)]
        return {name: torch.stack([part[name] for part in parts]).mean() for name in parts[0]}

    def _losses(self, module: nn.Module, step: int, *, validation: bool) -> Losses:
        # SeedSequence takes no negative numbers, so validation uses the upper end of the range.
        if validation:
            drawn = Draw.of(self._options.seed, 2**32 - 1 + step, 0)
        else:
            drawn = Draw.of(self._options.seed, step, self._rank)
        batch = self._task.draw_batch(drawn, self._options.batch_size, validation=validation)
        batch = _to_device(batch, self._device)
        with self._autocast():
            result: Losses = module(batch)
            return result

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self._options.precision == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self._device.split(":")[0], dtype=torch.bfloat16)

    def _write_log(self, kind: str, losses: Losses, **figures: float) -> None:
        if self._log is not None:
            values = {name: value.item() for name, value in losses.items()}
            rate = self._optimizer.param_groups[0]["lr"]
            self._log.write(kind, self.step, {**values, **figures, "learning_rate": rate})

    def _is_save_step(self) -> bool:
        options = self._options
        kept = options.keep_every and self.step % options.keep_every == 0
        return bool(self.step % options.save_every == 0 or kept or self.step == options.steps)

    def _save(self) -> None:
        if self._rank != 0:
            return
        state = {
            "step": self.step,
            "module": self._module.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }
        draft = self._folder / f".{CHECKPOINT}.part"
        torch.save(state, draft)
        draft.replace(self._folder / CHECKPOINT)
        (self._folder / OPTIONS).write_text(json.dumps(asdict(self._options), indent=1))
        if self._options.keep_every and self.step % self._options.keep_every == 0:
            kept = self._folder / f"step-{self.step}.pt"
            kept.unlink(missing_ok=True)
            kept.hardlink_to(self._folder / CHECKPOINT)  # needs no copy: the next checkpoint is a new file

    def _resume(self, chosen: Path | None) -> None:
        path = chosen or self._folder / CHECKPOINT
        if chosen is None and not path.exists():
            return
        try:
            state = torch.load(path, map_location=self._device, weights_only=True)
        except (OSError, RuntimeError, UnpicklingError, EOFError) as exc:
            raise TrainingDataError(f"{path} cannot be read as a checkpoint: {exc}") from exc
        try:
            self._module.load_state_dict(state["module"])
        except RuntimeError as exc:
            raise TrainingDataError(f"{path} is a checkpoint of another model; choose another folder. ({exc})") from exc
        self.average.load_state_dict(state["average"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.step = int(state["step"])


def rate_at(step: int, options: TrainOptions) -> float:
    """Return the learning rate of a step as a share of the peak."""
    if step < options.warmup_steps:
        return (step + 1) / options.warmup_steps
    done = (step - options.warmup_steps) / max(1, options.steps - options.warmup_steps)
    return FINAL_SHARE + (1 - FINAL_SHARE) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


def _parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return the optimizer's parameter groups: only matrices and filters have weight decay."""
    weights = [weight for weight in module.parameters() if weight.requires_grad]
    return [
        {"params": [weight for weight in weights if weight.dim() >= 2], "weight_decay": weight_decay},
        {"params": [weight for weight in weights if weight.dim() < 2], "weight_decay": 0.0},
    ]


def _to_device(batch: Batch, device: str) -> Batch:
    def move(value: Tensor) -> Tensor:
        return value.to(device, non_blocking=True)

    return {name: move(value) for name, value in batch.items()}
