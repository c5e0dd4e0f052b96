"""One process per device: starting the processes and their process group.

`run_in_processes` starts them, or joins those started by `torchrun`. The backend is gloo on CPUs and NCCL on GPUs.
"""

from __future__ import annotations

import os
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import ProcessRaisedException, spawn

WAIT = timedelta(days=1)
"""Timeout of collectives: the first process may prepare for hours. A dead process is noticed at once."""

RENDEZVOUS, FAILURE = "rendezvous", "failure"

Job = Callable[[str], None]
"""Called in each process with its device name; picklable."""


class ProcessFailedError(Exception):
    """Raised when one of several processes failed; the message is the traceback of the first failure."""


def is_main_process() -> bool:
    """Return whether this is the process that writes files (rank 0)."""
    return not dist.is_initialized() or dist.get_rank() == 0


def rank_and_world_size() -> tuple[int, int]:
    """Return (rank, world size)."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def barrier() -> None:
    """Wait until every process has reached this call."""
    if dist.is_initialized():
        dist.barrier()


def run_in_processes(job: Job, count: int, device: str) -> None:
    """Run a job in `count` processes on this machine; in this process if `torchrun` started it or count is 1.

    Args:
        device: `cpu` or `cuda`; each process gets its own GPU. A name with an index (`cuda:1`) is for one process only.

    Raises:
        ValueError: there are fewer GPUs than processes.
        ProcessFailedError: one of several processes failed; the others were terminated.
    """
    if "LOCAL_RANK" in os.environ and "WORLD_SIZE" in os.environ:
        with process_group(device, "env://", int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])) as own_device:
            job(own_device)
        return
    if count == 1:
        job(device)
        return
    if device.startswith("cuda") and count > torch.cuda.device_count():
        raise ValueError(f"Got {count} processes; there are {torch.cuda.device_count()} GPUs, and each needs its own.")
    with tempfile.TemporaryDirectory(prefix="mmaudio-train-") as folder:
        failure = Path(folder) / FAILURE
        try:
            spawn(_run_rank, args=(job, count, device, Path(folder)), nprocs=count)
        except ProcessRaisedException as exc:
            # This is the first process that ended, which may only have lost its connection to the one that failed.
            message = failure.read_text() if failure.exists() else ""
            raise ProcessFailedError(message or str(exc)) from exc


@contextmanager
def process_group(device: str, rendezvous: str, rank: int, world: int) -> Iterator[str]:
    """Join the process group and yield this process's device name; leave the group at the end."""
    own_device = device
    if device.startswith("cuda"):
        own_device = f"cuda:{int(os.environ.get('LOCAL_RANK', rank))}"
        torch.cuda.set_device(own_device)
    backend = "nccl" if own_device.startswith("cuda") else "gloo"
    dist.init_process_group(backend, init_method=rendezvous, rank=rank, world_size=world, timeout=WAIT)
    try:
        yield own_device
    finally:
        dist.destroy_process_group()


def _run_rank(rank: int, job: Job, world: int, device: str, folder: Path) -> None:
    torch.set_num_threads(max(1, torch.get_num_threads() // world))
    # A file instead of a port: no other program can take it first.
    with process_group(device, f"file://{folder / RENDEZVOUS}", rank, world) as own_device:
        try:
            job(own_device)
        except Exception:
            # Written before the others fail in consequence: only the first failure creates the file.
            with suppress(FileExistsError), (folder / FAILURE).open("x") as file:
                file.write(f"Process {rank} of {world} failed.\n{traceback.format_exc()}")
            raise
