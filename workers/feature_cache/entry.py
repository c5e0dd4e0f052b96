"""One input's features: how they are named, kept in a file, and shared by the jobs that are in hand.

A file is its payload's SHA-256 and the payload, a safetensors file. Nothing in it can run anything, and what was
damaged on a disk or on its way is known by the hash.
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
    """Raised when a kept file is not what was written."""


@dataclass(eq=False)
class Entry:
    """What is known of one input (a stretch of a video, a picture, a text). Jobs in hand that have it share the object.

    Attributes:
        tensors: features by name, in the machine's memory; none until they are known.
        facts: what else the input said (how long the stretch is, what to warn of); JSON.
        frames: what was decoded, of one of the jobs, so that the device encodes it once for all of them.
        kept: it lies in the cache already.
    """

    key: str
    tensors: dict[str, Tensor] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    frames: VideoFrames | ImageFrame | None = None
    kept: bool = False

    def learn(self, **tensors: Tensor | None) -> None:
        """Remember what the device has encoded; the first to know it counts."""
        if not self.tensors:
            self.tensors = {name: value for name, value in tensors.items() if value is not None}

    def to_bytes(self) -> bytes:
        """Return what is kept in a file."""
        about = {"key": self.key, "facts": json.dumps(self.facts)}
        # A feature may be a part of a larger tensor, which safetensors refuses.
        payload = safetensors.torch.save({name: value.clone() for name, value in self.tensors.items()}, about)
        return hashlib.sha256(payload).digest() + payload

    def fill(self, content: bytes) -> None:
        """Take over what a file holds.

        Raises:
            DamagedEntryError: it is not what was written, or belongs to another key.
        """
        payload = content[DIGEST_BYTES:]
        if hashlib.sha256(payload).digest() != content[:DIGEST_BYTES]:
            raise DamagedEntryError(f"The features of {self.key} are damaged: {len(content)} bytes of another hash.")
        length = int.from_bytes(payload[:8], "little")
        about = json.loads(payload[8 : 8 + length])["__metadata__"]
        if about["key"] != self.key:
            raise DamagedEntryError(f"The file of {self.key} holds the features of {about['key']}.")
        # Copies, because a tensor at an odd address is summed in another order.
        tensors = {name: value.clone() for name, value in safetensors.torch.load(payload).items()}
        self.tensors, self.facts, self.kept = tensors, json.loads(about["facts"]), True


def entry_key(**about: str | float | bool | None) -> str:
    """Return the name of an input's features: a hash of everything that they depend on, and of whose they are."""
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
