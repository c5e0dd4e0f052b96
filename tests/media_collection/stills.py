"""Still pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

from tests.media_collection.kind import Kind
from tests.media_collection.pictures import numbered
from tests.media_collection.still_pictures import STILL, encoded, jpeg
from tests.media_collection.stored import stored

# What EXIF's orientation tells a viewer to do, undone.
STORED = {
    1: lambda shown: shown,
    2: lambda shown: shown[:, ::-1],
    3: lambda shown: shown[::-1, ::-1],
    4: lambda shown: shown[::-1],
    5: lambda shown: shown.swapaxes(0, 1),
    6: lambda shown: np.rot90(shown, 1),
    7: lambda shown: shown[::-1, ::-1].swapaxes(0, 1),
    8: lambda shown: np.rot90(shown, -1),
}


def turned(orientation: int) -> Callable[[Path], None]:
    """Return a maker of a JPEG with that orientation in its EXIF data."""

    def make(path: Path) -> None:
        picture = Image.fromarray(np.ascontiguousarray(STORED[orientation](numbered(STILL, 96, 64))))
        exif = Image.Exif()
        exif[0x0112] = orientation
        path.write_bytes(encoded(picture, "JPEG", quality=95, exif=exif))

    return make


def huge(path: Path) -> None:
    """48 megapixels, as phones take them; grey, so that it is small."""
    small = Image.fromarray(numbered(STILL, 96, 72)).convert("L")
    path.write_bytes(encoded(small.resize((8064, 6048), Image.Resampling.NEAREST), "JPEG", quality=60))


def cmyk(path: Path) -> None:
    path.write_bytes(encoded(Image.fromarray(numbered(STILL, 96, 64)).convert("CMYK"), "JPEG", quality=95))


def wide_colours(path: Path) -> None:
    """A profile that is not sRGB; what it says is not applied twice."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    path.write_bytes(encoded(Image.fromarray(numbered(STILL, 96, 64)), "PNG", icc_profile=profile))


def png_alpha(path: Path) -> None:
    path.write_bytes(encoded(Image.fromarray(numbered(STILL, 96, 64)).convert("RGBA"), "PNG"))


def png_16(path: Path) -> None:
    grey = numbered(STILL, 96, 64)[..., 0].astype(np.uint16) * 257
    path.write_bytes(encoded(Image.fromarray(grey), "PNG"))


def webp(path: Path) -> None:
    path.write_bytes(encoded(Image.fromarray(numbered(STILL, 96, 64)), "WEBP", quality=95))


def tiff(path: Path) -> None:
    path.write_bytes(encoded(Image.fromarray(numbered(STILL, 96, 64)), "TIFF", compression="tiff_lzw"))


def bmp(path: Path) -> None:
    path.write_bytes(encoded(Image.fromarray(numbered(STILL, 96, 64)), "BMP"))


def avif(path: Path) -> None:
    path.write_bytes(encoded(Image.fromarray(numbered(STILL, 96, 64)), "AVIF", quality=90))


def plain_jpeg(path: Path) -> None:
    path.write_bytes(jpeg(96, 64, quality=95, progressive=True))


KINDS = (
    *(
        Kind(f"exif-orientation-{orientation}.jpg", "phone, JPEG", turned(orientation), still=True)
        for orientation in STORED
    ),
    Kind("progressive.jpg", "web, JPEG", plain_jpeg, still=True),
    Kind("48-megapixels.jpg", "phone, 48 megapixels", huge, still=True, size=(96, 72)),
    Kind("cmyk.jpg", "print, CMYK", cmyk, still=True),
    Kind("profile.png", "graphics program, colour profile", wide_colours, still=True),
    Kind("transparent.png", "graphics program, transparency", png_alpha, still=True),
    Kind("grey-16-bit.png", "scanner, 16 bit", png_16, still=True),
    Kind("still.webp", "web, WebP", webp, still=True),
    Kind("still.tiff", "scanner, TIFF", tiff, still=True),
    Kind("still.bmp", "Windows, BMP", bmp, still=True),
    Kind("still.avif", "web, AVIF", avif, still=True),
    Kind("iphone.heic", "iPhone, HEIC", lambda path: stored("iphone.heic", path), still=True),
)
