"""Sampling: Euler's method along the flow from noise to a latent, with classifier-free guidance."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mmaudio_model.networks.flow import Conditions, FlowNetwork

StepCallback = Callable[[int, int], Collection[int] | None]
"""Called after each step with (steps done, total); returns the rows of the original batch to drop, if any."""


@dataclass(frozen=True)
class Guidance:
    """Conditions of a batch, the unconditional ones, and the guidance strength of each row.

    `empty` is None if no row is guided (strength below 1): one pass per step instead of two.
    """

    conditional: Conditions
    empty: Conditions | None
    strength: Tensor  # (B, 1, 1), float32

    def select(self, rows: list[int]) -> Guidance:
        empty = self.empty.select(rows) if self.empty is not None else None
        return Guidance(self.conditional.select(rows), empty, self.strength[rows])


def draw_noise(seed: int, shape: tuple[int, int]) -> Tensor:
    """Draw one request's noise, (1, N, C), float32, on the CPU: the same on every machine and for every device.

    Each seed has noise of its own. Torch's CPU generator reads only the lower 32 bits of a seed, so larger ones (and
    negative ones) go to NumPy's Mersenne Twister, whose `RandomState` stream is frozen (NEP 19).
    """
    if 0 <= seed < 2**32:
        return torch.randn((1, *shape), generator=torch.Generator("cpu").manual_seed(seed), device="cpu")
    entropy = seed if seed >= 0 else 2**64 - seed
    state = np.random.RandomState(np.random.MT19937(np.random.SeedSequence(entropy)))
    return torch.from_numpy(state.standard_normal((1, *shape))).float()


def draw_published_noise(seed: int, shape: tuple[int, int], *, device: str, dtype: torch.dtype) -> Tensor:
    """Draw noise as the published program does, (1, N, C): on the model's device and in its dtype."""
    generator = torch.Generator(device).manual_seed(seed)
    return torch.randn((1, *shape), generator=generator, device=device, dtype=dtype)


def euler(
    network: FlowNetwork,
    noise: Tensor,
    guidance: Guidance,
    num_steps: int,
    on_step: StepCallback | None = None,
    *,
    as_published: bool = False,
) -> tuple[Tensor, list[int]]:
    """Follow the flow from t = 0 to t = 1 in equal steps.

    The latent and the time are float32 whatever the network's dtype: in bfloat16 a step of 1 / 25 is off by 0.1 %, and
    small updates of the latent are rounded to zero.

    Args:
        noise: (B, N, C).
        on_step: see `StepCallback`; its exceptions propagate.
        as_published: keep the latent and the time in the network's dtype, as the published program does. No difference
            in float32.

    Returns:
        The remaining latents, (B', N, C), and their rows in the original batch.
    """
    precision = network.dtype if as_published else torch.float32
    x, rows = noise.to(precision), list(range(len(noise)))
    times = torch.linspace(0, 1, num_steps + 1, device=x.device)
    for step in range(num_steps):
        t = times[step].expand(len(x)).to(precision)
        velocity = _guided_velocity(network, x.to(network.dtype), t, guidance)
        x = (x + (times[step + 1] - times[step]) * velocity).to(precision)
        leaving = set(on_step(step + 1, num_steps) or ()) if on_step is not None else set()
        if leaving.intersection(rows):
            kept = [place for place, row in enumerate(rows) if row not in leaving]
            x, guidance = x[kept], guidance.select(kept)
            rows = [rows[place] for place in kept]
            if not rows:
                break
    return x, rows


def _guided_velocity(network: FlowNetwork, x: Tensor, t: Tensor, guidance: Guidance) -> Tensor:
    """Return the guided velocity, float32 (B, N, C)."""
    cond = network.velocity(x, t, guidance.conditional).float()
    if guidance.empty is None:
        return cond
    uncond = network.velocity(x, t, guidance.empty).float()
    return guidance.strength * cond + (1 - guidance.strength) * uncond
