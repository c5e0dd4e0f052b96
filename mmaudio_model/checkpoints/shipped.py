"""Variants of our own: their weights come with this package, one safetensors file a part, in half precision.

A weights folder may hold others under the same names, `<folder>/<variant>/<part>.safetensors`, as `mmaudio train
export` writes them: those are used then.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mmaudio_model.errors import WeightsMismatchError, WeightsMissingError
from mmaudio_model.variants import Variant

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

SHIPPED = Path(__file__).resolve().parents[1] / "shipped_weights"
SUFFIX = ".safetensors"


def shipped_file(variant: Variant, part: str, weights_dir: Path | None) -> Path:
    """Return where a part's weights lie: in the folder, else in this package.

    Raises:
        WeightsMissingError: in neither (a damaged installation).
    """
    name = f"{variant.name}/{part}{SUFFIX}"
    for folder in (weights_dir, SHIPPED):
        if folder is not None and (folder / name).is_file():
            return folder / name
    raise WeightsMissingError(
        f"Variant {variant.name} comes with this package, but {SHIPPED / name} is not there; install the package again."
    )


def read_shipped(path: Path) -> dict[str, Tensor]:
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


def write_shipped(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a part's tensors in half precision; the file appears whole or not at all."""
    import torch
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.part")
    half = {name: tensor.detach().to("cpu", torch.float16).contiguous() for name, tensor in tensors.items()}
    save_file(half, draft, metadata=dict(metadata))
    draft.replace(path)
