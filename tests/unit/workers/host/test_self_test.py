"""A device that computes wrong results gets no jobs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

from workers.host.self_test import DeviceUnusableError, check_device


class BrokenDevice(TorchFunctionMode):
    """Changes every matrix product in float32, which is what the device under test computes in."""

    def __init__(self, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self._change = change

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        wrong = "matmul" in getattr(func, "__name__", "") and result.dtype is torch.float32
        return self._change(result) if wrong else result


def test_a_device_that_computes_right_results_is_accepted() -> None:
    check_device("cpu")


@pytest.mark.parametrize("change", [lambda product: product * 1.02, lambda product: product * float("nan")])
def test_a_device_that_computes_wrong_results_is_refused(change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    with BrokenDevice(change), pytest.raises(DeviceUnusableError, match="cpu computes wrong results"):
        check_device("cpu")


def test_a_device_with_reduced_precision_is_accepted() -> None:
    with BrokenDevice(lambda product: product.bfloat16().float()):
        check_device("cpu")


@pytest.mark.parametrize("device", ["meta", "cuda:0"])
def test_a_device_that_cannot_compute_is_refused(device: str) -> None:
    if device.startswith("cuda") and torch.cuda.is_available():  # pragma: no cover
        check_device(device)
        return
    with pytest.raises(DeviceUnusableError, match=f"{device} cannot multiply two matrices: "):
        check_device(device)
