"""What every stage of a generation gave, kept to be compared (`mmaudio generate --dump-intermediates`)."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from torch import Tensor

IntermediateCallback = Callable[[str, Tensor], None]
"""Told the name of a stage's result and its value for one request of the batch."""


class IntermediateRecorder:
    """Keeps each request's results by name; `mmaudio_model.pipeline` says which there are.

    - `clip_frames` (T, 3, H, W) in [0, 1], `sync_frames` (F, 3, H, W) in [-1, 1]
    - `clip_features`, `sync_features`, `text_features`, `negative_text_features`: (tokens, width); one CLIP feature for
      an image; none of what was not encoded
    - `noise`, `latent` (N, C): where the flow begins and ends; `latent_denormalised` is what the VAE decodes
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
        """Write them as one npz file; a half written one never has the name.

        Raises:
            OSError: it cannot be written.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".intermediates-") as folder:
            draft = Path(folder) / "intermediates.npz"
            np.savez(draft, **self.arrays())
            draft.replace(path)
