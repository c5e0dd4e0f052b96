"""Variants of our own: one safetensors file a part, in half precision, `<folder>/<variant>/<part>.safetensors`.

They ship with the package. `mmaudio train world` writes its own into its run's `weights/`, which is a weights folder;
a part that is not in the folder is the shipped one, so a fine-tuned flow network is all that a folder needs to hold.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mmaudio_model.errors import WeightsMismatchError, WeightsMissingError
from mmaudio_model.variants import Variant

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

SUFFIX = ".safetensors"
SHIPPED = Path(__file__).resolve().parent.parent / "shipped_weights"
"""A weights folder too; `README.md` beside each variant's files is its model card."""


def bundled_file(variant: Variant, part: str, weights_dir: Path | None) -> Path:
    """Return where a part's weights lie: in the folder, else in the package.

    Raises:
        WeightsMissingError: neither has it.
    """
    for folder in (weights_dir, SHIPPED):
        if folder is not None and (path := _path(variant, part, folder)).is_file():
            return path
    raise WeightsMissingError(
        f"There is no {part} of {variant.name} in {weights_dir or 'a weights folder (none is set)'}, and none is "
        "installed; train it (mmaudio train world) or install the package again."
    )


def trained_file(variant: Variant, part: str, weights_dir: Path) -> Path:
    """Return where a part's weights lie in this very folder: parts of a training run fit only each other.

    Raises:
        WeightsMissingError: nobody trained it.
    """
    path = _path(variant, part, weights_dir)
    if not path.is_file():
        raise WeightsMissingError(
            f"There is no {part} of {variant.name} in {weights_dir}; train it: mmaudio train world"
        )
    return path


def vae_files(variant: Variant, weights_dir: Path | None) -> tuple[Path, Path]:
    """Return where the VAE's decoder and its encoder lie, side by side.

    Raises:
        WeightsMissingError: one is missing.
    """
    decoder = bundled_file(variant, "vae", weights_dir)
    return decoder, trained_file(variant, "vae_encoder", decoder.parent.parent)


def _path(variant: Variant, part: str, folder: Path) -> Path:
    return folder / variant.name / f"{part}{SUFFIX}"


def read_part(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file, as float32.

    Raises:
        WeightsMismatchError: it is no safetensors file, or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return {name: tensor.float() for name, tensor in load_file(path).items()}
    except (SafetensorError, OSError) as exc:
        raise WeightsMismatchError(f"{path} cannot be read: {exc}") from exc


def write_part(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a part's tensors in half precision; the file appears whole or not at all."""
    import torch
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.part")
    half = {name: tensor.detach().to("cpu", torch.float16).contiguous() for name, tensor in tensors.items()}
    save_file(half, draft, metadata=dict(metadata))
    draft.replace(path)
