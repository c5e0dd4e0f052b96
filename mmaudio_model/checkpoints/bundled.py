"""Weights of bundled variants: `<folder>/<variant>/<part>.safetensors`, one file per part, in half precision.

They ship with the package. `mmaudio train world` and `mmaudio train finetune` write weights folders of the same layout.
A part that is not in a given folder is read from the package, so the folder of a fine-tuned variant may hold the flow
network alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mmaudio_model.checkpoints.folder import check_folder
from mmaudio_model.checkpoints.layout import SUFFIX as SUFFIX  # part of the format that is read and written below
from mmaudio_model.checkpoints.layout import bundled_path
from mmaudio_model.checkpoints.verify import FileState, inspect_file, require_content
from mmaudio_model.errors import WeightsMismatchError, WeightsMissingError
from mmaudio_model.variants import Variant

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

SHIPPED = Path(__file__).resolve().parent.parent / "shipped_weights"
"""A weights folder; `README.md` beside each variant's files is its model card."""


def bundled_file(variant: Variant, part: str, weights_dir: Path | None) -> Path:
    """Return the path of a part's weights: in the folder, else in the package.

    Raises:
        WeightsFolderError: the folder is not a weights folder.
        WeightsMissingError: neither has the part.
        WeightsBrokenError: the file is empty, a Git LFS pointer, or a dangling link.
    """
    check_folder(weights_dir)
    for folder in (weights_dir, SHIPPED):
        if folder is None:
            continue
        path = folder / bundled_path(variant, part)
        if path.is_file() or path.is_symlink():
            require_content(path, remedy=_remedy(path, shipped=folder == SHIPPED))
            return path
    raise WeightsMissingError(
        f"There is no {part} of {variant.name} in {weights_dir or 'a weights folder (none is set)'}, and none is "
        "bundled. Train it (mmaudio train world) or install the package again."
    )


def _remedy(path: Path, *, shipped: bool) -> str:
    if shipped:
        return "Install the package again."
    if inspect_file(path).state is FileState.POINTER:
        return "Run `git lfs pull`, or copy the file again."
    return "Copy the file again, or train it again."


def trained_file(variant: Variant, part: str, weights_dir: Path) -> Path:
    """Return the path of a part's weights in this folder only: parts of one training run fit only each other.

    Raises:
        WeightsMissingError: the part is not in the folder.
    """
    path = weights_dir / bundled_path(variant, part)
    if not path.is_file():
        raise WeightsMissingError(
            f"There is no {part} of {variant.name} in {weights_dir}. Train it: mmaudio train world"
        )
    return path


def vae_files(variant: Variant, weights_dir: Path | None) -> tuple[Path, Path]:
    """Return the paths of the VAE's decoder and encoder, both of the same folder.

    Raises:
        WeightsMissingError: one is missing.
    """
    decoder = bundled_file(variant, "vae", weights_dir)
    return decoder, trained_file(variant, "vae_encoder", decoder.parent.parent)


def read_part(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file, as float32.

    Raises:
        WeightsMismatchError: the file is not a safetensors file, or is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return {name: tensor.float() for name, tensor in load_file(path).items()}
    except (SafetensorError, OSError) as exc:
        raise WeightsMismatchError(f"{path} cannot be read: {exc}") from exc


def write_part(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a part's tensors in half precision, under a temporary name first: the file is complete or absent."""
    import torch
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.part")
    half = {name: tensor.detach().to("cpu", torch.float16).contiguous() for name, tensor in tensors.items()}
    save_file(half, draft, metadata=dict(metadata))
    draft.replace(path)
