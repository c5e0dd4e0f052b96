"""Resizes pictures to the encoders' square inputs, by 8-bit bicubic interpolation with antialiasing.

Two implementations differ by at most one level: Pillow, which needs no torch (untrusted files are read in processes
without it), and torch's kernel, which the published program uses. Whatever one result is compared with must be read
with the same one.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

Window = tuple[int, int, int, int]
"""Top, left, height and width of a part of the resized picture, in its pixels."""
Resize = Callable[[np.ndarray, tuple[int, int], Window], np.ndarray]
"""Resizes an RGB picture, uint8 (H, W, 3), to (height, width) and returns the window of the result."""


def stretch(picture: np.ndarray, size: int, resize: Resize) -> np.ndarray:
    """Resize to a square, ignoring the aspect ratio."""
    return resize(picture, (size, size), (0, 0, size, size))


def crop(picture: np.ndarray, size: int, resize: Resize) -> np.ndarray:
    """Resize the shorter side to `size` and crop the centre square."""
    height, width = picture.shape[:2]
    return resize(picture, *crop_window((height, width), size))


def crop_window(sides: tuple[int, int], size: int) -> tuple[tuple[int, int], Window]:
    """Return the resized height and width of a picture whose shorter side becomes `size`, and its centre square."""
    height, width = (size * side // min(sides) for side in sides)
    return (height, width), (round((height - size) / 2), round((width - size) / 2), size, size)


def pillow_resize(picture: np.ndarray, shape: tuple[int, int], window: Window) -> np.ndarray:
    """Resize with Pillow; only the window is computed."""
    (full_height, full_width), (top, left, height, width) = picture.shape[:2], window
    y, x = full_height / shape[0], full_width / shape[1]
    # Rounding must not extend the box beyond the picture.
    box = (left * x, top * y, min((left + width) * x, full_width), min((top + height) * y, full_height))
    image = Image.fromarray(np.ascontiguousarray(picture))
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC, box=box))


def torch_resize(picture: np.ndarray, shape: tuple[int, int], window: Window) -> np.ndarray:
    """Resize with torch's own 8-bit kernel."""
    import torch
    from torch.nn.functional import interpolate

    top, left, height, width = window
    pixels = torch.from_numpy(np.array(picture, order="C")).permute(2, 0, 1)[None]
    resized = interpolate(pixels, size=shape, mode="bicubic", antialias=True, align_corners=False)
    return resized[0, :, top : top + height, left : left + width].permute(1, 2, 0).contiguous().numpy()
