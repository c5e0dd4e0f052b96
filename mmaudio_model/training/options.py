"""What a training run may be told; one frozen value a run, kept beside its checkpoints."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainOptions:
    """How a part is trained. Steps are updates of the weights; the batch is per process.

    Attributes:
        learning_rate: the highest; it rises over `warmup_steps` and falls along a cosine to a tenth.
        ema_decay: of the averaged weights, which are what is exported.
        precision: `fp32` or `bf16`; the latter computes under autocast, the weights stay float32.
        keep_every: every so many steps the checkpoint is kept as `step-N.pt` too; 0: never.
        seed: of first values, of what each batch holds, and of all noise.
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
