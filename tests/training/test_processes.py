"""Two processes on this machine's CPU: one model, half of the work each."""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
import torch

from mmaudio_model.training.log import read_log
from mmaudio_model.training.loop import Trainer
from mmaudio_model.training.options import TrainOptions
from mmaudio_model.training.processes import (
    ProcessFailedError,
    barrier,
    is_main_process,
    rank_and_world_size,
    run_in_processes,
)
from tests.training.line import LineTask, by_hand

OPTIONS = TrainOptions(
    steps=4, batch_size=4, learning_rate=0.05, warmup_steps=2, ema_decay=0.5, log_every=1, save_every=2
)


def train_line(folder: Path, device: str) -> None:
    """Train half-way, come back, go on: in each process."""
    for steps in (2, OPTIONS.steps):
        task = LineTask()
        trainer = Trainer(task, OPTIONS, folder, device=device, on_step=partial(stop_at, steps))
        with suppress(InterruptedError):
            trainer.run()
        barrier()
    rank, world = rank_and_world_size()
    assert world == 2
    assert is_main_process() == (rank == 0)
    state = {"module": task.module.state_dict(), "average": trainer.average.module.state_dict()}
    torch.save(state, folder / f"rank-{rank}.pt")


def stop_at(wanted: int, step: int) -> None:
    if step == wanted < OPTIONS.steps:
        raise InterruptedError


def fail_in_one(device: str) -> None:
    if rank_and_world_size()[0] == 1:
        raise RuntimeError("the second process failed")
    barrier()


def fail_in_one_that_ends_slowly(device: str) -> None:
    if rank_and_world_size()[0] == 1:
        threading.Thread(target=time.sleep, args=(2,)).start()
    fail_in_one(device)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    run_in_processes(partial(train_line, folder), 2, "cpu")
    return folder


def test_both_processes_end_with_the_same_weights(run: Path) -> None:
    one, other = (torch.load(run / f"rank-{rank}.pt") for rank in range(2))
    for part in ("module", "average"):
        assert all(torch.equal(one[part][name], other[part][name]) for name in one[part])


def test_they_are_the_weights_of_one_process_with_both_batches(run: Path) -> None:
    module, average = by_hand(OPTIONS, ranks=2)
    got = torch.load(run / "rank-0.pt")
    # The sums are taken in another order.
    for expected, values in ((module, got["module"]), (average, got["average"])):
        for name, value in expected.state_dict().items():
            torch.testing.assert_close(values[name], value, rtol=1e-5, atol=1e-6)


def test_only_the_first_process_writes(run: Path) -> None:
    assert [entry["step"] for entry in read_log(run, "train")] == [1, 2, 3, 4]
    assert not list(run.glob(".*"))


def test_a_process_that_fails_ends_all_and_its_failure_is_reported_not_its_consequences() -> None:
    with pytest.raises(ProcessFailedError, match=r"Process 1 of 2 failed(.|\n)*the second process failed"):
        run_in_processes(fail_in_one_that_ends_slowly, 2, "cpu")


def test_processes_that_do_not_find_each_other_say_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "nosuchcard")

    with pytest.raises(ProcessFailedError, match="nosuchcard"):
        run_in_processes(fail_in_one, 2, "cpu")


def test_what_torchrun_started_joins_by_its_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", "0")
    seen = []

    run_in_processes(
        lambda device: seen.append((device, rank_and_world_size(), torch.distributed.is_initialized())), 7, "cpu"
    )

    assert seen == [("cpu", (0, 1), True)]
    assert not torch.distributed.is_initialized()
    assert os.environ["RANK"] == "0"


def test_more_processes_than_gpus_are_refused() -> None:
    with pytest.raises(ValueError, match="each needs its own"):
        run_in_processes(fail_in_one, 2, "cuda")
