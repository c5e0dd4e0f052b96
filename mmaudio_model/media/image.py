"""A still picture as input (image-to-audio)."""

from __future__ import annotations

import warnings
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from mmaudio_model.errors import MediaInvalidError, MediaTooLargeError
from mmaudio_model.media.frames import ImageFrame
from mmaudio_model.media.probe import MediaLimits, too_many_pixels
from mmaudio_model.media.resizing import Resize, pillow_resize, stretch

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")


def read_image(file: BinaryIO, *, clip_size: int, limits: MediaLimits, resize: Resize = pillow_resize) -> ImageFrame:
    """Read a picture of any colour mode, with EXIF orientation applied and transparency on white.

    Raises:
        MediaInvalidError: not a readable picture.
        MediaTooLargeError: it has too many pixels; checked before decoding.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is checked below
            picture: Image.Image = Image.open(file, formats=FORMATS)
            width, height = picture.size
            if width * height > limits.max_pixels:
                raise MediaTooLargeError(too_many_pixels(width, height, limits))
            picture = ImageOps.exif_transpose(picture)
            if picture.mode.startswith("I;16"):  # Pillow's own conversion clips at 255
                picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
            if "A" in picture.getbands() or "transparency" in picture.info:
                layered = picture.convert("RGBA")
                picture = Image.alpha_composite(Image.new("RGBA", layered.size, "white"), layered)
            pixels = np.asarray(picture.convert("RGB"))
    except Image.DecompressionBombError as exc:
        raise MediaTooLargeError("The picture has too many pixels.") from exc
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as exc:
        raise MediaInvalidError(
            "The file is not a readable picture; supported are PNG, JPEG, WebP, BMP, TIFF and GIF."
        ) from exc
    return ImageFrame(clip=stretch(pixels, clip_size, resize)[None])
