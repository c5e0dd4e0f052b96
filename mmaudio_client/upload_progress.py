"""How transfers tell how far they are."""

from __future__ import annotations

from collections.abc import Callable

CHUNK_BYTES = 256 * 1024
"""How much is read, sent and received at a time."""
Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes in total)."""
