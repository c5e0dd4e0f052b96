"""The metrics as formulas on arrays, as av-benchmark defines them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from scipy.special import log_softmax

from mmaudio_model.errors import RequestInvalidError
from mmaudio_model.evaluation.frechet import frechet_distance as between_gaussians
from mmaudio_model.evaluation.frechet import gaussian

INCEPTION_SPLITS = 10
INCEPTION_SEED = 2020
OFFSETS_S = np.linspace(-2.0, 2.0, 21)
"""The offset classes of Synchformer, in seconds."""


def frechet_distance(generated: np.ndarray, reference: np.ndarray) -> float:
    """Return the Fréchet distance between two sets of embeddings, (N, D) and (M, D).

    Raises:
        RequestInvalidError: a set has fewer than two rows, or D differs.
    """
    if generated.shape[1:] != reference.shape[1:]:
        raise RequestInvalidError(f"Got embeddings of shapes {generated.shape} and {reference.shape}; D must agree.")
    return between_gaussians(gaussian(generated), gaussian(reference))


def paired_kl(reference: np.ndarray, generated: np.ndarray) -> float:
    """Return the mean over pairs of KL(softmax(reference) || softmax(generated)), in nats.

    Args:
        reference, generated: logits, (N, classes) each; rows are paired.

    Raises:
        RequestInvalidError: the shapes differ, or there is no pair.
    """
    if reference.shape != generated.shape or reference.ndim != 2 or not len(reference):
        raise RequestInvalidError(
            f"Got logits of shapes {reference.shape} and {generated.shape}; both must be (N, classes), N > 0."
        )
    p, q = log_softmax(reference.astype(np.float64), axis=1), log_softmax(generated.astype(np.float64), axis=1)
    return float((np.exp(p) * (p - q)).sum(axis=1).mean())


def inception_score(logits: np.ndarray, *, splits: int = INCEPTION_SPLITS, seed: int = INCEPTION_SEED) -> float:
    """Return the inception score of softmax(logits), the mean over splits of the shuffled set.

    Args:
        logits: (N, classes). With fewer sounds than splits, one split is used, since splits of one sound always
            score 1.

    Raises:
        RequestInvalidError: there is no sound.
    """
    if logits.ndim != 2 or not len(logits):
        raise RequestInvalidError(f"Got logits of shape {logits.shape}; (N, classes), N > 0, is needed.")
    # The legacy generator is av-benchmark's; another one would give other splits.
    shuffled = logits.astype(np.float64)[np.random.RandomState(seed).permutation(len(logits))]
    log_p = log_softmax(shuffled, axis=1)
    count = splits if len(logits) >= splits else 1
    bounds = [k * len(logits) // count for k in range(count + 1)]
    return float(np.mean([_score(log_p[a:b]) for a, b in pairwise(bounds)]))


def _score(log_p: np.ndarray) -> float:
    p = np.exp(log_p)
    everywhere = np.log(np.maximum(p.mean(axis=0, keepdims=True), np.finfo(np.float64).tiny))
    return float(np.exp((p * (log_p - everywhere)).sum(axis=1).mean()))


def mean_cosine(one: np.ndarray, other: np.ndarray) -> float:
    """Return the mean cosine of paired embeddings, (N, D) each.

    Raises:
        RequestInvalidError: the shapes differ, there is no pair, or an embedding is zero.
    """
    if one.shape != other.shape or one.ndim != 2 or not len(one):
        raise RequestInvalidError(
            f"Got embeddings of shapes {one.shape} and {other.shape}; both must be (N, D), N > 0."
        )
    one, other = one.astype(np.float64), other.astype(np.float64)
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    if not lengths.all():
        raise RequestInvalidError("Got an embedding of zeros, which has no direction.")
    return float(((one * other).sum(axis=1) / lengths).mean())


def desync_s(logits: np.ndarray) -> float:
    """Return the mean absolute value of the most likely offsets, in seconds.

    Args:
        logits: (sections, 21), over OFFSETS_S.

    Raises:
        RequestInvalidError: another shape.
    """
    if logits.ndim != 2 or logits.shape[1] != len(OFFSETS_S) or not len(logits):
        raise RequestInvalidError(
            f"Got offset logits of shape {logits.shape}; (N, {len(OFFSETS_S)}), N > 0, is needed."
        )
    return float(np.abs(OFFSETS_S[logits.argmax(axis=1)]).mean())
