"""What a network of somebody else must give so that a metric of the field can be computed on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import numpy as np

CLIP_S = 8.0
"""So much of each file is judged, from its beginning, as av-benchmark does."""


class SoundNetwork(Protocol):
    """Says what a sound is: for the Fréchet distance, KL and the inception score."""

    sample_rate_hz: int

    def describe(self, waveform: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the embedding (D,) and the class logits (classes,) of a mono waveform (samples,)."""
        ...


class TextSoundNetwork(Protocol):
    """Puts sounds and words into one space."""

    sample_rate_hz: int

    def embed_sound(self, waveform: np.ndarray) -> np.ndarray:
        """Return the embedding (D,) of a mono waveform (samples,)."""
        ...

    def embed_text(self, caption: str) -> np.ndarray:
        """Return the embedding (D,) of a caption."""
        ...


class VideoSoundNetwork(Protocol):
    """Puts sounds and videos into one space."""

    sample_rate_hz: int

    def embed_sound(self, waveform: np.ndarray) -> np.ndarray:
        """Return the embedding (D,) of a mono waveform (samples,)."""
        ...

    def embed_video(self, video: Path) -> np.ndarray:
        """Return the embedding (D,) of a video file's pictures."""
        ...


class SyncNetwork(Protocol):
    """Says how far sound and picture are apart."""

    sample_rate_hz: int

    def offset_logits(self, video: Path, waveform: np.ndarray) -> np.ndarray:
        """Return logits (stretches, offsets) over the offsets of `formulas.OFFSETS_S`."""
        ...


Network = TypeVar("Network", covariant=True)


@dataclass(frozen=True)
class Adapter(Generic[Network]):
    """How to find a network and to ask it.

    Attributes:
        name: as in the metrics' names, such as `fd_panns`.
        package: the module that must be importable; it is looked for and not imported until all is there.
        install: what to install for it, for people.
        files: what must be in the folder of weights, files or folders.
        load: makes the network of that folder.
        unready: says what else is missing, in a sentence, or None.
    """

    name: str
    package: str
    install: str
    files: tuple[str, ...]
    load: Callable[[Path], Network]
    unready: Callable[[], str | None] = lambda: None
