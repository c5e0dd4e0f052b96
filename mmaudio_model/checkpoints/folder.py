"""Checks of a weights folder, and errors that name what it holds and which folder was probably meant. No torch."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import islice
from pathlib import Path

from mmaudio_model.checkpoints.layout import folder_paths, holds_part
from mmaudio_model.errors import WeightsFolderError
from mmaudio_model.variants import VARIANTS, Variant

ADAPTER_CONFIG = "adapter_config.json"
MAX_ENTRIES_SHOWN = 5
MAX_FOLDERS_SEARCHED = 200
"""The hint must not take long in a large folder."""
LEVELS_UP = 3


def check_folder(weights_dir: Path | None) -> None:
    """Check that a weights folder, if one is given, exists and is empty or holds a part of any variant.

    A worker serves several variants from one folder, so none of them has to be in it. A command that names one variant
    uses `check_folder_for`.

    Raises:
        WeightsFolderError: the folder does not exist, is a file, or holds something else.
    """
    if weights_dir is None or _holds_any(weights_dir, VARIANTS.values()):
        return
    if weights_dir.is_dir() and not any(weights_dir.iterdir()):
        return
    raise WeightsFolderError(_rejection(weights_dir, None))


def check_folder_for(variant: Variant, weights_dir: Path | None) -> None:
    """Check that a weights folder, if one is given, holds at least one part of a variant.

    Otherwise a bundled variant would be loaded from the package, and its result attributed to the folder.

    Raises:
        WeightsFolderError: the folder does not exist, is a file, or holds no part of the variant.
    """
    if weights_dir is not None and not holds_part(variant, weights_dir):
        raise WeightsFolderError(_rejection(weights_dir, variant))


def check_fetch_target(weights_dir: Path | None) -> None:
    """Check that a folder to fetch into is not a folder inside of a weights folder; it need not exist.

    Raises:
        WeightsFolderError: the folder is a file, or a folder above it is the weights folder.
    """
    if weights_dir is None or _holds_any(weights_dir, VARIANTS.values()):
        return
    above = next((each for each in _above(weights_dir) if _holds_any(each, VARIANTS.values())), None)
    if (weights_dir.exists() and not weights_dir.is_dir()) or above is not None:
        raise WeightsFolderError(_rejection(weights_dir, None))


def _holds_any(folder: Path, variants: Collection[Variant]) -> bool:
    return any(holds_part(variant, folder) for variant in variants)


def _rejection(folder: Path, variant: Variant | None) -> str:
    wanted = list(VARIANTS.values()) if variant is None else [variant]
    sentences = [_found(folder, variant)]
    meant = next((each for each in _nearby(folder) if _holds_any(each, wanted)), None)
    adapter = _adapter(folder)
    if adapter is not None and (meant is None or adapter == folder):
        name = variant.name if variant is not None else "VARIANT"
        sentences.append(
            f"{adapter} is a LoRA adapter that is not merged. Merge it first: "
            f"mmaudio train merge-lora --variant {name} --adapter {adapter} --output FOLDER"
        )
        return " ".join(sentences)
    examples = [folder_paths(each)[0] for each in wanted]
    of = "the variant" if variant is not None else "a variant"
    sentences.append(f"Expected {' or '.join(dict.fromkeys((examples[0], examples[-1])))}, or another part of {of}.")
    if meant is not None:
        sentences.append(f"Did you mean {meant}?")
    elif others := [each.name for each in VARIANTS.values() if each not in wanted and holds_part(each, folder)]:
        sentences.append(f"It holds parts of {', '.join(others)}: select a variant with --variant.")
    elif variant is None or variant.bundled:
        sentences.append("To use the bundled weights, set neither --weights nor MMAUDIO_WEIGHTS_DIR.")
    else:
        sentences.append(f"Fetch the published files: mmaudio weights fetch {variant.name} --weights {folder}")
    return " ".join(sentences)


def _found(folder: Path, variant: Variant | None) -> str:
    if not folder.exists():
        return f"The weights folder {folder} does not exist."
    if not folder.is_dir():
        return f"The weights folder {folder} is a file, not a folder."
    of = f"of {variant.name}" if variant is not None else "of any variant"
    names = sorted(f"{path.name}/" if path.is_dir() else path.name for path in folder.iterdir())
    more = f" and {len(names) - MAX_ENTRIES_SHOWN} more" if len(names) > MAX_ENTRIES_SHOWN else ""
    held = (", ".join(names[:MAX_ENTRIES_SHOWN]) or "nothing") + more
    return f"The weights folder {folder} holds no part {of}; it holds {held}."


def _adapter(folder: Path) -> Path | None:
    """Return the folder of an adapter that is not merged: this folder, or one in it (a run folder)."""
    return next((each for each in (folder, *_subfolders(folder)) if (each / ADAPTER_CONFIG).is_file()), None)


def _nearby(folder: Path) -> Iterator[Path]:
    """Give the folders two levels down and some levels up: the usual mistake is one level."""
    below = _subfolders(folder)
    yield from below
    yield from islice((deep for each in below for deep in _subfolders(each)), MAX_FOLDERS_SEARCHED)
    yield from _above(folder)


def _above(folder: Path) -> Iterator[Path]:
    # A relative path with a single component has no parent but the current folder.
    yield from (folder if len(folder.parts) > 1 else folder.resolve()).parents[:LEVELS_UP]


def _subfolders(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in islice(folder.iterdir(), MAX_FOLDERS_SEARCHED) if path.is_dir())
    except OSError:
        return []
