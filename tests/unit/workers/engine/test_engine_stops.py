"""When a stopped request leaves its batch, and that the others are unaffected: with a fake model and the real one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError, wait
from typing import Any

import numpy as np
import pytest
import torch

from jobs.lifecycle import Stage
from mmaudio_model.pipeline import GenerationRequest, Pipeline
from mmaudio_model.variants import get_variant
from tests.unit.workers.models import CountingModel, ProgressRecorder, asking, fault, run, sound
from workers.engine.engine import EngineRequest
from workers.runner.active_jobs import StoppedError


@pytest.mark.parametrize("step", [1, 3, 4])
def test_a_request_that_is_stopped_takes_no_further_step_and_its_mates_take_all(step: int) -> None:
    model = CountingModel()
    requests = [asking(1), asking(2, stopped=lambda: model.steps[2] >= step), asking(3)]

    run(model, requests)

    # It was stopped in the middle of this step, so this step is its last.
    assert model.steps == {1: 4, 2: step, 3: 4}
    assert isinstance(fault(requests[1].future), StoppedError)
    assert [sound(requests[place].future) for place in (0, 2)] == [[1, 4], [3, 4]]
    assert model.batches == [[1, 2, 3]]


def test_sampling_ends_when_all_of_a_batch_are_stopped() -> None:
    model = CountingModel()
    requests = [asking(seed, num_steps=100, stopped=lambda: model.steps[1] >= 2) for seed in (1, 2)]

    run(model, requests)

    assert model.steps == {1: 2, 2: 2}
    assert all(isinstance(fault(item.future), StoppedError) for item in requests)


def test_a_stopped_request_is_resolved_at_once_and_not_when_its_batch_ends() -> None:
    model = CountingModel()
    leaving = asking(1, stopped=lambda: model.steps[1] >= 2)
    gone_at: dict[int | None, bool] = {}
    staying = asking(2, on_progress=lambda stage, fraction, step: gone_at.update({step: leaving.future.done()}))

    run(model, [leaving, staying])

    assert [gone_at[step] for step in (1, 2, 3, 4)] == [False, True, True, True]


def test_a_stopped_request_stays_out_when_its_batch_is_run_again() -> None:
    model = CountingModel(fits_vocode=1)
    progress = ProgressRecorder()
    leaving = asking(1, stopped=lambda: model.steps[1] == 1, on_progress=progress)
    staying = [asking(2), asking(3)]

    run(model, [leaving, *staying])

    assert model.batches == [[1, 2, 3], [2, 3], [2], [3]]
    assert model.steps[1] == 1
    assert [sound(item.future) for item in staying] == [[2, 4], [3, 4]]
    assert isinstance(fault(leaving.future), StoppedError)
    assert progress.calls == [(Stage.ENCODE, 0.0, None), (Stage.SAMPLE, 0.0, None)]


def test_a_fault_after_all_requests_were_stopped_has_no_effect() -> None:
    model = CountingModel(fits_vocode=-1)
    leaving = asking(1, stopped=lambda: model.steps[1] == 1)
    engine = run(model, [leaving], [asking(2, duration_s=2.0, stopped=lambda: True)])

    assert isinstance(fault(leaving.future), StoppedError)
    assert engine.loaded == ["tiny_16k"]


def test_a_request_that_was_stopped_while_it_waited_never_reaches_the_model() -> None:
    model = CountingModel()
    stopped, other = asking(1, stopped=lambda: True), asking(2)

    run(model, [stopped, other])

    assert model.batches == [[2]]
    assert isinstance(fault(stopped.future), StoppedError)


def test_a_canceled_future_never_reaches_the_model_and_its_waiters_wake_up() -> None:
    model = CountingModel()
    canceled, other = asking(1), asking(2)
    assert canceled.future.cancel()

    run(model, [canceled, other])

    assert model.batches == [[2]]
    done, _ = wait([canceled.future], timeout=0)
    assert done == {canceled.future}
    with pytest.raises(CancelledError):
        canceled.future.result(timeout=0)


def test_a_future_may_be_canceled_until_the_device_has_taken_its_request() -> None:
    answers: list[bool] = []
    taken, waiting = asking(1), asking(2, duration_s=2.0)

    def cancel_both(step: int) -> None:
        if step == 1:
            answers.extend(item.future.cancel() for item in (taken, waiting))

    model = CountingModel(during_step=cancel_both)
    run(model, [taken, waiting])

    assert answers == [False, True]
    assert model.batches == [[1]]
    assert sound(taken.future) == [1, 4]


@pytest.fixture(scope="module")
def tiny() -> Iterator[Pipeline]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # it is tiny: more threads would wait for each other
    yield Pipeline.load(get_variant("tiny_16k"))
    torch.set_num_threads(threads)


def test_the_real_model_stops_within_one_step_and_the_mate_sounds_as_if_alone(
    tiny: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, num_steps = 2, 6
    # Unguided: one pass of the network a step, so its passes are the steps and their rows are who took part.
    mate = GenerationRequest(duration_s=0.64, seed=2, prompt="rain", num_steps=num_steps, cfg_strength=0.5)
    (alone,) = tiny.generate([mate])
    assert alone is not None
    flow, rows_of_steps = tiny._networks.flow, []
    velocity = flow.velocity

    def counted(x: torch.Tensor, *rest: Any) -> torch.Tensor:
        rows_of_steps.append(len(x))
        return velocity(x, *rest)

    monkeypatch.setattr(flow, "velocity", counted)
    asked = threading.Event()

    def ask_after_step(stage: Stage, fraction: float, done: int | None) -> None:
        if done == step:
            asked.set()

    canceled = EngineRequest(
        "tiny_16k",
        GenerationRequest(duration_s=0.64, seed=1, prompt="a dog", num_steps=num_steps, cfg_strength=0.5),
        stopped=asked.is_set,
        on_progress=ask_after_step,
    )
    kept = EngineRequest("tiny_16k", mate, stopped=lambda: False, on_progress=ProgressRecorder())

    run(tiny, [canceled, kept])

    assert rows_of_steps == [2] * (step + 1) + [1] * (num_steps - step - 1)
    assert isinstance(fault(canceled.future), StoppedError)
    assert np.linalg.norm(kept.future.result() - alone) <= 1e-5 * np.linalg.norm(alone)
