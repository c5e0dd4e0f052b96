"""Lists the devices of this machine and pins a process to one.

Never initialises CUDA: a parent that did could not fork.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from workers.host.gpu import cuda_uuids

_CPU = re.compile(r"cpu(:\d+)?")
_CUDA = re.compile(r"cuda:(\d+)")
# On a CPU torch and oneDNN each cache prepared convolutions by input length, 1,024 by default, 0.4 MB for each length
# of audio. This many cost no speed (benchmarks/README.md, soak).
_CONVOLUTION_CACHE = {"LRU_CACHE_CAPACITY": "64", "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "128"}


class DeviceError(ValueError):
    """Raised for a device that cannot be used; the message says what is allowed."""


@dataclass(frozen=True)
class Device:
    """One device of this machine.

    Attributes:
        name: as the operator writes it, such as `cuda:0` or `cpu:1`.
        torch_device: its name in torch inside the pinned process, where it is the only device.
        environment: variables that pin a process to it; set them before the process starts.
    """

    name: str
    torch_device: str
    environment: dict[str, str]


def parse_devices(wanted: str, *, cpu_threads: int = 0, visible: str | None = None) -> list[Device]:
    """Return the devices of `auto`, or of a list such as `cuda:0,cuda:1` or `cpu:0,cpu:1`.

    Args:
        cpu_threads: threads per CPU device; 0 divides the cores among them.
        visible: `CUDA_VISIBLE_DEVICES` of this process, which hides GPUs from it and its children.

    Raises:
        DeviceError: a name is not a device, is given twice, or this machine has no such CUDA device.
    """
    names = [part.strip() for part in wanted.split(",") if part.strip()]
    gpus = visible_gpus(cuda_uuids(), visible)
    if names == ["auto"]:
        names = [f"cuda:{index}" for index in range(len(gpus))] or ["cpu:0"]
    if not names:
        raise DeviceError("give auto, or a list such as cuda:0,cuda:1 or cpu:0,cpu:1.")
    if len(set(names)) != len(names):
        raise DeviceError("give each device once.")
    cpus = sum(1 for name in names if _CPU.fullmatch(name))
    # The cores that this process may use: a container or taskset may give it fewer than the machine has.
    threads = cpu_threads or max(1, len(os.sched_getaffinity(0)) // max(cpus, 1))
    return [_device(name, threads, gpus) for name in names]


def _device(name: str, threads: int, gpus: list[str]) -> Device:
    if _CPU.fullmatch(name):
        count = str(threads)
        # Threads that wait by spinning slow down everything else that the machine runs.
        environment = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count}
        return Device(name, "cpu", environment | {"OMP_WAIT_POLICY": "PASSIVE"} | _CONVOLUTION_CACHE)
    if match := _CUDA.fullmatch(name):
        index = int(match[1])
        if index >= len(gpus):
            found = ", ".join(f"cuda:{n}" for n in range(len(gpus))) or "none"
            raise DeviceError(
                f"this machine has no {name} (CUDA devices: {found}); give devices that it has, auto or cpu:0."
            )
        # By UUID: an index may mean another device, as CUDA and the driver may order them differently.
        return Device(name, "cuda:0", {"CUDA_VISIBLE_DEVICES": gpus[index], "CUDA_DEVICE_ORDER": "PCI_BUS_ID"})
    raise DeviceError(f"{name!r} is not a device, give auto, cuda:N or cpu:N.")


def visible_gpus(uuids: list[str], setting: str | None) -> list[str]:
    """Return the GPUs that CUDA makes visible under a value of `CUDA_VISIBLE_DEVICES`, in its order.

    CUDA's rules: an entry is an index, a UUID or its prefix, or a MIG instance; entries after an invalid one are
    ignored. Indices are in PCI bus order, as for the worker processes.

    Args:
        uuids: the GPUs of this machine, in PCI bus order.
        setting: the variable; None when it is not set.
    """
    if setting is None:
        return uuids
    visible: list[str] = []
    for entry in (part.strip() for part in setting.split(",")):
        if entry.startswith("MIG-"):
            found = [entry]
        elif entry.isdecimal():
            found = uuids[int(entry) : int(entry) + 1]
        else:
            found = [uuid for uuid in uuids if entry and uuid.startswith(entry)]
        if len(found) != 1:
            break
        if found[0] in visible:  # a GPU given twice makes CUDA hide all
            return []
        visible += found
    return visible
