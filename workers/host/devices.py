"""Which devices there are and how a process is pinned to one. Never touches CUDA: a parent that did could not fork."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from workers.host.gpu import cuda_uuids

_CPU = re.compile(r"cpu(:\d+)?")
_CUDA = re.compile(r"cuda:(\d+)")
# On a CPU torch and oneDNN each keep what they have prepared for a convolution of one length, 1,024 times unless told
# otherwise: 0.4 MB for every length of sound. So many cost no speed (benchmarks/README.md, soak).
_KEPT_CONVOLUTIONS = {"LRU_CACHE_CAPACITY": "64", "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "128"}


class DeviceError(ValueError):
    """Raised for a device that cannot be used; says which there are."""


@dataclass(frozen=True)
class Device:
    """One device of this machine.

    Attributes:
        name: as the operator writes it, `cuda:0` or `cpu:1`.
        torch_device: what torch calls it inside the pinned process, where it is the only one.
        environment: variables that pin a process to it; they must be set before that process starts.
    """

    name: str
    torch_device: str
    environment: dict[str, str]


def parse_devices(wanted: str, *, cpu_threads: int = 0, visible: str | None = None) -> list[Device]:
    """Return the devices of `auto`, or of a list such as `cuda:0,cuda:1` or `cpu:0,cpu:1`.

    Args:
        cpu_threads: threads of each CPU device; 0 shares the cores among them.
        visible: the `CUDA_VISIBLE_DEVICES` that this process was given, which hides GPUs from it and its children.

    Raises:
        DeviceError: a name is unknown, doubled, or no such CUDA device is there.
    """
    names = [part.strip() for part in wanted.split(",") if part.strip()]
    gpus = visible_gpus(cuda_uuids(), visible)
    if names == ["auto"]:
        names = [f"cuda:{index}" for index in range(len(gpus))] or ["cpu:0"]
    if not names:
        raise DeviceError(f"Got devices {wanted!r}; give auto, or a list such as cuda:0,cuda:1 or cpu:0,cpu:1.")
    if len(set(names)) != len(names):
        raise DeviceError(f"Got devices {wanted!r}; each may be named once.")
    cpus = sum(1 for name in names if _CPU.fullmatch(name))
    # The cores that this process may use: a container or taskset may give it fewer than the machine has.
    threads = cpu_threads or max(1, len(os.sched_getaffinity(0)) // max(cpus, 1))
    return [_device(name, threads, gpus) for name in names]


def _device(name: str, threads: int, gpus: list[str]) -> Device:
    if _CPU.fullmatch(name):
        count = str(threads)
        # Threads that wait by spinning bring a machine to a crawl as soon as it runs anything else.
        environment = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count}
        return Device(name, "cpu", environment | {"OMP_WAIT_POLICY": "PASSIVE"} | _KEPT_CONVOLUTIONS)
    if match := _CUDA.fullmatch(name):
        index = int(match[1])
        if index >= len(gpus):
            found = ", ".join(f"cuda:{n}" for n in range(len(gpus))) or "none"
            raise DeviceError(f"Got device {name!r}; the CUDA devices that may be used here are: {found}.")
        # By UUID: an index means another device when CUDA orders them otherwise than the driver.
        return Device(name, "cuda:0", {"CUDA_VISIBLE_DEVICES": gpus[index], "CUDA_DEVICE_ORDER": "PCI_BUS_ID"})
    raise DeviceError(f"Got device {name!r}; give auto, cuda:N or cpu:N.")


def visible_gpus(uuids: list[str], setting: str | None) -> list[str]:
    """Return what CUDA would see of the GPUs under a `CUDA_VISIBLE_DEVICES` that was set from outside, in its order.

    By CUDA's rules: indices, UUIDs or their beginnings, MIG instances; what stands behind an entry that means nothing
    is not seen. An index counts along the PCI bus, as it does for the processes that are started here.

    Args:
        uuids: the GPUs of this machine, along the PCI bus.
        setting: the variable; None where it is not set.
    """
    if setting is None:
        return uuids
    seen: list[str] = []
    for entry in (part.strip() for part in setting.split(",")):
        if entry.startswith("MIG-"):
            found = [entry]
        elif entry.isdecimal():
            found = uuids[int(entry) : int(entry) + 1]
        else:
            found = [uuid for uuid in uuids if entry and uuid.startswith(entry)]
        if len(found) != 1:
            break
        if found[0] in seen:  # CUDA sees nothing at all then
            return []
        seen += found
    return seen
