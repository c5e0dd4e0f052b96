from __future__ import annotations

import numpy as np
import pytest

from mmaudio_model.errors import RequestInvalidError
from mmaudio_model.evaluation.pretrained_metrics.formulas import (
    OFFSETS_S,
    desync_s,
    frechet_distance,
    inception_score,
    mean_cosine,
    paired_kl,
)

SURE = 50.0
"""A logit so far above the others that the softmax is one class."""


def test_the_frechet_distance_of_shifted_and_scaled_sets_is_known():
    one = np.array([[-1.0, 0.0], [1.0, 0.0], [0.0, -1.0], [0.0, 1.0]])
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(one + np.array([3.0, 4.0]), one) == pytest.approx(25)
    # Of N(0, s) and N(0, 4 s) it is tr(s + 4 s - 2 * 2 s) = tr(s); here s is 2/3 in each of two directions.
    assert frechet_distance(2 * one, one) == pytest.approx(4 / 3)


def test_the_frechet_distance_needs_two_of_each_and_one_size():
    with pytest.raises(RequestInvalidError, match="at least 2"):
        frechet_distance(np.zeros((1, 3)), np.zeros((4, 3)))
    with pytest.raises(RequestInvalidError, match="D must agree"):
        frechet_distance(np.zeros((4, 2)), np.zeros((4, 3)))


def test_kl_is_from_the_reference_to_the_generated_and_does_not_see_shifts_of_the_logits():
    half, skewed = np.log([[0.5, 0.5]]), np.log([[0.75, 0.25]])
    expected = 0.75 * np.log(0.75 / 0.5) + 0.25 * np.log(0.25 / 0.5)
    assert paired_kl(skewed, half) == pytest.approx(expected)
    assert paired_kl(skewed + 7, half - 3) == pytest.approx(expected)
    assert paired_kl(half, skewed) == pytest.approx(0.5 * np.log(0.5 / 0.75) + 0.5 * np.log(0.5 / 0.25))
    # In pairs, not between the sets: swapped rows are another question.
    both = np.concatenate([half, skewed])
    assert paired_kl(both, both) == 0
    assert paired_kl(both, both[::-1]) > 0.1
    with pytest.raises(RequestInvalidError, match=r"\(1, 2\)"):
        paired_kl(half, both)


def test_kl_stays_finite_where_a_class_is_ruled_out():
    assert paired_kl(np.array([[SURE, 0.0]]), np.array([[0.0, 1000.0]])) == pytest.approx(1000, rel=1e-3)


def test_the_inception_score_is_the_number_of_classes_that_are_told_apart():
    told_apart = SURE * np.eye(4)
    assert inception_score(told_apart) == pytest.approx(4)
    assert inception_score(np.zeros((5, 4))) == pytest.approx(1)
    assert inception_score(told_apart[[0, 0, 0]]) == pytest.approx(1)


def test_the_inception_score_is_the_mean_over_splits_of_the_shuffled_set():
    logits = SURE * np.eye(2)[[0, 1] * 10]
    scores = [
        inception_score(logits[np.random.RandomState(2020).permutation(20)][k : k + 2], splits=1)
        for k in range(0, 20, 2)
    ]
    assert inception_score(logits) == pytest.approx(np.mean(scores))
    assert inception_score(logits) < inception_score(logits, splits=1) == pytest.approx(2)


def test_the_cosine_is_the_mean_over_pairs():
    one = np.array([[1.0, 0.0], [2.0, 0.0], [0.0, 3.0]])
    other = np.array([[5.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    assert mean_cosine(one, other) == pytest.approx((1 + 0 - 1) / 3)
    with pytest.raises(RequestInvalidError, match="zeros"):
        mean_cosine(one, np.zeros_like(one))


def test_desync_is_the_mean_absolute_offset_of_the_likeliest():
    assert (OFFSETS_S[0], OFFSETS_S[10], OFFSETS_S[20]) == (-2, 0, 2)
    logits = np.zeros((3, 21))
    logits[[0, 1, 2], [10, 0, 15]] = 1
    assert desync_s(logits) == pytest.approx((0 + 2 + 1) / 3)
    with pytest.raises(RequestInvalidError, match=r"\(3, 20\)"):
        desync_s(logits[:, :20])
