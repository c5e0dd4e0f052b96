"""Variants of our own: one safetensors file a part, in half precision, `<folder>/<variant>/<part>.safetensors`.

`mmaudio train world` writes them into its run's `weights/`, which is a weights folder. A part that is not there is
drawn from a fixed seed, untrained.
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


def own_file(variant: Variant, part: str, weights_dir: Path | None) -> Path | None:
    """Return where a part's weights lie in the folder; None if nobody trained it."""
    if weights_dir is None:
        return None
    path = weights_dir / variant.name / f"{part}{SUFFIX}"
    return path if path.is_file() else None


def trained_file(variant: Variant, part: str, weights_dir: Path | None) -> Path:
    """Return where a part's weights lie.

    Raises:
        WeightsMissingError: nobody trained it.
    """
    found = own_file(variant, part, weights_dir)
    if found is None:
        raise WeightsMissingError(
            f"There is no {part} of {variant.name} in {weights_dir or 'a weights folder (none is set)'}; "
            "train it: mmaudio train world"
        )
    return found


def read_own(path: Path) -> dict[str, Tensor]:
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


def write_own(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a part's tensors in half precision; the file appears whole or not at all."""
    import torch
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.part")
    half = {name: tensor.detach().to("cpu", torch.float16).contiguous() for name, tensor in tensors.items()}
    save_file(half, draft, metadata=dict(metadata))
    draft.replace(path)
