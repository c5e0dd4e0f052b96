"""Build the networks of a variant and fill them: on `meta` first, so that no weights are initialised in vain."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Hashable
from functools import cached_property
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, cast
from weakref import WeakValueDictionary
from zipfile import is_zipfile

import torch
from torch import Tensor, nn

from mmaudio_model.checkpoints.bundled import read_part
from mmaudio_model.checkpoints.convert import conversion, converted_path, read_converted, write_converted
from mmaudio_model.checkpoints.origin import describe_origins, part_files
from mmaudio_model.checkpoints.parts import PARTS, PartSource, new_network, part_identity, part_sources
from mmaudio_model.errors import WeightsMismatchError
from mmaudio_model.networks.clip import ImageTower, TextTower
from mmaudio_model.networks.flow import FlowNetwork
from mmaudio_model.networks.synchformer import SynchformerVisual
from mmaudio_model.networks.vae import Vae
from mmaudio_model.networks.vocoder import Vocoder
from mmaudio_model.variants import Variant

log = logging.getLogger(__name__)

SHOWN_KEYS = 5


class Networks:
    """The parts of a variant, ready for inference; each is loaded on first use.

    Args:
        load: returns a part by its name; the network has the class of the attribute.
    """

    def __init__(self, load: Callable[[str], nn.Module]) -> None:
        self._load = load

    @cached_property
    def flow(self) -> FlowNetwork:
        return cast(FlowNetwork, self._load("flow"))

    @cached_property
    def clip_text(self) -> TextTower:
        return cast(TextTower, self._load("clip_text"))

    @cached_property
    def clip_image(self) -> ImageTower:
        return cast(ImageTower, self._load("clip_image"))

    @cached_property
    def sync(self) -> SynchformerVisual:
        return cast(SynchformerVisual, self._load("sync"))

    @cached_property
    def vae(self) -> Vae:
        return cast(Vae, self._load("vae"))

    @cached_property
    def vocoder(self) -> Vocoder:
        return cast(Vocoder, self._load("vocoder"))

    def parts(self) -> dict[str, nn.Module]:
        """Return the loaded networks by part."""
        return {part: self.__dict__[part] for part in PARTS if part in self.__dict__}


SharedParts = WeakValueDictionary[Hashable, nn.Module]
"""Networks on one device, in one dtype, that several variants share; each lives as long as a variant uses it."""


def load_networks(
    variant: Variant,
    *,
    weights_dir: Path | None,
    device: str,
    dtype: torch.dtype,
    parts: Collection[str] = PARTS,
    on_part: Callable[[str], None] | None = None,
    shared: SharedParts | None = None,
) -> Networks:
    """Load a variant.

    Args:
        parts: parts to load now; the others are loaded on first use.
        on_part: called with the name of each part before it is loaded.
        shared: networks that other variants on this device have loaded; equal parts are reused.

    Raises:
        WeightsFolderError: the folder is not a weights folder.
        WeightsMissingError: a file is not installed, whether it is read now or later.
        WeightsMismatchError: a file does not hold the tensors that the network needs.
    """
    sources = part_sources(variant)
    # All files are located before the first is read: a missing one is reported at once.
    paths = part_files(variant, weights_dir)
    log.info("loading %s: %s", variant.name, describe_origins(paths, weights_dir))

    def load(part: str) -> nn.Module:
        if shared is None:
            return load_anew(part)
        identity = part_identity(variant, part)
        network = shared.get(identity)
        if network is None:
            network = shared[identity] = load_anew(part)
        return network

    def load_anew(part: str) -> nn.Module:
        if on_part is not None:
            on_part(part)
        # A part may be loaded in the middle of an inference; its tensors must not become inference tensors.
        with torch.inference_mode(False), torch.no_grad():
            if variant.bundled:
                network = load_bundled_part(variant, part, paths[part])
            else:
                network = load_part(variant, part, sources[part], paths[part])
            return network.eval().requires_grad_(False).to(device=device, dtype=dtype)

    networks = Networks(load)
    for part in parts:
        getattr(networks, part)
    return networks


def load_bundled_part(variant: Variant, part: str, path: Path) -> nn.Module:
    """Return a part of a bundled variant, filled from its file.

    Raises:
        WeightsMismatchError: the file does not fit the network.
    """
    network = new_network(variant, part, device="meta")
    fill(network, read_part(path), source=str(path))
    _fold(network)
    return network


def load_part(variant: Variant, part: str, source: PartSource, path: Path) -> nn.Module:
    """Return a part filled from the converted form of its file, which is made if it does not exist.

    Raises:
        WeightsMismatchError: the file does not hold the tensors that the network needs.
    """
    converted = converted_path(path, part)
    network = _from_converted(variant, part, converted)
    if network is not None:
        return network
    with conversion(converted):
        network = _from_converted(variant, part, converted)  # another process may have made it in the meantime
        if network is not None:
            return network
        network = new_network(variant, part, device="meta")
        fill_from_file(network, source, path)
        _fold(network)
        if not write_converted(converted, network.state_dict()):
            return network
    # Unlike the tensors just made, mapped ones are shared between processes and can be paged out.
    return _from_converted(variant, part, converted) or network


def fill_from_file(module: nn.Module, source: PartSource, path: Path) -> None:
    """Fill a network on `meta` with the tensors of a published file.

    Raises:
        WeightsMismatchError: the file is not a checkpoint, or keys are missing, unknown, or of another shape.
    """
    try:
        # The oldest checkpoints are not zip archives; torch cannot map those.
        content = torch.load(path, map_location="cpu", mmap=is_zipfile(path), weights_only=True)
    except (RuntimeError, UnpicklingError, EOFError, ValueError) as exc:
        raise WeightsMismatchError(
            f"{path} cannot be read as a checkpoint: {exc}. It may be incomplete; check it with: mmaudio weights verify"
        ) from exc
    if source.container is not None:
        if source.container not in content:
            raise WeightsMismatchError(f"{path} has no entry {source.container!r}; it holds {_some(content)}.")
        content = content[source.container]
    state = {
        name: value.float()
        for key, value in content.items()
        if key.startswith(source.prefix)
        and not (source.others is not None and key.startswith(source.others))
        and (name := key.removeprefix(source.prefix)) not in source.tolerated
    }
    fill(module, state, source=str(path))


def fill(module: nn.Module, state: dict[str, Tensor], *, source: str) -> None:
    """Assign tensors to a network, strictly.

    Raises:
        WeightsMismatchError: keys are missing, unknown, or of another shape.
    """
    try:
        result = module.load_state_dict(state, strict=False, assign=True)
    except RuntimeError as exc:  # raised by torch for a wrong shape
        raise WeightsMismatchError(f"{source} does not fit the network: {exc}") from exc
    if result.missing_keys or result.unexpected_keys:
        raise WeightsMismatchError(
            f"{source} does not fit the network: missing {_some(result.missing_keys)}; "
            f"unknown {_some(result.unexpected_keys)}."
        )


def _from_converted(variant: Variant, part: str, path: Path) -> nn.Module | None:
    state = read_converted(path)
    if state is None:
        return None
    network = new_network(variant, part, device="meta", folded=True)
    try:
        fill(network, state, source=str(path))
    except WeightsMismatchError as exc:
        log.warning("%s Converting again.", exc)
        return None
    return network


def _fold(network: nn.Module) -> None:
    if isinstance(network, Vae | Vocoder):
        network.fold_weights()


def _some(keys: Any) -> str:
    names = sorted(keys)
    more = f" and {len(names) - SHOWN_KEYS} more" if len(names) > SHOWN_KEYS else ""
    return (", ".join(names[:SHOWN_KEYS]) or "nothing") + more
