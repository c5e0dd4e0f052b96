"""Which file each part of a variant is loaded from, and how to say it in one line. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mmaudio_model.checkpoints.bundled import SHIPPED, bundled_file
from mmaudio_model.checkpoints.files import require_file
from mmaudio_model.checkpoints.layout import PARTS
from mmaudio_model.checkpoints.parts import part_sources
from mmaudio_model.variants import Variant


def part_files(variant: Variant, weights_dir: Path | None) -> dict[str, Path]:
    """Return the file of each part.

    Raises:
        WeightsFolderError: the folder is not a weights folder.
        WeightsMissingError: a file is not installed.
        WeightsBrokenError: a file is obviously broken.
    """
    if variant.bundled:
        return {part: bundled_file(variant, part, weights_dir) for part in PARTS}
    return {part: require_file(source.file, variant, weights_dir) for part, source in part_sources(variant).items()}


def describe_origins(files: Mapping[str, Path], weights_dir: Path | None) -> str:
    """Return a line such as `flow from run/weights; clip_text, sync from the package`, in the order of `PARTS`."""
    groups: dict[str, list[str]] = {}
    for part, path in files.items():
        groups.setdefault(_origin(path, weights_dir), []).append(part)
    return "; ".join(f"{', '.join(parts)} from {origin}" for origin, parts in groups.items())


def _origin(path: Path, weights_dir: Path | None) -> str:
    if weights_dir is not None and path.is_relative_to(weights_dir):
        return str(weights_dir)
    return "the package" if path.is_relative_to(SHIPPED) else "the Hugging Face cache"
