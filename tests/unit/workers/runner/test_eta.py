"""How an end is estimated from what was measured."""

from __future__ import annotations

from dataclasses import replace

import pytest

from jobs.lifecycle import Stage
from workers.runner.eta import DEVICE_WAIT, EtaEstimator, JobWork

WORK = JobWork("tiny_16k", duration_s=2.0, num_steps=10)


def measured() -> EtaEstimator:
    eta = EtaEstimator()
    for stage in Stage:
        eta.record(WORK, stage, 1.0)
    return eta


def test_what_was_never_measured_has_no_estimate() -> None:
    eta = EtaEstimator()
    for stage in list(Stage)[:-1]:
        eta.record(WORK, stage, 1.0)

    assert eta.remaining_s(WORK, Stage.SAMPLE, 0.5) is None
    assert measured().remaining_s(replace(WORK, variant="small_16k"), Stage.SAMPLE, 0.5) is None


def test_the_rest_is_what_is_left_of_this_stage_and_all_that_follow() -> None:
    eta = measured()

    assert eta.remaining_s(WORK, Stage.SAMPLE, 0.25) == pytest.approx(0.75 + 3)
    assert eta.remaining_s(WORK, Stage.FETCH, 0.0) == pytest.approx(7)
    assert eta.remaining_s(WORK, Stage.UPLOAD, 1.0) == 0


def test_a_longer_sound_and_more_steps_take_longer() -> None:
    twice = replace(WORK, duration_s=4.0, num_steps=30)

    # Sampling grows with both, vocoding and muxing with the duration, storing with neither.
    assert measured().remaining_s(twice, Stage.SAMPLE, 0.0) == pytest.approx(6 + 2 + 2 + 1)


def test_who_has_not_had_the_device_yet_waits_for_it_as_long_as_the_others_did() -> None:
    eta = measured()
    eta.record(WORK, DEVICE_WAIT, 5.0)

    assert eta.remaining_s(WORK, Stage.DECODE, 0.0) == pytest.approx(6 + 5)
    assert eta.remaining_s(WORK, Stage.ENCODE, 0.0, waits=True) == pytest.approx(5 + 5)
    assert eta.remaining_s(WORK, Stage.ENCODE, 0.0) == pytest.approx(5)


def test_the_newest_measurement_counts_most_but_not_alone() -> None:
    eta = measured()
    for _ in range(20):
        eta.record(WORK, Stage.UPLOAD, 3.0)

    assert eta.remaining_s(WORK, Stage.UPLOAD, 0.0) == pytest.approx(3.0, abs=0.01)
    eta.record(WORK, Stage.UPLOAD, 0.0)
    assert eta.remaining_s(WORK, Stage.UPLOAD, 0.0) == pytest.approx(2.1, abs=0.01)


def test_encoding_what_is_known_is_measured_apart() -> None:
    eta, known = measured(), replace(WORK, features_cached=True)
    eta.record(known, Stage.DECODE, 0.01)
    eta.record(known, Stage.ENCODE, 0.01)

    assert eta.remaining_s(known, Stage.ENCODE, 0.0) == pytest.approx(0.01 + 4)
    assert eta.remaining_s(WORK, Stage.ENCODE, 0.0) == pytest.approx(5)
