"""Self-test of a device before it takes jobs: a matrix product on it must equal the CPU's."""

from __future__ import annotations

import torch

SIDE = 512
# Products of reduced precision (TF32) differ by a thousandth; a broken device is far off, or returns NaN.
LARGEST_ERROR = 1e-2


class DeviceUnusableError(Exception):
    """Raised for a device that cannot be used or computes wrong results; the message says how."""


def check_device(device: str) -> None:
    """Multiply two matrices on the device and on the CPU, and compare.

    Raises:
        DeviceUnusableError: the device cannot, or the results differ.
    """
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(SIDE, SIDE, generator=generator) for _ in range(2))
    expected = left.double() @ right.double()
    try:
        product = (left.to(device) @ right.to(device)).cpu().double()
    except (RuntimeError, AssertionError, NotImplementedError) as exc:  # AssertionError: a torch without CUDA
        raise DeviceUnusableError(f"Device {device} cannot multiply two matrices: {exc}") from exc
    error = float((product - expected).norm() / expected.norm())
    if not error <= LARGEST_ERROR:
        raise DeviceUnusableError(
            f"Device {device} computes wrong results: the relative error of a matrix product is {error:.2g}, at most "
            f"{LARGEST_ERROR:g} is allowed. The device or its driver is broken."
        )
