"""The networks of the published variants, filled with synthetic weights."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TypeVar

import torch
from torch import nn

from mmaudio_model.checkpoints.loading import fill
from mmaudio_model.networks.clip import ImageTower, TextTower
from mmaudio_model.networks.flow import FlowNetwork
from mmaudio_model.networks.synchformer import SynchformerVisual
from mmaudio_model.networks.vae import Vae
from mmaudio_model.networks.vocoder import Vocoder
from mmaudio_model.variants import MODE_16K, MODE_44K, AudioMode, ClipSizes, SyncSizes, get_variant
from tests.parity.synthetic import synthetic_state

MODES = {"16k": MODE_16K, "44k": MODE_44K}
N = TypeVar("N", bound=nn.Module)


@cache
def small_flow(variant_name: str) -> FlowNetwork:
    """Return a small variant's flow network; one copy (0.6 GB) serves all tests, which must not change it."""
    return flow(variant_name)


def flow(variant_name: str) -> FlowNetwork:
    variant = get_variant(variant_name)
    return _filled(lambda: FlowNetwork(variant.flow, variant.mode.latent_channels), f"mmaudio_{variant_name}")


def vae(mode: AudioMode) -> Vae:
    network = _filled(lambda: Vae(mode), "v1-16" if mode is MODE_16K else "v1-44")
    network.fold_weights()
    return network


def vocoder(mode: AudioMode) -> Vocoder:
    manifest = "best_netG" if mode is MODE_16K else "bigvgan_v2_44khz_128band_512x"
    network = _filled(lambda: Vocoder(mode.vocoder, mode.mel_bands), manifest)
    network.fold_weights()
    return network


def synchformer() -> SynchformerVisual:
    return _filled(lambda: SynchformerVisual(SyncSizes()), "synchformer_state_dict", "vfeat_extractor.")


def clip_image() -> ImageTower:
    return _filled(lambda: ImageTower(ClipSizes()), "open_clip_pytorch_model", "visual.")


def clip_text() -> TextTower:
    return _filled(lambda: TextTower(ClipSizes()), "open_clip_pytorch_model", others="visual.")


def _filled(build: Callable[[], N], manifest: str, prefix: str = "", others: str | None = None) -> N:
    with torch.device("meta"):
        network = build()
    state = synthetic_state(manifest, prefix=prefix, others=others)
    # On record among what the model uses, but only the 3-D patches are, and no projected words.
    for key in ("patch_embed.proj.weight", "patch_embed.proj.bias", "text_projection", "logit_scale"):
        state.pop(key, None)
    fill(network, state, source=manifest)
    return network.eval().requires_grad_(False)
