from __future__ import annotations

import numpy as np
import pytest

from mmaudio_model.errors import RequestInvalidError
from mmaudio_model.evaluation.frechet import (
    Gaussian,
    frechet_distance,
    gaussian,
    log_mel_frechet_distance,
    log_mel_patches,
)


def normal(mean: list[float], deviations: list[float]) -> Gaussian:
    return Gaussian(np.array(mean), np.diag(np.square(deviations)))


def test_distance_of_independent_normals_is_that_of_means_and_deviations():
    one, other = normal([0, 1, 2], [1, 2, 3]), normal([1, 1, 0], [2, 2, 1])
    assert frechet_distance(one, other) == pytest.approx(1 + 4 + (1 + 0 + 4))


def test_distance_to_itself_is_zero_and_both_ways_are_equal():
    rng = np.random.default_rng(0)
    one, other = gaussian(rng.normal(size=(500, 20))), gaussian(rng.normal(size=(500, 20)) @ rng.normal(size=(20, 20)))
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(one, other) == pytest.approx(frechet_distance(other, one))


def test_distance_does_not_change_when_the_space_is_turned():
    rng = np.random.default_rng(1)
    turn = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    a, b = rng.normal(size=(100, 8)), rng.normal(size=(100, 8)) * np.arange(1, 9)
    straight, turned = (
        frechet_distance(gaussian(a), gaussian(b)),
        frechet_distance(gaussian(a @ turn), gaussian(b @ turn)),
    )
    assert turned == pytest.approx(straight)


def test_covariances_without_full_rank_give_a_real_distance():
    # Three points in a hundred dimensions: taken directly, the root of the covariances' product is complex.
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(3, 100)), rng.normal(size=(3, 100))
    distance = frechet_distance(gaussian(a), gaussian(b))
    assert np.isfinite(distance)
    assert distance > 0
    assert frechet_distance(gaussian(a), gaussian(a)) == pytest.approx(0, abs=1e-6)


def test_too_few_features_are_refused():
    with pytest.raises(RequestInvalidError, match=r"\(1, 4\)"):
        gaussian(np.zeros((1, 4)))


def test_patches_are_averages_of_bands_and_frames():
    mel = np.arange(80.0)[:, None] + 1000 * np.arange(24.0)[None]
    patches = log_mel_patches([mel])
    assert patches.shape == (2, 128)
    assert patches[0, 0] == pytest.approx(2 + 500)  # bands 0-4, frames 0-1
    assert patches[1, 0] - patches[0, 0] == pytest.approx(8000)  # 4 steps of 2 frames later
    assert len(log_mel_patches([np.zeros((80, 15))])) == 0


def test_the_log_mel_distance_grows_with_what_is_changed():
    rng = np.random.default_rng(3)
    mels = [rng.normal(-3, 0.5, size=(80, 100)) for _ in range(20)]
    near, far = [mel + 0.1 for mel in mels], [mel + 0.5 for mel in mels]
    assert log_mel_frechet_distance(mels, mels) == pytest.approx(0, abs=1e-9)
    assert log_mel_frechet_distance(near, mels) == pytest.approx(128 * 0.1**2)
    assert log_mel_frechet_distance(far, mels) == pytest.approx(128 * 0.5**2)
