"""Exports trained networks to the files that the model is loaded from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from zipfile import is_zipfile

import torch
from torch import Tensor, nn

from mmaudio_model.checkpoints.bundled import SUFFIX, read_part, vae_files, write_part
from mmaudio_model.checkpoints.files import require_file
from mmaudio_model.checkpoints.loading import fill, fill_from_file
from mmaudio_model.checkpoints.parts import part_sources
from mmaudio_model.networks.vae import Vae
from mmaudio_model.variants import Variant

PARAMETRISED = ".parametrizations.weight.original"
ENCODER = "encoder."
"""Key prefix of the VAE's encoder, which has its own file since generation does not need it."""


def export_parts(
    module: nn.Module, parts: Mapping[str, str], variant: Variant, weights_dir: Path, *, trained: str
) -> None:
    """Write the networks of a trained module as `<weights_dir>/<variant>/<part>.safetensors`, in half precision.

    The VAE's encoder goes to `vae_encoder.safetensors`.

    Args:
        parts: part name to the network's name in the module (`TrainingTask.parts`).
        trained: how they were trained, for the metadata.
    """
    for part, name in parts.items():
        state = published_state(getattr(module, name))
        encoder = {key: value for key, value in state.items() if key.startswith(ENCODER)}
        made = {key: value for key, value in state.items() if key not in encoder}
        for file, tensors in ((part, made), (f"{part}_encoder", encoder)):
            if tensors:
                path = weights_dir / variant.name / f"{file}{SUFFIX}"
                write_part(path, tensors, {"variant": variant.name, "trained": trained})


def published_state(network: nn.Module) -> dict[str, Tensor]:
    """Return a network's tensors under the published names: raw filters for the VAE, two factors for the vocoder."""
    return {
        # Only the VAE's single `original` is renamed; the vocoder's original0 and original1 are published names.
        key.removesuffix(PARAMETRISED) + ".weight" if key.endswith(PARAMETRISED) else key: value
        for key, value in network.state_dict().items()
    }


def write_checkpoint(path: Path, state: Mapping[str, Tensor], *, like: Path) -> None:
    """Write tensors with a published checkpoint's keys, including those we do not use, and its dtypes.

    Args:
        like: the published file they were fine-tuned from.
    """
    content = torch.load(like, map_location="cpu", mmap=is_zipfile(like), weights_only=True)
    for key, value in state.items():
        content[key] = value.detach().to("cpu", content[key].dtype).contiguous()
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.part")
    torch.save(content, draft)
    draft.replace(path)


def load_whole_vae(variant: Variant, weights_dir: Path | None) -> Vae:
    """Return a variant's VAE with its encoder, ready for inference.

    Raises:
        WeightsMissingError, WeightsMismatchError: a file is missing, or does not fit.
    """
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        vae = Vae(variant.mode)
    if variant.bundled:
        paths = vae_files(variant, weights_dir)
        state = {key: value for path in paths for key, value in read_part(path).items()}
        fill(vae, state, source=" and ".join(map(str, paths)))
    else:
        source = replace(part_sources(variant)["vae"], others=None)  # the encoder is in the same file
        fill_from_file(vae, source, require_file(source.file, variant, weights_dir))
    vae.fold_weights()
    return vae.eval().requires_grad_(False)
