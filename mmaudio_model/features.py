"""What the encoders make of a request: features that depend on its input alone, so they can be kept and used again."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mmaudio_model.checkpoints.bundled import bundled_file
from mmaudio_model.checkpoints.files import require_file
from mmaudio_model.checkpoints.parts import part_sources
from mmaudio_model.variants import CLIP_FPS, SYNC_FPS, Variant

FORMAT = 1
"""Counted up when the same input and weights would give other features, so that kept ones are not used any more."""
VISUAL_PARTS = ("clip_image", "sync")
TEXT_PARTS = ("clip_text",)
SAMPLES, SAMPLE_BYTES = 64, 64 * 1024


@dataclass(frozen=True)
class Features:
    """One request's features; None is what is not known yet, or what the request does not have.

    Attributes:
        clip: (T, clip_dim), or (1, clip_dim) of a still picture.
        sync: (S, sync_dim).
        text, negative_text: (77, text_dim).
    """

    clip: Tensor | None = None
    sync: Tensor | None = None
    text: Tensor | None = None
    negative_text: Tensor | None = None

    def cpu(self) -> Features:
        """Return them in the machine's memory."""
        return Features(*(None if value is None else value.cpu() for value in vars(self).values()))


NOTHING_ENCODED = Features()


def encoder_revision(
    variant: Variant, parts: tuple[str, ...], *, weights_dir: Path | None, device: str, precision: str
) -> str:
    """Return a text that is the same only where the same input gives the same features, bit by bit.

    Args:
        parts: `VISUAL_PARTS` or `TEXT_PARTS`. Variants that share them share a revision.

    Raises:
        WeightsMissingError: a file is not there.
    """
    sources = part_sources(variant)
    said = [str(FORMAT), torch.__version__, _arithmetic(device), precision, f"{CLIP_FPS} {SYNC_FPS}"]
    for part in parts:
        said += [part, repr(variant.sync if part == "sync" else variant.clip)]
        if variant.bundled:
            path = bundled_file(variant, part, weights_dir)
        else:
            path = require_file(sources[part].file, variant, weights_dir)
        said.append(_fingerprint(path))
    return hashlib.sha256("\n".join(said).encode()).hexdigest()[:32]


def _arithmetic(device: str) -> str:
    """Name the kernels that compute: other ones round otherwise."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return f"cpu {torch.backends.cpu.get_cpu_capability()} {torch.get_num_threads()}"


def _fingerprint(path: Path) -> str:
    """Tell a file from others by its size and samples from all over it: another training changes nearly every byte."""
    size_bytes = path.stat().st_size
    digest = hashlib.sha256(str(size_bytes).encode())
    with path.open("rb") as content:
        for sample in range(SAMPLES):
            content.seek(max(0, size_bytes - SAMPLE_BYTES) * sample // (SAMPLES - 1))
            digest.update(content.read(SAMPLE_BYTES))
    return digest.hexdigest()
