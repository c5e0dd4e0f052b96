"""Encoder features of a request. They depend only on its inputs, so they can be cached and reused."""

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
"""Incremented when the same input and weights give other features, which invalidates cached ones."""
VISUAL_PARTS = ("clip_image", "sync")
TEXT_PARTS = ("clip_text",)
SAMPLES, SAMPLE_BYTES = 64, 64 * 1024


@dataclass(frozen=True)
class Features:
    """One request's features; None where not computed yet, or where the request has no such input.

    Attributes:
        clip: (T, clip_dim), or (1, clip_dim) for a still picture.
        sync: (S, sync_dim).
        text, negative_text: (77, text_dim).
    """

    clip: Tensor | None = None
    sync: Tensor | None = None
    text: Tensor | None = None
    negative_text: Tensor | None = None

    def cpu(self) -> Features:
        """Return a copy in CPU memory."""
        return Features(*(None if value is None else value.cpu() for value in vars(self).values()))


NOTHING_ENCODED = Features()


def encoder_revision(
    variant: Variant, parts: tuple[str, ...], *, weights_dir: Path | None, device: str, precision: str
) -> str:
    """Return a cache key: equal only where the same input gives bit-identical features.

    Args:
        parts: `VISUAL_PARTS` or `TEXT_PARTS`. Variants that share them have equal keys.

    Raises:
        WeightsMissingError: a file is missing.
    """
    sources = part_sources(variant)
    identity = [str(FORMAT), torch.__version__, _arithmetic(device), precision, f"{CLIP_FPS} {SYNC_FPS}"]
    for part in parts:
        identity += [part, repr(variant.sync if part == "sync" else variant.clip)]
        if variant.bundled:
            path = bundled_file(variant, part, weights_dir)
        else:
            path = require_file(sources[part].file, variant, weights_dir)
        identity.append(_fingerprint(path))
    return hashlib.sha256("\n".join(identity).encode()).hexdigest()[:32]


def _arithmetic(device: str) -> str:
    """Return the name of the arithmetic in use, since other kernels round differently."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return f"cpu {torch.backends.cpu.get_cpu_capability()} {torch.get_num_threads()}"


def _fingerprint(path: Path) -> str:
    """Return a digest of a file's size and of samples spread over it; retraining changes nearly every byte."""
    size_bytes = path.stat().st_size
    digest = hashlib.sha256(str(size_bytes).encode())
    with path.open("rb") as content:
        for sample in range(SAMPLES):
            content.seek(max(0, size_bytes - SAMPLE_BYTES) * sample // (SAMPLES - 1))
            digest.update(content.read(SAMPLE_BYTES))
    return digest.hexdigest()
