"""Still pictures of every colour mode and format."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mmaudio_model.errors import MediaInvalidError, MediaTooLargeError
from mmaudio_model.media.image import read_image
from mmaudio_model.media.picture_file import FORMATS
from mmaudio_model.media.probe import MediaLimits

SIZE = 32
RED = (220, 30, 30)


def encoded(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def read(content: bytes, limits: MediaLimits | None = None) -> np.ndarray:
    frame = read_image(io.BytesIO(content), clip_size=SIZE, limits=limits or MediaLimits())
    assert frame.clip.shape == (1, SIZE, SIZE, 3)
    assert frame.clip.dtype == np.uint8
    return frame.clip[0]


@pytest.mark.parametrize("kind", sorted({*FORMATS} - {"HEIF"}))
def test_every_format_is_read_in_its_colours(kind: str) -> None:
    pixels = read(encoded(Image.new("RGB", (48, 24), RED), kind))

    assert np.abs(pixels.astype(int) - RED).max() <= 6


@pytest.mark.parametrize(
    ("mode", "colour", "seen"),
    [
        ("L", 100, (100, 100, 100)),
        ("1", 1, (255, 255, 255)),
        ("LA", (100, 255), (100, 100, 100)),
        ("LA", (100, 0), (255, 255, 255)),
        ("RGBA", (*RED, 255), RED),
        ("RGBA", (*RED, 0), (255, 255, 255)),
        ("RGBA", (0, 0, 0, 128), (127, 127, 127)),
        ("I;16", 100 * 257, (100, 100, 100)),
        ("I;16", 65535, (255, 255, 255)),
    ],
)
def test_every_colour_mode_is_read_and_what_is_transparent_becomes_white(
    mode: str, colour: Any, seen: tuple[int, int, int]
) -> None:
    pixels = read(encoded(Image.new(mode, (40, 40), colour)))

    assert np.abs(pixels.astype(int) - seen).max() <= 1


def test_a_palette_with_a_transparent_colour_is_laid_on_white() -> None:
    palette = Image.new("P", (40, 40), 1)
    palette.putpalette([0, 0, 0, *RED])

    assert (read(encoded(palette)) == RED).all()
    assert (read(encoded(palette, transparency=1)) == 255).all()


def test_a_printers_jpeg_is_read() -> None:
    pixels = read(encoded(Image.new("CMYK", (40, 40), (0, 255, 255, 0)), "JPEG"))

    assert pixels[..., 0].min() > 180
    assert pixels[..., 1:].max() < 60


@pytest.mark.parametrize(("orientation", "top"), [(1, "red"), (3, "blue"), (6, "left is up"), (8, "right is up")])
def test_a_picture_is_turned_as_its_exif_data_say(orientation: int, top: str) -> None:
    upper_red = Image.new("RGB", (64, 64), (30, 30, 220))
    upper_red.paste(RED, (0, 0, 64, 32))
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = read(encoded(upper_red, "JPEG", quality=95, exif=exif))

    red_side = {
        "red": pixels[4, 16],
        "blue": pixels[28, 16],
        "left is up": pixels[16, 28],
        "right is up": pixels[16, 4],
    }
    assert np.abs(red_side[top].astype(int) - RED).max() < 30


def test_too_many_pixels_are_refused_and_as_many_as_allowed_are_not() -> None:
    content = encoded(Image.new("RGB", (40, 30)))

    read(content, MediaLimits(max_image_pixels=1200))
    with pytest.raises(MediaTooLargeError, match="40x30 pixels"):
        read(content, MediaLimits(max_image_pixels=1199))


@pytest.mark.parametrize("side", [10_955, 12_000, 32_766])
def test_a_picture_that_claims_too_many_pixels_is_refused_before_it_is_decoded(side: int) -> None:
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    claim = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))

    with pytest.raises(MediaTooLargeError, match="pixels"):
        read(claim + struct.pack(">I", 0) + b"IDAT")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"plain text",
        bytes(1000),
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        encoded(Image.effect_noise((64, 64), 50))[:900],
        encoded(Image.effect_noise((64, 64), 50), "JPEG")[:100],
    ],
    ids=["empty", "text", "zeros", "svg", "postscript", "cut-off png", "cut-off jpeg"],
)
def test_what_is_no_whole_picture_is_refused_with_what_can_be_read(content: bytes) -> None:
    with pytest.raises(
        MediaInvalidError, match=r"not a readable picture; supported are PNG, JPEG, WebP, BMP, TIFF, GIF, HEIC and AVIF"
    ):
        read(content)
