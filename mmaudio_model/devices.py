"""The device that runs the model: the choice, and the check that this machine has it."""

from __future__ import annotations

import re

import torch

from mmaudio_model.errors import DeviceUnavailableError

DEVICE_NAME = re.compile(r"cpu|cuda(:\d+)?|mps")


def default_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def choose_device(name: str | None) -> str:
    """Return the device to use: the named one, or without a name `cuda` if it is available, else `cpu`.

    Raises:
        DeviceUnavailableError: the name is not allowed, or this machine has no such device.
    """
    if name is None:
        return default_device()
    if not DEVICE_NAME.fullmatch(name):
        raise DeviceUnavailableError(f"Got device {name!r}; allowed are cpu, cuda, cuda:N and mps.")
    available = available_devices()
    if name not in available:
        raise DeviceUnavailableError(f"Device {name} is not available on this machine; use {' or '.join(available)}.")
    return name


def available_devices() -> list[str]:
    """Return the names of the devices that this machine has; `cuda` is the first GPU."""
    cuda = ["cuda", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    mps = ["mps"] if torch.backends.mps.is_available() else []
    return ["cpu", *(cuda if torch.cuda.is_available() else []), *mps]


def default_precision(device: str) -> str:
    return "bf16" if device.startswith("cuda") else "fp32"
