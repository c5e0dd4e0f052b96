"""Limits of one media process. The time limits follow the work: pixels of the source times frames of the section."""

from __future__ import annotations

from dataclasses import dataclass

from mmaudio_model.media.probe import MediaLimits
from mmaudio_model.media.source_facts import SourceFacts

# Of a decoder and of an encoder (H.264, HEVC) that share a slow core with other processes; a quarter of what is usual.
READ_PIXELS_PER_S = 40e6
ENCODE_PIXELS_PER_S = 8e6
# A section begins between two key frames; this many seconds before it are decoded as well.
LEAD_S = 10.0
MIB = 1024**2
TOO_LITTLE_MEMORY = "needs more memory than is allowed."


@dataclass(frozen=True)
class SandboxLimits:
    """Resource limits of one process: bytes, seconds of CPU, seconds of wall time.

    Attributes:
        cpu_s, wall_s: for a source of which little is read; more work gets more, both in the same ratio.
        max_wall_s: the most that any work gets.
    """

    memory_bytes: int = 3 * 1024**3
    cpu_s: int = 240
    wall_s: float = 120.0
    max_wall_s: float = 900.0
    file_bytes: int = 8 * 1024**3
    array_bytes: int = 512 * MIB

    def time_for(self, pixels: float, *, pixels_per_s: float) -> float:
        """Return the wall time for decoding (and encoding) so many pixels."""
        return min(max(self.max_wall_s, self.wall_s), self.wall_s + pixels / pixels_per_s)

    def cpu_for(self, wall_s: float) -> int:
        """Return the processor time that belongs to a wall time."""
        return max(1, round(self.cpu_s * wall_s / self.wall_s))

    @property
    def memory_exceeded(self) -> str:
        """The message for a file that needs more memory."""
        return self.with_setting(f"Reading the file {TOO_LITTLE_MEMORY}")

    def with_setting(self, message: str) -> str:
        """Return a message of the media functions, which know nothing of settings, with the limit and its setting."""
        if not message.endswith(TOO_LITTLE_MEMORY):
            return message
        return (
            f"{message.removesuffix(TOO_LITTLE_MEMORY)}needs more memory than the allowed "
            f"{self.memory_bytes // MIB} MiB; give a smaller picture, or ask the operator for more "
            "(MMAUDIO_DECODE_MEMORY_BYTES)."
        )


def section_pixels(source: SourceFacts, start_s: float, duration_s: float, limits: MediaLimits) -> float:
    """Return how many pixels of a source are decoded for a section."""
    frames = (min(start_s, LEAD_S) + duration_s) * source.frame_rate
    return min(source.pixels * min(frames, limits.max_decoded_frames), limits.max_decoded_pixels)
