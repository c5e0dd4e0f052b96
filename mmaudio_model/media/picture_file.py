"""Opens still pictures from strangers: which formats, how large, and how they are decoded within a bounded memory.

Only the formats listed here are tried, by content and not by name. The size is checked before a pixel is decoded. A
large JPEG is decoded at a fraction of its size.
"""

from __future__ import annotations

import ctypes
import struct
import zlib
from typing import TYPE_CHECKING, BinaryIO

import _pi_heif
import pi_heif

# Imported by name: Pillow would look for its plugins only when a file is opened, which a confined process cannot do.
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from mmaudio_model.errors import MediaTooLargeError

if TYPE_CHECKING:  # `probe` imports this module
    from mmaudio_model.media.probe import MediaLimits

PLUGINS = (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)
# AVIF before HEIF: both accept the brand `mif1`, and only Pillow's own plugin decodes AV1.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "AVIF", "HEIF")
# Pictures up to this size are decoded whole and resized once.
WHOLE_PIXELS = 4096 * 2304
# A larger JPEG is decoded at a reduced size, at least so many times the wanted one. Photographs then differ by at most
# one level from those decoded whole, noise and hard edges by three; with 2 instead of 4, by nine.
REDUCED_SIDES = 4
# Decoders that hold a picture several times over take fewer pixels than the limit allows: 120 megapixels of the other
# formats need up to 1.1 GB, of WebP 1.9 GB.
PIXELS_BY_FORMAT = {"WEBP": 64_000_000}
# Threads of the AVIF and HEIC decoders; each takes address space, which is limited, and they would take one per core.
DECODER_THREADS = 4
# Offsets in libheif's `struct heif_security_limits`, whose fields only grow in number: pixels, all memory in bytes.
_HEIF_PIXELS, _HEIF_MEMORY, _HEIF_MEMORY_VERSION = 8, 64, 2
_HEIF_BYTES = 1024**3

# What decoders raise about damaged files; none of it is a fault of this program.
DAMAGE = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)

AvifImagePlugin.DEFAULT_MAX_THREADS = DECODER_THREADS
pi_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False, decode_threads=DECODER_THREADS)


def open_picture(file: BinaryIO, limits: MediaLimits) -> Image.Image:
    """Open a picture and check its size; nothing is decoded yet.

    Raises:
        MediaTooLargeError: it has too many pixels.
        Exception: whatever a plugin raises about a file that is not a picture, or a damaged one.
    """
    _limit_libheif(limits.max_image_pixels)
    picture: Image.Image = Image.open(file, formats=FORMATS)
    width, height = picture.size
    allowed = min(limits.max_image_pixels, PIXELS_BY_FORMAT.get(picture.format or "", limits.max_image_pixels))
    if width * height > allowed:
        kind = f" in {picture.format}" if allowed < limits.max_image_pixels else ""
        raise MediaTooLargeError(
            f"The picture has {width}x{height} pixels; at most {allowed / 1e6:.1f} megapixels are allowed{kind}."
        )
    return picture


def decode(picture: Image.Image, side: int) -> None:
    """Decode a picture; a large JPEG at 1/2, 1/4 or 1/8 of its size, still `REDUCED_SIDES` times `side` or more.

    Raises:
        Exception: whatever the decoder raises about a damaged file.
    """
    width, height = picture.size
    if width * height > WHOLE_PIXELS:
        picture.draft(None, (REDUCED_SIDES * side, REDUCED_SIDES * side))  # other formats have no such mode
    picture.load()


def _limit_libheif(pixels: int) -> None:
    """Set the limits that libheif checks while it decodes: a bitstream may be larger than the file declares.

    pi-heif has no function for it. The library keeps the limits of all files in one structure, which begins with its
    version.
    """
    library = ctypes.CDLL(_pi_heif.__file__)
    limits = library.heif_get_global_security_limits
    limits.restype = ctypes.c_void_p
    address = limits()
    ctypes.c_uint64.from_address(address + _HEIF_PIXELS).value = pixels
    if ctypes.c_uint8.from_address(address).value >= _HEIF_MEMORY_VERSION:
        ctypes.c_uint64.from_address(address + _HEIF_MEMORY).value = _HEIF_BYTES
