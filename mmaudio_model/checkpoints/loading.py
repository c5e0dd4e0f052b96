"""Build the networks of a variant and fill them: on `meta` first, so nothing is initialised only to be overwritten."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Hashable
from functools import cached_property
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from weakref import WeakValueDictionary
from zipfile import is_zipfile

import torch
from torch import Tensor, nn

from mmaudio_model.checkpoints.bundled import bundled_file, read_part
from mmaudio_model.checkpoints.convert import conversion, converted_path, read_converted, write_converted
from mmaudio_model.checkpoints.files import require_file
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
    """The parts of a variant, ready for inference; each is loaded when it is first asked for.

    Args:
        load: returns a part by its name.
    """

    def __init__(self, load: Callable[[str], Any]) -> None:
        self._load = load

    @cached_property
    def flow(self) -> FlowNetwork:
        network: FlowNetwork = self._load("flow")
        return network

    @cached_property
    def clip_text(self) -> TextTower:
        network: TextTower = self._load("clip_text")
        return network

    @cached_property
    def clip_image(self) -> ImageTower:
        network: ImageTower = self._load("clip_image")
        return network

    @cached_property
    def sync(self) -> SynchformerVisual:
        network: SynchformerVisual = self._load("sync")
        return network

    @cached_property
    def vae(self) -> Vae:
        network: Vae = self._load("vae")
        return network

    @cached_property
    def vocoder(self) -> Vocoder:
        network: Vocoder = self._load("vocoder")
        return network

    def parts(self) -> dict[str, nn.Module]:
        """Return what is in memory, by part."""
        return {part: self.__dict__[part] for part in PARTS if part in self.__dict__}


SharedParts = WeakValueDictionary[Hashable, nn.Module]
"""Networks on one device, in one dtype, that several variants have in common; each lives as long as one of them."""


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
        parts: what is loaded now; the rest is loaded when it is first used.
        on_part: told the name of each part before it is loaded.
        shared: what other variants on this device have loaded; parts that are the same are taken from there.

    Raises:
        WeightsMissingError: a file is not there, whether it is read now or later.
        WeightsMismatchError: a file does not hold the tensors that the network needs.
    """
    sources = part_sources(variant)
    # Every file is looked for before the first is read: a missing one is said at once.
    if variant.bundled:
        paths = {part: bundled_file(variant, part, weights_dir) for part in PARTS}
    else:
        paths = {part: require_file(source.file, variant, weights_dir) for part, source in sources.items()}

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
        # A part may be asked for first in the middle of an inference, whose mode would stick to its tensors.
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
    """Return a part of a variant of our own from its file.

    Raises:
        WeightsMismatchError: the file does not fit.
    """
    network = new_network(variant, part, device="meta")
    fill(network, read_part(path), source=str(path))
    _fold(network)
    return network


def load_part(variant: Variant, part: str, source: PartSource, path: Path) -> nn.Module:
    """Return a part filled from its file, by way of the converted one, which is made if it is not there.

    Raises:
        WeightsMismatchError: the file does not hold the tensors that the network needs.
    """
    converted = converted_path(path, part)
    network = _from_converted(variant, part, converted)
    if network is not None:
        return network
    with conversion(converted):
        network = _from_converted(variant, part, converted)  # another process may have made it meanwhile
        if network is not None:
            return network
        network = new_network(variant, part, device="meta")
        fill_from_file(network, source, path)
        _fold(network)
        if not write_converted(converted, network.state_dict()):
            return network
    # Mapped tensors are shared between processes, and the system may drop them; the ones just made are neither.
    return _from_converted(variant, part, converted) or network


def fill_from_file(module: nn.Module, source: PartSource, path: Path) -> None:
    """Fill a network on `meta` with the tensors of a published file.

    Raises:
        WeightsMismatchError: the file is no checkpoint, or keys are missing, unknown, or of another shape.
    """
    try:
        # The oldest checkpoints are no zip archives; torch cannot map those.
        content = torch.load(path, map_location="cpu", mmap=is_zipfile(path), weights_only=True)
    except (RuntimeError, UnpicklingError, EOFError, ValueError) as exc:
        raise WeightsMismatchError(
            f"{path} cannot be read as a checkpoint: {exc}. It may be cut off; see: mmaudio weights verify"
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
    except RuntimeError as exc:  # torch says a wrong shape so
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
        log.warning("%s It is made again.", exc)
        return None
    return network


def _fold(network: nn.Module) -> None:
    if isinstance(network, Vae | Vocoder):
        network.fold_weights()


def _some(keys: Any) -> str:
    names = sorted(keys)
    more = f" and {len(names) - SHOWN_KEYS} more" if len(names) > SHOWN_KEYS else ""
    return (", ".join(names[:SHOWN_KEYS]) or "nothing") + more
