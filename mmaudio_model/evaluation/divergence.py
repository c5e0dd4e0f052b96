"""KL divergence and inception score on the class probabilities of any classifier."""

from __future__ import annotations

import numpy as np

from mmaudio_model.errors import RequestInvalidError

SMALLEST = 1e-6
"""Added to probabilities, so that a class of probability 0 gives a large but finite divergence."""


def kl_divergence(reference: np.ndarray, generated: np.ndarray) -> float:
    """Return the mean of KL(reference || generated) over pairs, in nats.

    Args:
        reference, generated: probabilities, (N, classes) each; rows are paired.

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

    It is 1 if all sounds are alike or all are ambiguous, and the number of classes if all are unambiguous and classes
    are equally frequent.

    Raises:
        RequestInvalidError: there is no sound.
    """
    if probabilities.ndim != 2 or not len(probabilities):
        raise RequestInvalidError(f"Got probabilities of shape {probabilities.shape}; (N, classes), N > 0, is needed.")
    everywhere = np.broadcast_to(probabilities.mean(axis=0), probabilities.shape)
    return float(np.exp(kl_divergence(probabilities, everywhere)))
