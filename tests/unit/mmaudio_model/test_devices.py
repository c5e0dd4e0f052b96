"""The device is checked before the model is loaded."""

from __future__ import annotations

import pytest
import torch

from mmaudio_model.devices import available_devices, choose_device, default_precision
from mmaudio_model.errors import DeviceUnavailableError


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> int:
    """A machine with as many GPUs as the test says."""
    count: int = request.param
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    return count


@pytest.mark.parametrize(("gpus", "device"), [(0, "cpu"), (2, "cuda")], indirect=["gpus"])
def test_without_a_name_the_gpu_is_preferred(gpus: int, device: str) -> None:
    assert choose_device(None) == device


@pytest.mark.parametrize(("gpus", "names"), [(0, ["cpu"]), (2, ["cpu", "cuda", "cuda:0", "cuda:1"])], indirect=["gpus"])
def test_every_device_of_the_machine_can_be_named(gpus: int, names: list[str]) -> None:
    assert available_devices() == names
    assert [choose_device(name) for name in names] == names


@pytest.mark.parametrize("gpus", [0], indirect=True)
@pytest.mark.parametrize("name", ["cuda", "cuda:0", "mps"])
def test_a_device_that_is_not_there_is_refused_with_those_that_are(gpus: int, name: str) -> None:
    with pytest.raises(DeviceUnavailableError, match=f"^Device {name} is not available on this machine; use cpu.$"):
        choose_device(name)


@pytest.mark.parametrize("gpus", [1], indirect=True)
def test_a_gpu_beyond_the_last_is_refused(gpus: int) -> None:
    with pytest.raises(DeviceUnavailableError, match="use cpu or cuda or cuda:0"):
        choose_device("cuda:1")


@pytest.mark.parametrize("gpus", [1], indirect=True)
@pytest.mark.parametrize("name", ["foo", "", "CUDA", "cuda:", "cuda:x", "cuda:-1", "cpu:0"])
def test_a_name_that_is_none_is_refused_with_those_that_are_allowed(gpus: int, name: str) -> None:
    with pytest.raises(DeviceUnavailableError, match="allowed are cpu, cuda, cuda:N and mps"):
        choose_device(name)


def test_precision_follows_the_device() -> None:
    assert [default_precision(device) for device in ("cpu", "cuda", "cuda:1", "mps")] == [
        "fp32",
        "bf16",
        "bf16",
        "fp32",
    ]
