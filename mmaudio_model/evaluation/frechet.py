"""The Fréchet distance between two sets of sounds, in the style of FAD (Kilgour et al., 2019).

Each set is modelled as a Gaussian of its features: |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)). FAD uses features of a
network; our log-mel Fréchet distance uses patches of the log10-mel spectrogram: 256 ms long, every 128 ms, averaged to
16 bands and 8 steps of 32 ms (128 values). The distance is 0 for equal sets and has no unit.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from mmaudio_model.errors import RequestInvalidError

BAND_GROUP, FRAME_GROUP = 5, 2
PATCH_STEPS, PATCH_HOP = 8, 4


@dataclass(frozen=True)
class Gaussian:
    """Mean (D,) and covariance (D, D) of features, float64."""

    mean: np.ndarray
    covariance: np.ndarray


def gaussian(features: np.ndarray) -> Gaussian:
    """Return mean and covariance of features (N, D).

    Raises:
        RequestInvalidError: there are fewer than two rows.
    """
    if features.ndim != 2 or len(features) < 2:
        raise RequestInvalidError(f"Got features of shape {features.shape}; (N, D) with N of at least 2 is needed.")
    values = features.astype(np.float64)
    return Gaussian(values.mean(axis=0), np.atleast_2d(np.cov(values, rowvar=False)))


def frechet_distance(one: Gaussian, other: Gaussian) -> float:
    """Return the squared Fréchet (Wasserstein-2) distance of two Gaussians.

    The trace of (C1 C2)^(1/2) equals that of the root of the symmetric C1^(1/2) C2 C1^(1/2), whose eigenvalues are
    real and non-negative. The root of the asymmetric product can become complex if a covariance is rank deficient.
    """
    values, vectors = np.linalg.eigh(one.covariance)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    cross = np.linalg.eigvalsh(root @ other.covariance @ root)
    difference = one.mean - other.mean
    traces = np.trace(one.covariance) + np.trace(other.covariance) - 2 * np.sqrt(np.maximum(cross, 0)).sum()
    return float(max(difference @ difference + traces, 0.0))


def log_mel_patches(mels: Iterable[np.ndarray]) -> np.ndarray:
    """Return the patches of log-mel spectrograms (80, frames) as rows, float64 (N, 128); short ones may give none."""
    rows = []
    for mel in mels:
        bands, steps = mel.shape[0] // BAND_GROUP, mel.shape[1] // FRAME_GROUP
        cut = mel[: bands * BAND_GROUP, : steps * FRAME_GROUP].astype(np.float64)
        small = cut.reshape(bands, BAND_GROUP, steps, FRAME_GROUP).mean(axis=(1, 3))
        rows += [
            small[:, start : start + PATCH_STEPS].ravel() for start in range(0, steps - PATCH_STEPS + 1, PATCH_HOP)
        ]
    return np.array(rows)


def log_mel_frechet_distance(generated: Iterable[np.ndarray], reference: Iterable[np.ndarray]) -> float:
    """Return the log-mel Fréchet distance between two sets of log-mel spectrograms.

    Raises:
        RequestInvalidError: a set has fewer than two patches.
    """
    return frechet_distance(gaussian(log_mel_patches(generated)), gaussian(log_mel_patches(reference)))
