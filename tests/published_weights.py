"""tiny_16k's weights as the published files have theirs: prefixes, containers, old names, things not wanted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from mmaudio_model.checkpoints.bundled import bundled_file, read_part
from mmaudio_model.checkpoints.parts import PARTS
from mmaudio_model.checkpoints.random_init import fill_from_seed
from mmaudio_model.networks.vae import Vae
from mmaudio_model.variants import get_variant

TINY = get_variant("tiny_16k")
# tiny_16k's sizes as if they were published: read from files, in the layout of the 16 kHz variants.
FROM_FILES = replace(TINY, name="small_16k", mode=replace(TINY.mode, name="16k"), bundled=False)
FLOW, VAE = "weights/mmaudio_small_16k.pth", "ext_weights/v1-16.pth"
VOCODER, SYNC = "ext_weights/best_netG.pt", "ext_weights/synchformer_state_dict.pth"
CLIP = "ext_weights/open_clip_pytorch_model.bin"


def write_published(folder: Path) -> None:
    """Write the files that FROM_FILES is loaded from."""
    states = {part: read_part(bundled_file(TINY, part, None)) for part in PARTS}
    old_names = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    for new, old in old_names.items():
        states["vocoder"] = {key.replace(new, old): value for key, value in states["vocoder"].items()}
    states["flow"]["latent_rot"] = torch.zeros(3)
    whole_vae = Vae(TINY.mode)
    fill_from_seed(whole_vae, "vae")
    states["vae"] = whole_vae.state_dict() | states["vae"]  # its encoder does not ship
    states["sync"] = {f"vfeat_extractor.{key}": value for key, value in states["sync"].items()}
    states["sync"]["afeat_extractor.ast.weight"] = torch.zeros(2)
    states["sync"]["vfeat_extractor.patch_embed.proj.weight"] = torch.zeros(2)
    clip = states["clip_text"] | {f"visual.{key}": value for key, value in states["clip_image"].items()}
    clip |= {"text_projection": torch.zeros(2, 2), "logit_scale": torch.zeros(())}
    contents = {FLOW: states["flow"], VAE: states["vae"], SYNC: states["sync"], CLIP: clip}
    contents[VOCODER] = {"generator": states["vocoder"]}
    for path, content in contents.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        torch.save(content, folder / path)


def change(path: Path, **changes: Tensor | None) -> None:
    """Set tensors of a file; None takes one out."""
    content = torch.load(path, weights_only=True)
    for key, value in changes.items():
        content.pop(key, None)
        if value is not None:
            content[key] = value
    torch.save(content, path)
