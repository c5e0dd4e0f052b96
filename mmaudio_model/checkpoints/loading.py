"""Build the networks of a variant and fill them: on `meta` first, so nothing is initialised only to be overwritten."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from open_clip.model import CLIP
from torch import Tensor, nn

from mmaudio_model.checkpoints.files import WeightsFile, needed_files, require_file
from mmaudio_model.checkpoints.seeded import fill_from_seed
from mmaudio_model.errors import WeightsMismatchError
from mmaudio_model.networks.clip import build_clip
from mmaudio_model.networks.flow import FlowNetwork
from mmaudio_model.networks.synchformer import SynchformerVisual
from mmaudio_model.networks.vae import Vae
from mmaudio_model.networks.vocoder import Vocoder
from mmaudio_model.variants import Variant

SHOWN_KEYS = 5


@dataclass(frozen=True)
class Networks:
    """All parts of a variant, ready for inference."""

    flow: FlowNetwork
    vae: Vae
    vocoder: Vocoder
    sync: SynchformerVisual
    clip: CLIP

    def parts(self) -> dict[str, nn.Module]:
        return {"flow": self.flow, "vae": self.vae, "vocoder": self.vocoder, "sync": self.sync, "clip": self.clip}


def load_networks(
    variant: Variant,
    *,
    weights_dir: Path | None,
    device: str,
    dtype: torch.dtype,
    on_part: Callable[[str], None] | None = None,
) -> Networks:
    """Load a variant.

    Raises:
        WeightsMissingError: a file is not there.
        WeightsMismatchError: a file does not hold the tensors that the network needs.
    """
    parts: dict[str, Any] = {}
    files = {file.part: file for file in needed_files(variant)}
    # Every file is looked for before the first is read: a missing one is said at once.
    paths = {part: require_file(file, variant, weights_dir) for part, file in files.items()}
    for part, module in new_networks(variant, device="cpu" if variant.seeded else "meta").items():
        if on_part is not None:
            on_part(part)
        if variant.seeded:
            fill_from_seed(module, part)
        else:
            fill_from_file(module, files[part], paths[part])
        if isinstance(module, Vae | Vocoder):
            module.fold_weights()
        parts[part] = module.eval().requires_grad_(False).to(device=device, dtype=dtype)
    return Networks(**parts)


def new_networks(variant: Variant, *, device: str = "cpu") -> dict[str, nn.Module]:
    """Build a variant's networks, by part, unfilled; on `meta` they cost neither time nor memory."""
    mode = variant.mode
    # Some layers draw first values from torch's global generator, which belongs to the caller.
    with torch.random.fork_rng(devices=[]), torch.device(device):
        return {
            "flow": FlowNetwork(variant.flow, mode.latent_channels),
            "vae": Vae(mode),
            "vocoder": Vocoder(mode.vocoder, mode.mel_bands),
            "sync": SynchformerVisual(variant.sync),
            "clip": build_clip(variant.clip),
        }


def fill_from_file(module: nn.Module, file: WeightsFile, path: Path) -> None:
    """Fill a network on `meta` with the tensors of a file.

    Raises:
        WeightsMismatchError: the file is no checkpoint, or keys are missing, unknown, or of another shape.
    """
    try:
        content = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except (RuntimeError, UnpicklingError, EOFError, ValueError) as exc:
        raise WeightsMismatchError(
            f"{path} cannot be read as a checkpoint: {exc}. It may be cut off; fetch it again."
        ) from exc
    if file.container is not None:
        if file.container not in content:
            raise WeightsMismatchError(f"{path} has no entry {file.container!r}; it holds {_some(content)}.")
        content = content[file.container]
    state = {
        key.removeprefix(file.prefix): value.float()
        for key, value in content.items()
        if key.startswith(file.prefix) and key.removeprefix(file.prefix) not in file.tolerated
    }
    fill(module, state, source=str(path))


def fill(module: nn.Module, state: dict[str, Tensor], *, source: str) -> None:
    """Assign tensors to a network, strictly; buffers that no checkpoint holds are computed anew.

    Raises:
        WeightsMismatchError: keys are missing, unknown, or of another shape.
    """
    try:
        result = module.load_state_dict(state, strict=False, assign=True)
    except RuntimeError as exc:  # torch says a wrong shape so
        raise WeightsMismatchError(f"{source} does not fit the network: {exc}") from exc
    if result.missing_keys or result.unexpected_keys:
        raise WeightsMismatchError(
            f"{source} does not fit the network: missing {_some(result.missing_keys)}; "
            f"unknown {_some(result.unexpected_keys)}."
        )
    for owner in module.modules():
        for name, buffer in owner.named_buffers(recurse=False):
            if buffer.is_meta and name == "attn_mask":  # open_clip's causal mask is not part of its checkpoints
                size = buffer.shape[-1]
                setattr(owner, name, torch.full((size, size), float("-inf")).triu_(1))


def _some(keys: Any) -> str:
    names = sorted(keys)
    more = f" and {len(names) - SHOWN_KEYS} more" if len(names) > SHOWN_KEYS else ""
    return (", ".join(names[:SHOWN_KEYS]) or "nothing") + more
