"""Pictures that show their number, upright in a player whatever the turn of the stored picture."""

from __future__ import annotations

import numpy as np

BITS = 8


def numbered(number: int, width: int, height: int, *, turn: int = 0, mirrored: bool = False) -> np.ndarray:
    """Return a stored picture, uint8 (height, width, 3), that shows a number below 256 as eight bars.

    The bars fill the centre square and are tinted; the rest is a grey ramp, so that mirroring can be seen.

    Args:
        turn: degrees that a player turns it, counter-clockwise; the bars are upright after it.
        mirrored: the player also mirrors it, left to right, before it turns it.
    """
    shown_width, shown_height = (height, width) if turn % 180 else (width, height)
    ramp = np.linspace(40, 200, shown_width).astype(np.uint8)
    shown = np.repeat(np.broadcast_to(ramp, (shown_height, shown_width))[..., None], 3, axis=2).copy()
    side = min(shown_width, shown_height)
    left, top = (shown_width - side) // 2, (shown_height - side) // 2
    bars = np.array([number >> bit & 1 for bit in range(BITS)])[np.arange(side) * BITS // side]
    shown[top : top + side, left : left + side] = np.where(bars[None, :, None], (235, 225, 215), (25, 30, 40))
    stored = np.rot90(shown, -(turn // 90))
    return np.ascontiguousarray(stored[:, ::-1] if mirrored else stored)


def number_in(picture: np.ndarray) -> int:
    """Read the number out of the centre square of a shown picture, uint8 (H, W, 3 or 4)."""
    height, width = picture.shape[:2]
    side = min(height, width)
    left, row = (width - side) // 2, picture[height // 2 - 2 : height // 2 + 2, :, :3].astype(float).mean(axis=(0, 2))
    places = [left + (2 * bit + 1) * side // (2 * BITS) for bit in range(BITS)]
    return sum(1 << bit for bit, place in enumerate(places) if row[place] > 127)


def upright(picture: np.ndarray, matrix: tuple[int, int, int, int]) -> np.ndarray:
    """Return a decoded picture as a player shows it.

    Args:
        matrix: the signs of a, b, c, d of the display matrix; (1, 0, 0, 1) changes nothing.
    """
    a, b, c, d = matrix
    if a or d:
        return np.ascontiguousarray(picture[:: d or 1, :: a or 1])
    # x' = c*y, y' = b*x: transpose, then flip.
    return np.ascontiguousarray(picture.swapaxes(0, 1)[::b, ::c])


def number_in_stretched(picture: np.ndarray, width: int, height: int) -> int:
    """Read the number out of a square that a picture of this size was stretched to."""
    side = picture.shape[0]
    rows, columns = np.arange(height) * side // height, np.arange(width) * side // width
    return number_in(picture[rows][:, columns])
