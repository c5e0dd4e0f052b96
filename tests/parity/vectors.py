"""Read the recorded cases: draw their inputs, compare with their outputs."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

DATA = Path(__file__).resolve().parents[1] / "data" / "parity"


@dataclass(frozen=True)
class Case:
    """One recorded run of one part of the published model."""

    record: dict[str, Any]

    @property
    def options(self) -> dict[str, Any]:
        return self.record["options"]

    def input(self, name: str) -> Tensor:
        """Draw an input anew and make sure that it is the one of the record."""
        spec = self.record["inputs"][name]
        value = _draw(spec)
        expected, wide = spec["checksum"], value.double().flatten()
        assert float(wide.mean()) == _close_to(expected["mean"])
        assert wide[:4].tolist() == [_close_to(first) for first in expected["first"]]
        return value

    def has(self, name: str) -> bool:
        return name in self.record["inputs"]

    def expected(self, name: str) -> np.ndarray:
        with np.load(DATA / self.record["file"]) as arrays:
            return arrays[name]

    def difference(self, name: str, value: Tensor) -> float:
        """Return the largest absolute difference to a recorded output, over the part that is on record."""
        got, expected = self.both(name, value)
        return float(np.abs(got - expected).max())

    def both(self, name: str, value: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Return the part that is on record of an output, as it was got and as it was recorded: float64, one shape."""
        spec, whole = self.record["outputs"][name], value.float().numpy()
        assert list(whole.shape) == spec["shape"], f"{name}: got {whole.shape}, on record {spec['shape']}"
        assert float(whole.mean(dtype=np.float64)) == _close_to(spec["mean"], 1e-3), name
        expected = self.expected(name)
        assert expected.size > 0
        return whole[_parse_slice(spec["slice"])].astype(np.float64), expected.astype(np.float64)


@cache
def _records() -> dict[str, dict[str, Any]]:
    return {record["id"]: record for record in json.loads((DATA / "index.json").read_text())["cases"]}


def case(name: str) -> Case:
    return Case(_records()[name])


def _close_to(value: float, tolerance: float = 1e-5) -> Any:
    import pytest

    return pytest.approx(value, rel=0, abs=tolerance)


def _draw(spec: dict[str, Any]) -> Tensor:
    kind = spec["kind"]
    if kind == "const":
        return torch.full(spec["shape"], float(spec["value"]))
    if kind == "list":
        return torch.tensor(spec["values"], dtype=torch.float32)
    if kind == "sweep":
        return _sweep(spec)
    generator, shape = torch.Generator().manual_seed(spec["seed"]), list(spec["shape"])
    if kind == "blocks":  # squares of k x k equal pixels
        side = spec["k"]
        coarse = torch.rand([*shape[:-2], shape[-2] // side, shape[-1] // side], generator=generator)
        coarse = coarse * (spec["hi"] - spec["lo"]) + spec["lo"]
        return coarse.repeat_interleave(side, -2).repeat_interleave(side, -1)
    noise = torch.randn(shape, generator=generator)
    if kind == "unit_rows":
        return noise / noise.norm(dim=-1, keepdim=True)
    assert kind == "randn", kind
    return noise * spec.get("scale", 1.0) + spec.get("offset", 0.0)


def _sweep(spec: dict[str, Any]) -> Tensor:
    t = torch.arange(spec["n"], dtype=torch.float64) / spec["sr"]
    length_s, low, high = spec["n"] / spec["sr"], spec["f0"], spec["f1"]
    phase = 2 * math.pi * (low * t + (high - low) * t * t / (2 * length_s))
    return (spec["amp"] * torch.sin(phase)).float()[None]


def _parse_slice(text: str) -> tuple[Any, ...]:
    """Read numpy's slicing as text, such as `:,::3,::4`."""
    if text == "all":
        return (...,)
    return tuple(
        slice(*(int(number) if number else None for number in part.split(":"))) if ":" in part else int(part)
        for part in text.split(",")
    )
