"""Intermediate tensors of a generation, recorded for comparison (`mmaudio generate --dump-intermediates`)."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

IntermediateCallback = Callable[[str, Tensor], None]
"""Called with the name and the value of an intermediate tensor, for one request of the batch."""


class IntermediateRecorder:
    """Records each request's intermediate tensors by name, as float32 arrays.

    - `clip_frames` (T, 3, H, W) in [0, 1], `sync_frames` (F, 3, H, W) in [-1, 1]
    - `clip_features`, `sync_features`, `text_features`, `negative_text_features`: (tokens, width); one CLIP feature for
      an image; absent if not encoded
    - `noise`, `latent` (N, C): start and end of the flow; `latent_denormalised` (N, C): input of the VAE
    - `mel` (bands, frames), `waveform` (samples,)
    """

    def __init__(self) -> None:
        self._kept: dict[str, list[np.ndarray]] = {}

    def __call__(self, name: str, value: Tensor) -> None:
        self._kept.setdefault(name, []).append(value.detach().float().cpu().numpy())

    def arrays(self) -> dict[str, np.ndarray]:
        """Return float32 arrays by name, batch first."""
        return {name: np.stack(values) for name, values in self._kept.items()}

    def save(self, path: Path) -> None:
        """Write the arrays as one npz file; the file appears only when complete.

        Raises:
            OSError: the file cannot be written.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".intermediates-") as folder:
            draft = Path(folder) / "intermediates.npz"
            arrays: dict[str, Any] = {**self.arrays()}
            np.savez(draft, **arrays)
            draft.replace(path)
