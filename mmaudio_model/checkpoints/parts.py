"""The parts of a variant: which network each is, and which keys of which file fill it. No torch until one is built."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mmaudio_model.checkpoints.files import CLIP, FLOW, SYNC, VAE, VOCODER, PublishedFile
from mmaudio_model.variants import Variant

if TYPE_CHECKING:
    from torch import nn

PARTS = ("flow", "clip_text", "clip_image", "sync", "vae", "vocoder")


@dataclass(frozen=True)
class PartSource:
    """Which keys of a file fill a part.

    Attributes:
        container: key of the dictionary that holds the tensors; None: the file is the dictionary.
        prefix: only keys with this prefix are of interest; it is cut off.
        others: keys with this prefix fill another part, or one that making sound does not run.
        tolerated: keys that may be in the file and are not wanted.
    """

    file: PublishedFile
    container: str | None = None
    prefix: str = ""
    others: str | None = None
    tolerated: frozenset[str] = frozenset()


def part_sources(variant: Variant) -> dict[str, PartSource]:
    """Return where each part of a variant comes from; nothing for one of our own."""
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
    """Return what is equal for two variants when, and only when, they have the very same network as that part."""
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
    """Return how much memory a part takes when it is loaded."""
    network = new_network(variant, part, device="meta", folded=True)
    return bytes_per_value * sum(tensor.numel() for tensor in (*network.parameters(), *network.buffers()))


def needed_parts(*, video: bool, image: bool, mask_away_clip: bool) -> tuple[str, ...]:
    """Return the parts that make sound of words, and of a video or an image if there is one."""
    unused = set() if video else {"sync"}
    if mask_away_clip or not (video or image):
        unused.add("clip_image")
    return tuple(part for part in PARTS if part not in unused)


def new_network(variant: Variant, part: str, *, device: str = "cpu", folded: bool = False) -> nn.Module:
    """Build a part, unfilled; on `meta` that costs neither time nor memory.

    Args:
        folded: in the form that its `fold_weights` leaves it in, rather than in the published one.
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
    # Some layers draw first values from torch's global generator, which belongs to the caller.
    with torch.random.fork_rng(devices=[]), torch.device(device):
        return builders[part]()
