"""One process a device: how they are started, find each other, and wait for each other.

`torchrun` starts them by its own means; `run_in_processes` does it without. gloo joins CPUs, NCCL joins GPUs.
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

WAIT = timedelta(days=1)
"""The first process may prepare for hours while the others wait; whoever dies is noticed at once, not by this."""

MEETING, FAILURE = "meeting", "failure"

Job = Callable[[str], None]
"""What each process does; it is given the name of its device. Picklable."""


class ProcessFailedError(Exception):
    """Raised when one of several processes failed. The message is the traceback of the first whose job did."""


def is_first() -> bool:
    """Say whether this process is the one that writes."""
    return not dist.is_initialized() or dist.get_rank() == 0


def own_share() -> tuple[int, int]:
    """Return this process's number and how many there are."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def wait_for_all() -> None:
    """Return when every process came here."""
    if dist.is_initialized():
        dist.barrier()


def run_in_processes(job: Job, count: int, device: str) -> None:
    """Run a job in `count` processes on this machine, or in this one if `torchrun` started it or one is enough.

    Args:
        device: `cpu` or `cuda`; each process gets a GPU of its own. A name with a number is for one process.

    Raises:
        ValueError: there are fewer GPUs than processes.
        ProcessFailedError: one of several processes failed; the others were ended.
    """
    if "LOCAL_RANK" in os.environ and "WORLD_SIZE" in os.environ:
        with joined(device, "env://", int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])) as own:
            job(own)
        return
    if count == 1:
        job(device)
        return
    if device.startswith("cuda") and count > torch.cuda.device_count():
        raise ValueError(f"Got {count} processes; there are {torch.cuda.device_count()} GPUs, and each needs its own.")
    with tempfile.TemporaryDirectory(prefix="mmaudio-train-") as folder:
        failure = Path(folder) / FAILURE
        try:
            torch.multiprocessing.spawn(_one, args=(job, count, device, Path(folder)), nprocs=count)
        except torch.multiprocessing.ProcessRaisedException as exc:
            # It tells of the process that ended first, which may only have lost the one whose job failed.
            told = failure.read_text() if failure.exists() else ""
            raise ProcessFailedError(told or str(exc)) from exc


@contextmanager
def joined(device: str, meeting: str, rank: int, world: int) -> Iterator[str]:
    """Join the other processes; gives the name of the own device, and leaves them at the end."""
    own = device
    if device.startswith("cuda"):
        own = f"cuda:{int(os.environ.get('LOCAL_RANK', rank))}"
        torch.cuda.set_device(own)
    backend = "nccl" if own.startswith("cuda") else "gloo"
    dist.init_process_group(backend, init_method=meeting, rank=rank, world_size=world, timeout=WAIT)
    try:
        yield own
    finally:
        dist.destroy_process_group()


def _one(rank: int, job: Job, world: int, device: str, folder: Path) -> None:
    torch.set_num_threads(max(1, torch.get_num_threads() // world))
    # A file instead of a port: nobody else can take it first.
    with joined(device, f"file://{folder / MEETING}", rank, world) as own:
        try:
            job(own)
        except Exception:
            # Before the others can notice, and fail as well: only the first one creates the file.
            with suppress(FileExistsError), (folder / FAILURE).open("x") as file:
                file.write(f"Process {rank} of {world} failed.\n{traceback.format_exc()}")
            raise
