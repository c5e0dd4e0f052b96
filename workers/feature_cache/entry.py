"""The cached features of one input: their key, their file format, and the object that running jobs share.

A file is the SHA-256 of its payload followed by the payload, a safetensors file. Nothing in it can be executed, and the
hash detects damage on disk or in transit.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

import safetensors.torch
from torch import Tensor

from mmaudio_model.media.frames import ImageFrame, VideoFrames

DIGEST_BYTES = 32


class DamagedEntryError(ValueError):
    """Raised when a cached file is not what was written."""


@dataclass(eq=False)
class Entry:
    """The features of one input (a stretch of a video, an image, a text). Running jobs with the same input share it.

    Attributes:
        tensors: features by name, in host memory; empty until they are computed or found.
        facts: other properties of the input (duration of the stretch, warnings); JSON.
        video, image: the decoded frames, from one of the jobs, so that the device encodes them once for all of them.
        stored: the cache has it, or is about to write it.
    """

    key: str
    tensors: dict[str, Tensor] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    video: VideoFrames | None = None
    image: ImageFrame | None = None
    stored: bool = False

    def set_tensors(self, **tensors: Tensor | None) -> None:
        """Set what the device has encoded; does nothing when the entry already has tensors."""
        if not self.tensors:
            self.tensors = {name: value for name, value in tensors.items() if value is not None}

    def to_bytes(self) -> bytes:
        """Return the content of the file."""
        metadata = {"key": self.key, "facts": json.dumps(self.facts)}
        # safetensors refuses a tensor that is a view of a larger one.
        payload = safetensors.torch.save({name: value.clone() for name, value in self.tensors.items()}, metadata)
        return hashlib.sha256(payload).digest() + payload

    def load(self, content: bytes) -> None:
        """Set tensors and facts from the content of a file.

        Raises:
            DamagedEntryError: the content is damaged or belongs to another key.
        """
        payload = content[DIGEST_BYTES:]
        if hashlib.sha256(payload).digest() != content[:DIGEST_BYTES]:
            raise DamagedEntryError(
                f"The cached features of {self.key} are damaged: the hash of {len(content)} bytes differs."
            )
        length = int.from_bytes(payload[:8], "little")
        metadata = json.loads(payload[8 : 8 + length])["__metadata__"]
        if metadata["key"] != self.key:
            raise DamagedEntryError(f"The cache file of {self.key} holds the features of {metadata['key']}.")
        # Copies, because sums over a tensor at an unaligned address are rounded in another order.
        tensors = {name: value.clone() for name, value in safetensors.torch.load(payload).items()}
        self.tensors, self.facts, self.stored = tensors, json.loads(metadata["facts"]), True


def entry_key(**inputs: str | float | bool | None) -> str:
    """Return the key of an input's features: a hash of everything that they depend on, and of their tenant."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()
