"""From a trained module to the files that the model is loaded from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from mmaudio_model.checkpoints.loading import fill
from mmaudio_model.checkpoints.shipped import SUFFIX, read_shipped, shipped_file, write_shipped
from mmaudio_model.networks.vae import Vae
from mmaudio_model.variants import Variant

PARAMETRISED = ".parametrizations.weight.original"
ENCODER = "encoder."
"""Of the VAE: lies in a file of its own, since making sound does not run it."""


def export_parts(
    module: nn.Module, parts: Mapping[str, str], variant: Variant, weights_dir: Path, *, trained: str
) -> None:
    """Write the networks of a trained module as `<weights_dir>/<variant>/<part>.safetensors`, in half precision.

    The VAE's encoder goes to `vae_encoder.safetensors`.

    Args:
        parts: part name to the network's name in the module (`TrainingTask.parts`).
        trained: says how, for whoever opens the file.
    """
    for part, name in parts.items():
        state = published_state(getattr(module, name))
        encoder = {key: value for key, value in state.items() if key.startswith(ENCODER)}
        made = {key: value for key, value in state.items() if key not in encoder}
        for file, tensors in ((part, made), (f"{part}_encoder", encoder)):
            if tensors:
                path = weights_dir / variant.name / f"{file}{SUFFIX}"
                write_shipped(path, tensors, {"variant": variant.name, "trained": trained})


def published_state(network: nn.Module) -> dict[str, Tensor]:
    """Return a network's tensors under the published names: the VAE's filters raw, the vocoder's as two factors."""
    return {
        # Only the VAE's single original is ours alone; the vocoder's original0 and original1 are published so.
        key.removesuffix(PARAMETRISED) + ".weight" if key.endswith(PARAMETRISED) else key: value
        for key, value in network.state_dict().items()
    }


def load_whole_vae(variant: Variant, weights_dir: Path | None) -> Vae:
    """Return the VAE of a variant that comes with this package, with its encoder, ready for inference.

    Raises:
        WeightsMissingError, WeightsMismatchError: the file is not there, or does not fit.
    """
    paths = [shipped_file(variant, part, weights_dir) for part in ("vae", "vae_encoder")]
    with torch.device("meta"):
        vae = Vae(variant.mode)
    state = {key: value for path in paths for key, value in read_shipped(path).items()}
    fill(vae, state, source=" and ".join(map(str, paths)))
    vae.fold_weights()
    return vae.eval().requires_grad_(False)
