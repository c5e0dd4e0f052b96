"""The engine with a model that counts: who shares a batch, in what order, and what a fault costs."""

from __future__ import annotations

import threading
from concurrent.futures import wait
from itertools import pairwise
from typing import Any

import pytest
import torch

from jobs.errors import DeviceOutOfMemoryError
from jobs.lifecycle import Stage
from mmaudio_model.errors import RequestInvalidError, WeightsMissingError
from mmaudio_model.features import Features
from tests.unit.workers.models import (
    BREAKS,
    UNSERVABLE_S,
    CountingModel,
    ProgressRecorder,
    asking,
    engine_of,
    fault,
    run,
    sound,
)
from workers.engine.batch_limit import BatchLimit
from workers.engine.engine import Engine, LoadedModel
from workers.engine.model_cache import ModelCache
from workers.engine.watchdog import Watchdog


class RecordingWatchdog(Watchdog):
    """Records its calls."""

    def __init__(self) -> None:
        super().__init__(limit_s=0)
        self.calls: list[str] = []

    def progressed(self) -> None:
        self.calls.append("progressed")

    def idle(self) -> None:
        self.calls.append("idle")


def test_compatible_requests_share_a_batch_however_they_came() -> None:
    model = CountingModel()
    one, two, three = (asking(seed) for seed in (1, 2, 3))

    run(model, [one, two], [three])

    assert model.batches == [[1, 2, 3]]
    assert [sound(item.future) for item in (one, two, three)] == [[1, 4], [2, 4], [3, 4]]


@pytest.mark.parametrize("change", [{"duration_s": 2.0}, {"num_steps": 5}, {"variant": "small_16k"}])
def test_incompatible_requests_have_batches_of_their_own_and_the_oldest_goes_first(change: dict[str, Any]) -> None:
    model = CountingModel()
    requests = [asking(1), asking(2, **change), asking(3), asking(4, **change)]

    run(model, requests)

    assert model.batches == [[1, 3], [2, 4]]
    assert [sound(item.future)[0] for item in requests] == [1, 2, 3, 4]


def test_no_batch_is_larger_than_allowed() -> None:
    model = CountingModel()

    run(model, [asking(seed) for seed in range(1, 8)], max_batch=3)

    assert model.batches == [[1, 2, 3], [4, 5, 6], [7]]


def test_what_comes_while_the_device_is_busy_shares_the_next_batch() -> None:
    later = [asking(2), asking(3)]

    def two_more_come(step: int) -> None:
        if len(model.batches) == 1 and step == 1:
            for item in later:
                engine.submit([item])

    model = CountingModel(during_step=two_more_come)
    engine = engine_of(lambda variant: model, max_batch=8)
    (first,) = engine.submit([asking(1)])
    engine.start()
    first.result(timeout=10)
    wait([item.future for item in later], timeout=10)
    engine.close()

    assert model.batches == [[1], [2, 3]]


def test_out_of_memory_halves_the_batch_until_it_fits_and_serves_everyone() -> None:
    model = CountingModel(fits=2)
    requests = [asking(seed) for seed in range(1, 8)]

    run(model, requests)

    assert [len(batch) for batch in model.batches] == [7, 3, 1, 2, 4, 2, 2]
    assert [sound(item.future) for item in requests] == [[seed, 4] for seed in range(1, 8)]


def test_a_limit_lowered_by_out_of_memory_holds_for_what_comes_after() -> None:
    model = CountingModel(fits=2)
    engine = engine_of(lambda variant: model)
    engine.submit([asking(seed) for seed in range(1, 5)])
    later = engine.submit([asking(seed, duration_s=2.0) for seed in range(5, 8)])
    engine.start()
    engine.close()

    # Four did not fit, two did: of requests twice as long, one may be in a batch.
    assert [len(batch) for batch in model.batches] == [4, 2, 2, 1, 1, 1]
    assert [sound(future)[0] for future in later] == [5, 6, 7]


def test_takes_of_one_job_are_encoded_once_however_many_batches_they_need() -> None:
    model, kept = CountingModel(), [Features()]
    takes = [asking(seed, prompt="rain") for seed in range(3)]
    for take in takes:
        take.cached_features, take.on_encoded = (lambda: kept[0]), lambda features: kept.__setitem__(0, features)

    run(model, takes, max_batch=1)

    assert model.batches == [[0], [1], [2]]
    assert model.encoded == ["rain"]


def test_a_loaded_variant_is_served_before_one_that_would_evict_it() -> None:
    model = CountingModel()
    loads: list[str] = []

    def load(variant: str) -> CountingModel:
        loads.append(variant)
        return model

    models: ModelCache[LoadedModel] = ModelCache(load, sizes=lambda variant: {variant: 10}, budget_bytes=10)
    engine = Engine(models, BatchLimit(1))
    engine.submit([asking(1), asking(2, variant="small_16k"), asking(3), asking(4, variant="small_16k")])
    engine.start()
    engine.close()

    assert loads == ["tiny_16k", "small_16k"]
    assert model.batches == [[1], [3], [2], [4]]


def test_after_each_batch_the_callback_is_called() -> None:
    model, calls = CountingModel(), []
    engine = Engine(ModelCache(lambda _: model), BatchLimit(2), after_batch=lambda: calls.append(len(model.batches)))
    engine.submit([asking(1), asking(2), asking(3)])
    engine.start()
    engine.close()

    assert model.batches == [[1, 2], [3]]
    assert calls == [1, 2]


def test_out_of_memory_in_the_vocoder_halves_the_batch_as_well() -> None:
    model = CountingModel(fits_vocode=1)
    requests = [asking(1), asking(2)]

    run(model, requests)

    assert model.batches == [[1, 2], [1], [2]]
    assert [sound(item.future) for item in requests] == [[1, 4], [2, 4]]


def test_a_batch_that_ran_out_of_memory_holds_none_when_its_halves_run() -> None:
    model = CountingModel(fits=1)

    run(model, [asking(seed) for seed in range(1, 5)])

    assert len(model.batches) == 7
    assert model.alive == 0


def test_a_request_that_does_not_fit_even_alone_fails_with_the_reason_and_the_next_is_served() -> None:
    model = CountingModel(fits=0)
    engine = engine_of(lambda variant: model, max_batch=8)
    (large,) = engine.submit([asking(1)])
    engine.start()
    wait([large], timeout=10)
    model.fits = 1
    (small,) = engine.submit([asking(2)])
    engine.close()

    assert isinstance(fault(large), DeviceOutOfMemoryError)
    assert "shorter" in str(fault(large))
    assert isinstance(fault(large).__cause__, torch.OutOfMemoryError)  # type: ignore[union-attr]
    assert sound(small) == [2, 4]


def test_one_bad_request_fails_alone_and_its_batch_mates_succeed() -> None:
    model = CountingModel()
    requests = [asking(1), asking(2, prompt=BREAKS), asking(3)]

    run(model, requests)

    assert model.batches == [[1, 2, 3], [1], [2], [3]]
    assert isinstance(fault(requests[1].future), ValueError)
    assert [sound(requests[place].future) for place in (0, 2)] == [[1, 4], [3, 4]]


def test_a_request_that_cannot_be_served_never_reaches_the_model() -> None:
    model = CountingModel()
    requests = [asking(1), asking(2, duration_s=UNSERVABLE_S), asking(3)]

    run(model, requests)

    assert model.batches == [[1, 3]]
    assert isinstance(fault(requests[1].future), RequestInvalidError)
    assert [sound(requests[place].future)[0] for place in (0, 2)] == [1, 3]


def test_progress_comes_in_the_order_in_which_things_happen() -> None:
    recorders = [ProgressRecorder(), ProgressRecorder()]

    run(CountingModel(), [asking(seed, on_progress=recorders[seed]) for seed in (0, 1)])

    assert recorders[0].calls == [
        (Stage.ENCODE, 0.0, None),
        (Stage.SAMPLE, 0.0, None),
        (Stage.SAMPLE, 0.25, 1),
        (Stage.SAMPLE, 0.5, 2),
        (Stage.SAMPLE, 0.75, 3),
        (Stage.SAMPLE, 1.0, 4),
        (Stage.VOCODE, 0.0, None),
    ]
    assert recorders[1].calls == recorders[0].calls


def test_close_comes_back_when_all_that_was_submitted_before_is_done() -> None:
    before = set(threading.enumerate())
    requests = [asking(seed, duration_s=float(seed)) for seed in range(1, 6)]
    engine = engine_of(lambda variant: CountingModel(), max_batch=8)
    engine.start()
    futures = engine.submit(requests)
    engine.close()

    assert [sound(future) for future in futures] == [[seed, 4] for seed in range(1, 6)]
    assert set(threading.enumerate()) <= before


def test_a_variant_that_cannot_be_loaded_fails_only_its_own_requests() -> None:
    model = CountingModel()

    def load(variant: str) -> LoadedModel:
        if variant == "large_44k":
            raise WeightsMissingError("large_44k is not here")
        return model

    engine = engine_of(load, max_batch=8)
    requests = [asking(1), asking(2, variant="large_44k"), asking(3), asking(4, variant="large_44k")]
    engine.preload("large_44k")
    engine.submit(requests)
    engine.start()
    engine.close()

    assert [type(fault(requests[place].future)) for place in (1, 3)] == [WeightsMissingError, WeightsMissingError]
    assert [sound(requests[place].future)[0] for place in (0, 2)] == [1, 3]
    assert engine.loaded == ["tiny_16k"]


def test_a_variant_is_loaded_once_and_may_be_loaded_before_its_first_request() -> None:
    loads: list[str] = []

    def load(variant: str) -> LoadedModel:
        loads.append(variant)
        return CountingModel()

    engine = engine_of(load, max_batch=1)
    engine.preload("small_16k")
    engine.submit([asking(1), asking(2), asking(3, variant="small_16k")])
    engine.start()
    engine.close()

    assert loads == ["small_16k", "tiny_16k"]


def test_the_watchdog_is_reset_with_every_step_and_stopped_when_the_engine_is_idle() -> None:
    watchdog, calls_before_step = RecordingWatchdog(), []
    model = CountingModel(during_step=lambda step: calls_before_step.append(len(watchdog.calls)))
    engine = engine_of(lambda variant: model, watchdog=watchdog)
    engine.submit([asking(1, num_steps=4)])
    engine.start()
    engine.close()

    assert [after > before for before, after in pairwise(calls_before_step)] == [True] * 3
    assert watchdog.calls[0] == watchdog.calls[-1] == "idle"
    first, last = watchdog.calls.index("progressed"), len(watchdog.calls) - 1 - watchdog.calls[::-1].index("progressed")
    assert "idle" not in watchdog.calls[first : first + calls_before_step[-1]]
    assert last > calls_before_step[-1]
