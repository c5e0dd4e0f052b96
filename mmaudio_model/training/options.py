"""Options of a training run; saved beside its checkpoints."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainOptions:
    """Hyperparameters. A step is one weight update; the batch size is per process.

    Attributes:
        learning_rate: the peak; linear warm-up over `warmup_steps`, then cosine decay to a tenth.
        ema_decay: of the exponential moving average, which is what is exported.
        precision: `fp32` or `bf16`; the latter uses autocast with float32 weights.
        keep_every: interval in steps at which a checkpoint is also kept as `step-N.pt`; 0: never.
        seed: for initial values, batch selection and all noise.
    """

    steps: int
    batch_size: int
    learning_rate: float
    warmup_steps: int = 100
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.95)
    clip_norm: float = 1.0
    ema_decay: float = 0.999
    precision: str = "fp32"
    seed: int = 0
    log_every: int = 20
    save_every: int = 500
    keep_every: int = 0
    validate_every: int = 500
