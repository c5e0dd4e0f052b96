"""A still picture as input (image-to-audio)."""

from __future__ import annotations

import os
import re
import warnings as python_warnings
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from mmaudio_model.errors import MediaInvalidError, MediaTooLargeError
from mmaudio_model.media.frames import ImageFrame
from mmaudio_model.media.media_warning import MediaWarning, WarningCode
from mmaudio_model.media.picture_colour import rgb_on_white
from mmaudio_model.media.picture_file import DAMAGE, decode, open_picture
from mmaudio_model.media.probe import MediaLimits
from mmaudio_model.media.resizing import Resize, pillow_resize, stretch

NOT_A_PICTURE = "The file is not a readable picture; supported are PNG, JPEG, WebP, BMP, TIFF, GIF, HEIC and AVIF."
ORIENTATION = 0x0112  # the EXIF tag
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# What plugins say where the file ends too early.
_CUT_OFF = ("truncated", "end of file", "not enough image data")
# libjpeg fills what a cut-off picture lacks with this grey; printers' pictures are stored inverted.
_FILLING = {"RGB": 128, "L": 128, "CMYK": 127}
_LEAST_FILLED = 1 / 16
# Any mark of a JPEG but those within the data of a scan: stuffed zeros, restarts and padding.
_MARK, _END = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]"), b"\xff\xd9"
_NEVER_ZEROS = frozenset({"WEBP", "AVIF", "HEIF"})
_LEAST_ZEROS = 512
LARGEST_JPEG_BYTES = 256 * 1024**2
_PICTURE_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"avif", b"avis"})
# What videos begin with: at which byte, and what.
_VIDEOS = ((4, b"ftyp"), (4, b"moov"), (0, b"\x1a\x45\xdf\xa3"), (8, b"AVI "), (0, b"FLV\x01"))


def read_image(file: BinaryIO, *, clip_size: int, limits: MediaLimits, resize: Resize = pillow_resize) -> ImageFrame:
    """Read a picture of any colour mode: upright, in sRGB, transparency on white, of several pictures the first.

    Pictures of up to `picture_file.WHOLE_PIXELS` are decoded whole; larger ones are reduced while they are decoded.

    Raises:
        MediaInvalidError: not a readable picture, or one that is cut off.
        MediaTooLargeError: it has too many pixels; checked before decoding.
        MemoryError: decoding it needs more memory than the process may have.
    """
    found: list[MediaWarning] = []
    try:
        with python_warnings.catch_warnings():
            python_warnings.simplefilter("ignore")  # Pillow's, about damaged parts; our own limit replaces its own
            opened = open_picture(file, limits)
            _note_end(file, opened, found)
            decode(opened, clip_size)
            if not found:
                _note_filling(opened, found)
            pixels = np.asarray(_upright(rgb_on_white(opened, clip_size, found), opened, found))
            _note_further_pictures(opened, found)
    except Image.DecompressionBombError as exc:
        raise MediaTooLargeError(
            f"The picture has too many pixels; at most {limits.max_image_pixels / 1e6:.1f} megapixels are allowed."
        ) from exc
    except DAMAGE as exc:
        raise _explained(exc, file) from exc
    return ImageFrame(clip=stretch(pixels, clip_size, resize)[None], warnings=tuple(dict.fromkeys(found)))


def _upright(picture: Image.Image, opened: Image.Image, found: list[MediaWarning]) -> Image.Image:
    """Apply the EXIF orientation. HEIC and AVIF have their own, which their decoders apply or report as EXIF's."""
    try:
        turn = _TURNS.get(opened.getexif().get(ORIENTATION, 1))
    except DAMAGE:
        text = "The picture's EXIF data are damaged, so it may lie on its side."
        found.append(MediaWarning(WarningCode.PICTURE_READ, text))
        return picture
    return picture if turn is None else picture.transpose(turn)


def _note_end(file: BinaryIO, picture: Image.Image, found: list[MediaWarning]) -> None:
    """Warn where the end of the file is missing and its decoder would take what is there instead as picture.

    That is zeros, in a file whose space was reserved before it was transferred. Other formats' decoders refuse them.
    """
    position = file.tell()
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if picture.format in {"JPEG", "MPO"}:
        ends = _has_end(file.read(LARGEST_JPEG_BYTES))
    else:
        file.seek(max(0, size - max(_LEAST_ZEROS, size // 16)))
        ends = picture.format not in _NEVER_ZEROS or bool(file.read(max(_LEAST_ZEROS, size // 16)).strip(b"\0"))
    file.seek(position)
    if not ends:
        text = "The end of the picture's file is missing, so a part of the picture may be wrong."
        found.append(MediaWarning(WarningCode.PICTURE_READ, text))


def _has_end(content: bytes) -> bool:
    """Return whether a JPEG's last scan is followed by an end mark; thumbnails in its head have marks of their own."""
    place = 2
    while True:
        mark = _MARK.search(content, place)
        if mark is None:
            return False
        if mark.group() == _END:
            return True
        place = mark.end() + int.from_bytes(content[mark.end() : mark.end() + 2])


def _note_further_pictures(opened: Image.Image, found: list[MediaWarning]) -> None:
    """Warn of an animation and of further pages. A phone's further pictures (MPO, HDR gain maps) are no loss."""
    if opened.format == "MPO":
        return
    try:
        several = bool(getattr(opened, "is_animated", False))
    except DAMAGE:  # the first picture is good; what follows it is not
        several = True
    if not several:
        return
    what = "several pages" if opened.format == "TIFF" else "several pictures"
    which = "the main one" if opened.format == "HEIF" else "the first one"
    found.append(MediaWarning(WarningCode.PICTURE_READ, f"The file holds {what}; only {which} was read."))


def _note_filling(picture: Image.Image, found: list[MediaWarning]) -> None:
    """Warn where the lower part of a JPEG is plain middle grey, which is what its decoder puts for missing data."""
    filling = _FILLING.get(picture.mode)
    if picture.format not in {"JPEG", "MPO"} or filling is None:
        return
    pixels = np.asarray(picture)
    plain = (pixels.reshape(len(pixels), -1) == filling).all(axis=1)
    filled = len(plain) if plain.all() else int(np.argmin(plain[::-1]))
    if filled >= _LEAST_FILLED * len(plain):
        text = f"The lower {filled / len(plain):.0%} of the picture are plain grey; its file seems to be cut off."
        found.append(MediaWarning(WarningCode.PICTURE_READ, text))


def _explained(exc: BaseException, file: BinaryIO) -> MediaInvalidError:
    """Return the error that says what is wrong with the file."""
    if isinstance(exc, UnidentifiedImageError):
        file.seek(0)
        head = file.read(16)
        if head[8:12] not in _PICTURE_BRANDS and any(
            head[place : place + len(mark)] == mark for place, mark in _VIDEOS
        ):
            return MediaInvalidError("The file is a video, not a picture; give it as `video`.")
        return MediaInvalidError(NOT_A_PICTURE)
    if any(sign in str(exc).lower() for sign in _CUT_OFF):
        return MediaInvalidError(f"{NOT_A_PICTURE} This one is cut off.")
    return MediaInvalidError(f"{NOT_A_PICTURE} This one is damaged.")
