"""What an operator may write as devices, and how a process is pinned to one."""

from __future__ import annotations

import os

import pytest

from workers.host.devices import DeviceError, parse_devices, visible_gpus

UUIDS = ["GPU-aaaa", "GPU-bbbb"]


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.host.devices.cuda_uuids", lambda: UUIDS)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.host.devices.cuda_uuids", list)


@pytest.fixture
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))


def names(wanted: str) -> list[str]:
    return [device.name for device in parse_devices(wanted)]


def test_auto_is_every_gpu(two_gpus: None) -> None:
    assert names("auto") == ["cuda:0", "cuda:1"]


def test_auto_is_the_processor_where_there_is_no_gpu(no_gpu: None) -> None:
    assert names("auto") == ["cpu:0"]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("cpu", ["cpu"]),
        ("cpu:0,cpu:1", ["cpu:0", "cpu:1"]),
        (" cuda:1 , cuda:0 ,", ["cuda:1", "cuda:0"]),
        ("cuda:1,cpu:0", ["cuda:1", "cpu:0"]),
    ],
)
def test_a_list_is_taken_as_it_is_written(two_gpus: None, wanted: str, expected: list[str]) -> None:
    assert names(wanted) == expected


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("", "give auto, or a list such as cuda:0,cuda:1"),
        (" , ", "give auto, or a list such as cuda:0,cuda:1"),
        ("cuda", "'cuda' is not a device, give auto, cuda:N or cpu:N"),
        ("gpu:0", "'gpu:0' is not a device, give auto, cuda:N or cpu:N"),
        ("cuda:-1", "'cuda:-1' is not a device, give auto"),
        ("cpu:0x", "'cpu:0x' is not a device, give auto"),
        ("auto,cpu:0", "'auto' is not a device, give auto, cuda:N or cpu:N"),
        ("cpu:0,cpu:0", "give each device once"),
        ("cuda:0,cuda:1,cuda:0", "give each device once"),
        ("cuda:2", "this machine has no cuda:2 (CUDA devices: cuda:0, cuda:1)"),
    ],
)
def test_what_cannot_be_used_is_refused_with_what_can(two_gpus: None, wanted: str, said: str) -> None:
    with pytest.raises(DeviceError) as refused:
        parse_devices(wanted)
    assert said in str(refused.value)


def test_a_gpu_on_a_machine_without_any_is_refused(no_gpu: None) -> None:
    with pytest.raises(DeviceError, match=r"has no cuda:0 \(CUDA devices: none\)"):
        parse_devices("cuda:0")


@pytest.mark.parametrize(
    ("wanted", "threads"),
    [("cpu", "8"), ("cpu:0,cpu:1", "4"), ("cpu:0,cpu:1,cpu:2", "2"), ("cuda:0,cpu:0", "8")],
)
def test_processor_devices_share_the_cores_this_process_may_use(
    two_gpus: None, eight_cores: None, wanted: str, threads: str
) -> None:
    shares = [device.environment for device in parse_devices(wanted) if device.torch_device == "cpu"]

    assert shares
    assert all(share["OMP_NUM_THREADS"] == share["MKL_NUM_THREADS"] == threads for share in shares)


def test_each_processor_device_has_a_thread_even_where_cores_are_few(eight_cores: None) -> None:
    devices = parse_devices(",".join(f"cpu:{n}" for n in range(9)))

    assert {device.environment["OMP_NUM_THREADS"] for device in devices} == {"1"}


def test_threads_that_the_operator_chose_are_taken(eight_cores: None) -> None:
    devices = parse_devices("cpu:0,cpu:1", cpu_threads=3)

    assert [device.environment["OMP_NUM_THREADS"] for device in devices] == ["3", "3"]


def test_a_processor_device_sees_no_gpu() -> None:
    (device,) = parse_devices("cpu:0")

    assert device.environment["CUDA_VISIBLE_DEVICES"] == ""
    # What a length of sound leaves behind is bounded, or a worker grows with every new one.
    assert {"LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY"} <= set(device.environment)


def test_a_gpu_process_sees_its_own_gpu_alone_and_calls_it_the_first(two_gpus: None) -> None:
    (device,) = parse_devices("cuda:1")

    assert device.torch_device == "cuda:0"
    assert device.environment["CUDA_VISIBLE_DEVICES"] == "GPU-bbbb"


@pytest.mark.parametrize(
    ("setting", "seen"),
    [
        (None, ["GPU-aaaa", "GPU-bbbb", "GPU-bbcc"]),
        ("", []),
        ("-1", []),
        ("1", ["GPU-bbbb"]),
        ("2, 0", ["GPU-bbcc", "GPU-aaaa"]),
        ("0,7,1", ["GPU-aaaa"]),
        ("0,-1,1", ["GPU-aaaa"]),
        ("GPU-bbcc,0", ["GPU-bbcc", "GPU-aaaa"]),
        ("GPU-a", ["GPU-aaaa"]),
        ("GPU-bb", []),
        ("GPU-cccc", []),
        ("0,0", []),
        ("MIG-1234", ["MIG-1234"]),
    ],
)
def test_gpus_that_are_hidden_from_outside_stay_hidden(setting: str | None, seen: list[str]) -> None:
    assert visible_gpus(["GPU-aaaa", "GPU-bbbb", "GPU-bbcc"], setting) == seen


def test_devices_are_counted_among_those_that_may_be_used(two_gpus: None) -> None:
    (device,) = parse_devices("auto", visible="1")

    assert (device.name, device.environment["CUDA_VISIBLE_DEVICES"]) == ("cuda:0", "GPU-bbbb")
    assert [device.name for device in parse_devices("auto", visible="")] == ["cpu:0"]
    with pytest.raises(DeviceError, match=r"CUDA devices: cuda:0\)"):
        parse_devices("cuda:1", visible="1")
