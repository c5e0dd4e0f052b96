"""How the decoded picture has to be turned and mirrored to be seen upright."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame

_MATRIX = struct.Struct("=9i")


@dataclass(frozen=True)
class Orientation:
    """First mirrored left to right, then turned counter-clockwise by quarters."""

    mirrored: bool = False
    quarters: int = 0

    def applied(self, pixels: np.ndarray) -> np.ndarray:
        """Return an upright view of a picture (H, W) or (H, W, 3)."""
        if self.mirrored:
            pixels = pixels[:, ::-1]
        turned: np.ndarray = np.rot90(pixels, self.quarters) if self.quarters else pixels
        return turned

    def matrix(self) -> np.ndarray:
        """Return where x and y of the decoded picture go, as rows, with y downwards; float (2, 2)."""
        quarter = np.array([[0, -1], [1, 0]])  # to the right goes up, down goes to the right
        mirror = np.array([[-1 if self.mirrored else 1, 0], [0, 1]])
        turned: np.ndarray = mirror @ np.linalg.matrix_power(quarter, self.quarters)
        return turned


ALL = tuple(Orientation(mirrored, quarters) for mirrored, quarters in product((False, True), range(4)))


def orientation(frame: VideoFrame) -> Orientation:
    """Return the orientation that the display matrix asks for: of an odd angle, the nearest quarter turn."""
    # FFmpeg copies a stream's matrix to each frame, whatever decodes it, unless the frame has one of its own.
    entries: Any = frame.side_data  # by type, whatever the annotation says
    try:
        side_data = entries[Type.DISPLAYMATRIX]
    except KeyError:
        return Orientation()
    if side_data.buffer_size < _MATRIX.size:
        return Orientation()
    a, b, _, c, d, *_ = _MATRIX.unpack(bytes(side_data)[: _MATRIX.size])
    wanted = np.array([[a, b], [c, d]], dtype=float)
    if not abs(np.linalg.det(wanted)) > 0:
        return Orientation()
    mirrored = bool(np.linalg.det(wanted) < 0)
    return max(
        (candidate for candidate in ALL if candidate.mirrored == mirrored),
        key=lambda candidate: float((candidate.matrix() * wanted).sum()),
    )
