"""The parts of a variant: the network of each, and the keys of which file fill it. Torch is imported to build one."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mmaudio_model.checkpoints.layout import PARTS as PARTS
from mmaudio_model.checkpoints.published import CLIP, FLOW, SYNC, VAE, VOCODER, PublishedFile
from mmaudio_model.variants import Variant

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class PartSource:
    """Which keys of a file fill a part.

    Attributes:
        container: key of the dictionary that holds the tensors; None: the file is the dictionary.
        prefix: only keys with this prefix are read; it is removed.
        others: keys with this prefix fill another part, or a network that generation does not run.
        tolerated: keys that may be in the file and are ignored.
    """

    file: PublishedFile
    container: str | None = None
    prefix: str = ""
    others: str | None = None
    tolerated: frozenset[str] = frozenset()


def part_sources(variant: Variant) -> dict[str, PartSource]:
    """Return the source of each part of a variant; empty for a bundled variant."""
    if variant.bundled:
        return {}
    mode = variant.mode.name
    return {
        "flow": PartSource(FLOW[variant.name], tolerated=frozenset({"latent_rot", "clip_rot", "t_embed.freqs"})),
        "clip_text": PartSource(CLIP, others="visual.", tolerated=frozenset({"text_projection", "logit_scale"})),
        "clip_image": PartSource(CLIP, prefix="visual."),
        "sync": PartSource(
            SYNC,
            prefix="vfeat_extractor.",
            tolerated=frozenset({"patch_embed.proj.weight", "patch_embed.proj.bias"}),
        ),
        "vae": PartSource(VAE[mode], others="encoder."),
        "vocoder": PartSource(VOCODER[mode], container="generator"),
    }


def part_identity(variant: Variant, part: str) -> Hashable:
    """Return a value that is equal for two variants if and only if they have the same network as that part."""
    sizes: dict[str, Hashable] = {
        "flow": variant.name,
        "clip_text": variant.clip,
        "clip_image": variant.clip,
        "sync": variant.sync,
        "vae": variant.mode,
        "vocoder": variant.mode,
    }
    return part, sizes[part], part_sources(variant).get(part)


def part_bytes(variant: Variant, part: str, bytes_per_value: int) -> int:
    """Return the memory, in bytes, of a loaded part."""
    network = new_network(variant, part, device="meta", folded=True)
    return bytes_per_value * sum(tensor.numel() for tensor in (*network.parameters(), *network.buffers()))


def needed_parts(*, video: bool, image: bool, mask_away_clip: bool) -> tuple[str, ...]:
    """Return the parts that a request runs; text is always encoded, a video or an image if there is one."""
    unused = set() if video else {"sync"}
    if mask_away_clip or not (video or image):
        unused.add("clip_image")
    return tuple(part for part in PARTS if part not in unused)


def new_network(variant: Variant, part: str, *, device: str = "cpu", folded: bool = False) -> nn.Module:
    """Build a part with unset weights; on `meta` that costs neither time nor memory.

    Args:
        folded: build the form that `fold_weights` leaves, instead of the published form.
    """
    import torch

    from mmaudio_model.networks.clip import ImageTower, TextTower
    from mmaudio_model.networks.flow import FlowNetwork
    from mmaudio_model.networks.synchformer import SynchformerVisual
    from mmaudio_model.networks.vae import Vae
    from mmaudio_model.networks.vocoder import Vocoder

    mode = variant.mode
    builders: dict[str, Callable[[], nn.Module]] = {
        "flow": lambda: FlowNetwork(variant.flow, mode.latent_channels),
        "clip_text": lambda: TextTower(variant.clip),
        "clip_image": lambda: ImageTower(variant.clip),
        "sync": lambda: SynchformerVisual(variant.sync),
        "vae": lambda: Vae(mode, with_encoder=False),
        "vocoder": lambda: Vocoder(mode.vocoder, mode.mel_bands, folded=folded),
    }
    # Some layers draw initial values from torch's global generator, which belongs to the caller.
    with torch.random.fork_rng(devices=[]), torch.device(device):
        return builders[part]()
