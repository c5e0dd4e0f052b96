"""Layout of a weights folder: the paths that the parts of each variant have in it. No torch.

Published variants: `weights/mmaudio_<variant>.pth` and `ext_weights/*`, as published. CLIP and the 44.1 kHz vocoder are
published by others; in a folder they are in `ext_weights/` under their own names. Bundled variants:
`<variant>/<part>.safetensors`.
"""

from __future__ import annotations

from pathlib import Path

from mmaudio_model.checkpoints.published import needed_files
from mmaudio_model.variants import Variant

PARTS = ("flow", "clip_text", "clip_image", "sync", "vae", "vocoder")
"""The networks of a variant that generate sound."""
SUFFIX = ".safetensors"


def bundled_path(variant: Variant, part: str) -> str:
    """Return the path of a part of a bundled variant, relative to a weights folder."""
    return f"{variant.name}/{part}{SUFFIX}"


def folder_paths(variant: Variant) -> tuple[str, ...]:
    """Return the paths, relative to a weights folder, of the files that a variant is loaded from; flow first."""
    if variant.bundled:
        return tuple(bundled_path(variant, part) for part in PARTS)
    return tuple(file.path for file in needed_files(variant))


def holds_part(variant: Variant, folder: Path) -> bool:
    """Return whether a folder has the file of at least one part of a variant; a dangling link counts as a file."""
    return any((path := folder / name).is_file() or path.is_symlink() for name in folder_paths(variant))
