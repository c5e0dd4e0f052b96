"""What a classifier says of two sets of sounds: KL and inception score, on any classifier's probabilities."""

from __future__ import annotations

import numpy as np

from mmaudio_model.errors import RequestInvalidError

SMALLEST = 1e-6
"""Added to probabilities, so that a class that was ruled out costs much and not everything."""


def kl_divergence(reference: np.ndarray, generated: np.ndarray) -> float:
    """Return the mean of KL(reference || generated) over pairs, in nats.

    Args:
        reference, generated: probabilities, (N, classes) each; row k of both belongs together.

    Raises:
        RequestInvalidError: the shapes differ, or there is no pair.
    """
    if reference.shape != generated.shape or reference.ndim != 2 or not len(reference):
        raise RequestInvalidError(
            f"Got probabilities of shapes {reference.shape} and {generated.shape}; both must be (N, classes), N > 0."
        )
    p, q = reference.astype(np.float64) + SMALLEST, generated.astype(np.float64) + SMALLEST
    return float((p * np.log(p / q)).sum(axis=1).mean())


def inception_score(probabilities: np.ndarray) -> float:
    """Return exp of the mean KL of each sound's probabilities (N, classes) to their mean.

    It is 1 where all sounds are alike or none is clear, and the number of classes where all are clear and there are
    as many of each.

    Raises:
        RequestInvalidError: there is no sound.
    """
    if probabilities.ndim != 2 or not len(probabilities):
        raise RequestInvalidError(f"Got probabilities of shape {probabilities.shape}; (N, classes), N > 0, is needed.")
    everywhere = np.broadcast_to(probabilities.mean(axis=0), probabilities.shape)
    return float(np.exp(kl_divergence(probabilities, everywhere)))
