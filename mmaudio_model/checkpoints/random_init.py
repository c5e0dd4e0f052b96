"""Weights from a fixed seed, for networks that are not trained yet: the same on every machine, and well scaled.

Each tensor is drawn with a seed derived from its name, so its values depend on nothing else.
"""

from __future__ import annotations

import math
import zlib

import torch
from torch import Tensor, nn

from mmaudio_model.networks.vae import Vae
from mmaudio_model.networks.vocoder import Vocoder

# Keeps the untrained vocoder audible and within the linear range of tanh.
VOCODER_LAST_GAIN = 0.02
UPSAMPLING_GAIN = 1.4
RESIDUAL_GAIN = 0.3
# Close to the statistics of real log10 mel spectrograms.
MEL_MEAN, MEL_STD = -2.0, 0.8


# CLIP is published as one network; its tensors are drawn under their published names.
PREFIXES = {"clip_text": "clip", "clip_image": "clip.visual"}


@torch.no_grad()
def fill_from_seed(module: nn.Module, part: str) -> None:
    """Set every parameter of a network to a value derived from its name."""
    prefix = PREFIXES.get(part, part)
    for name, parameter in module.named_parameters():
        parameter.copy_(_value(f"{prefix}.{name}", parameter))
    if isinstance(module, Vae):
        module.data_mean.fill_(MEL_MEAN)
        module.data_std.fill_(MEL_STD)
    if isinstance(module, Vocoder):
        for name, parameter in module.named_parameters():
            if name.endswith("original0"):  # the norm of each filter
                parameter.fill_(_filter_length(name))


def _value(name: str, like: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    noise = torch.randn(like.shape, generator=generator)
    leaf = name.rsplit(".", 1)[-1]
    if leaf in {"latent_mean", "learnable_gain"}:
        return torch.zeros_like(noise)
    if leaf == "latent_std":
        return torch.ones_like(noise)
    if like.dim() < 2:
        # Norms are the identity; biases, and the log-scale parameters of the activations, stay small.
        is_norm = leaf == "weight"
        return torch.ones_like(noise) if is_norm else 0.02 * noise
    if leaf in {"pos_embed", "temp_embed", "positional_embedding", "cls_token", "sync_pos_emb"}:
        return 0.02 * noise
    if leaf == "weight" and "token_embedding" in name:
        return 0.02 * noise
    return noise / math.sqrt(like[0].numel())


def _filter_length(name: str) -> float:
    if name.startswith("ups"):
        return UPSAMPLING_GAIN
    if name.startswith("conv_post"):
        return VOCODER_LAST_GAIN
    return RESIDUAL_GAIN if "convs2" in name else 1.0
