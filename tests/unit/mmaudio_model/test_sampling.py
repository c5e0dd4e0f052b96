"""Euler's method and guidance on flows whose end is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from mmaudio_model.sampling import Guidance, draw_noise, draw_published_noise, euler


@dataclass
class Push:
    """Stands for conditions: a velocity that is the same everywhere."""

    velocity: Tensor

    def select(self, rows: list[int]) -> Push:
        return Push(self.velocity[rows])


class ConstantFlow:
    """Stands for the network: its flow is the conditions' push."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        self.dtype = dtype

    def velocity(self, x: Tensor, t: Tensor, conditions: Any) -> Tensor:
        assert x.shape == conditions.velocity.shape
        assert t.shape == (len(x),)
        return conditions.velocity


class GrowingFlow:
    """dx/dt = x, whose Euler solution with n steps is (1 + 1/n)^n."""

    dtype = torch.float32

    def velocity(self, x: Tensor, t: Tensor, conditions: Any) -> Tensor:
        return x


def pushes(*values: float) -> Push:
    return Push(torch.tensor(values).view(-1, 1, 1))


def unguided(rows: int) -> Guidance:
    return Guidance(pushes(*[0.0] * rows), None, torch.ones(rows, 1, 1))


@pytest.mark.parametrize("num_steps", [1, 7, 25])
def test_a_constant_flow_is_followed_exactly(num_steps: int) -> None:
    guidance = Guidance(pushes(2.0, -1.0), None, torch.ones(2, 1, 1))
    x, rows = euler(ConstantFlow(), torch.tensor([[[1.0]], [[1.0]]]), guidance, num_steps)  # type: ignore[arg-type]

    assert x.flatten().tolist() == pytest.approx([3.0, 0.0], abs=1e-6)
    assert rows == [0, 1]


def test_steps_are_eulers() -> None:
    x, _ = euler(GrowingFlow(), torch.ones(1, 1, 1), unguided(1), 10)  # type: ignore[arg-type]

    assert float(x) == pytest.approx(1.1**10, rel=1e-6)


def test_guidance_goes_beyond_the_condition_by_each_rows_own_strength() -> None:
    guidance = Guidance(pushes(1.0, 1.0), pushes(0.5, -1.0), torch.tensor([1.0, 4.5]).view(2, 1, 1))
    x, _ = euler(ConstantFlow(), torch.zeros(2, 1, 1), guidance, 5)  # type: ignore[arg-type]

    assert x.flatten().tolist() == pytest.approx([1.0, 4.5 * 1 + (1 - 4.5) * -1], abs=1e-5)


def test_rows_that_leave_are_named_by_their_place_in_the_first_batch() -> None:
    guidance = Guidance(pushes(1.0, 2.0, 3.0), None, torch.ones(3, 1, 1))
    leaving = {1: [0], 2: [0, 1], 3: [7]}  # one that left already, or never was, is no fault
    x, rows = euler(
        ConstantFlow(),
        torch.zeros(3, 1, 1),
        guidance,
        4,
        lambda step, _: leaving.get(step),  # type: ignore[arg-type]
    )

    assert rows == [2]
    assert float(x) == pytest.approx(3.0)


@pytest.mark.parametrize(("as_published", "end"), [(False, 8.1), (True, 8.0)])
def test_small_steps_are_lost_in_bfloat16_only_where_they_are_published_so(as_published: bool, end: float) -> None:
    guidance = Guidance(Push(torch.full((1, 1, 1), 0.1, dtype=torch.bfloat16)), None, torch.ones(1, 1, 1))
    flow = ConstantFlow(torch.bfloat16)
    x, _ = euler(flow, torch.full((1, 1, 1), 8.0), guidance, 100, as_published=as_published)  # type: ignore[arg-type]

    assert float(x) == pytest.approx(end, abs=1e-3)


def test_noise_follows_from_the_seed_alone() -> None:
    first, again, other = (draw_noise(seed, (5, 3)) for seed in (42, 42, 43))

    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(first, torch.randn(1, 5, 3, generator=torch.Generator().manual_seed(42)))


def test_every_seed_of_64_bits_has_noise_of_its_own() -> None:
    seeds = [base + 7 for base in (0, 2**32, 2**33, 2**40, 2**63 - 8)] + [-1, -7, -(2**63), 2**32 - 1, 2**64 - 1]
    drawn = [draw_noise(seed, (40, 10)) for seed in seeds]

    for index, noise in enumerate(drawn):
        assert noise.shape == (1, 40, 10)
        assert noise.dtype == torch.float32
        assert abs(float(noise.mean())) < 0.2
        assert float(noise.std()) == pytest.approx(1, abs=0.15)
        for other in drawn[:index]:
            assert abs(float((noise * other).mean())) < 0.25, "the noise of two seeds is alike"


def test_large_seeds_give_the_same_noise_for_ever() -> None:
    # Recorded; users keep seeds.
    expected = [0.12700358033180237, -0.62722247838974, 0.799038827419281]
    assert draw_noise(2**32 + 7, (1, 3)).flatten().tolist() == pytest.approx(expected)


def test_noise_does_not_depend_on_the_default_device() -> None:
    with torch.device("meta"):
        assert draw_noise(7, (2, 3)).device.type == "cpu"
        assert draw_noise(2**40, (2, 3)).device.type == "cpu"


def test_published_noise_is_drawn_in_the_dtype_of_the_model() -> None:
    rounded = draw_published_noise(7, (5, 3), device="cpu", dtype=torch.bfloat16)

    assert rounded.dtype == torch.bfloat16
    assert torch.equal(rounded, draw_noise(7, (5, 3)).bfloat16())
