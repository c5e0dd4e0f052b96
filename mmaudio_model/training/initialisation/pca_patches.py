"""Initial filters of the synchronisation encoder: whitened principal components of patches of the data.

Pictures are smooth, so random filters respond mostly to a patch's mean, and the static picture drowns the motion. Half
of the filters start as components of the mean of a token's two frames and half as components of their difference, each
scaled to unit variance (Coates and Ng 2012 on whitening before feature learning). With random filters, the small
encoder had not learned the timing of impacts after 500 steps.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mmaudio_model.networks.synchformer import TUBE_FRAMES, SynchformerVisual
from mmaudio_model.training.data.shards import Shards

CLIPS, PATCHES_A_CLIP = 512, 48
SMALLEST_VARIANCE = 1e-3
"""Floor of a component's variance, as a share of the largest; components below it are not amplified further."""
NOTHING_VARIES = 1e-6
"""Absolute floor of the variance, for pictures of one colour; pixels are in [-1, 1]."""
SEED = 0


@torch.no_grad()
def initialise_from_patches(network: SynchformerVisual, shards: Shards) -> None:
    """Set the filters of the first convolution, (D, 3, 2, patch, patch), and its bias."""
    weight, bias = network.patch_embed_3d.proj.weight, network.patch_embed_3d.proj.bias
    width, _, frames, patch, _ = weight.shape
    assert frames == TUBE_FRAMES
    first, second = _patches(shards, patch).unbind(1)  # each (n, 3, patch, patch)
    half = width // 2
    still, still_shift = _whitening((first + second) / 2, width - half)
    moving, moving_shift = _whitening(second - first, half)
    weight[: width - half] = still.unflatten(1, (3, 1, patch, patch)).expand(-1, -1, 2, -1, -1) / 2
    moving = moving.unflatten(1, (3, patch, patch))
    weight[width - half :, :, 0], weight[width - half :, :, 1] = -moving, moving
    assert bias is not None
    bias.copy_(-torch.cat([still_shift, moving_shift]))


def _whitening(samples: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return whitening filters (count, values) and their response to the mean sample, (count,)."""
    flat = samples.flatten(1).double()
    mean = flat.mean(0)
    variances, components = torch.linalg.eigh((flat - mean).T @ (flat - mean) / len(flat))
    variances, components = variances[-count:].flip(0), components[:, -count:].flip(1)
    variances = variances.clamp(min=max(SMALLEST_VARIANCE * float(variances[0]), NOTHING_VARIES))
    filters = (components / variances.sqrt()).T
    return filters.float(), (filters @ mean).float()


def _patches(shards: Shards, size: int) -> Tensor:
    """Return random pairs of patches from neighbouring frames, in [-1, 1], (n, 2, 3, size, size)."""
    rng = np.random.default_rng(SEED)
    pairs = []
    for index in rng.choice(len(shards), min(CLIPS, len(shards)), replace=False):
        frames = shards.get("sync_frames", int(index))
        places = (frames.shape[1] // size, frames.shape[2] // size)
        for start in rng.integers(0, len(frames) - 1, PATCHES_A_CLIP):
            top, left = (int(rng.integers(place)) * size for place in places)
            pairs.append(frames[start : start + 2, top : top + size, left : left + size])
    pixels = torch.from_numpy(np.stack(pairs)).permute(0, 1, 4, 2, 3)
    return pixels.float() / 255 * 2 - 1
