"""The state of a variant's weights as `mmaudio weights list` shows it, from sizes and first bytes of the files."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from mmaudio_model.checkpoints.bundled import SHIPPED
from mmaudio_model.checkpoints.files import find_file
from mmaudio_model.checkpoints.layout import folder_paths
from mmaudio_model.checkpoints.published import needed_files
from mmaudio_model.checkpoints.verify import FileState, Finding, inspect_file
from mmaudio_model.variants import Variant


class InstallState(StrEnum):
    """Whether a variant can be loaded."""

    INSTALLED = "installed"
    BUNDLED = "bundled"
    """Every part is the one in the package."""
    MISSING = "missing"
    BROKEN = "broken"


@dataclass(frozen=True)
class VariantWeights:
    """The files of a variant, by their path in a weights folder, and what they mean for it."""

    variant: Variant
    files: dict[str, Finding]
    state: InstallState
    description: str

    @property
    def size_bytes(self) -> int:
        """The published size; 0 for a bundled variant."""
        return sum(file.size_bytes for file in needed_files(self.variant))


def weights_of(variant: Variant, weights_dir: Path | None) -> VariantWeights:
    """Return the state of a variant's weights in a folder, the Hugging Face cache and the package."""
    if variant.bundled:
        files = {name: inspect_file(find_bundled(name, weights_dir)) for name in folder_paths(variant)}
    else:
        files = {file.path: inspect_file(find_file(file, weights_dir)) for file in needed_files(variant)}
    state, description = _judge(variant, files)
    return VariantWeights(variant, files, state, description)


def find_bundled(name: str, weights_dir: Path | None) -> Path:
    """Return the path of a part of a bundled variant, by its path in a weights folder: there, else in the package."""
    if weights_dir is not None and ((path := weights_dir / name).is_file() or path.is_symlink()):
        return path
    return SHIPPED / name


def _judge(variant: Variant, files: dict[str, Finding]) -> tuple[InstallState, str]:
    broken = {name: found for name, found in files.items() if found.state.is_broken}
    if broken:
        name, found = next(iter(broken.items()))
        more = f" (and {len(broken) - 1} more)" if len(broken) > 1 else ""
        return InstallState.BROKEN, f"broken: {name}: {found.state.meaning}{more}"
    missing = [name for name, found in files.items() if found.state is FileState.MISSING]
    if missing:
        count = "1 file" if len(missing) == 1 else f"{len(missing)} files"
        size_bytes = sum(file.size_bytes for file in needed_files(variant) if file.path in missing)
        return InstallState.MISSING, f"{count} missing" + (f", {size_bytes / 1e9:.1f} GB" if size_bytes else "")
    note = f"; {variant.note}" if variant.note is not None else ""
    if not variant.bundled:
        return InstallState.INSTALLED, f"installed{note}"
    own = [Path(name).stem for name, found in files.items() if not _is_shipped(found)]
    if not own:
        return InstallState.BUNDLED, f"bundled{note}"
    return InstallState.INSTALLED, f"installed: {', '.join(own)} from the weights folder{note}"


def _is_shipped(found: Finding) -> bool:
    return found.path is not None and found.path.is_relative_to(SHIPPED)
