"""Colours of still pictures: any colour mode and embedded profile to 8-bit sRGB, with what is transparent on white."""

from __future__ import annotations

import functools
import io
import math

import numpy as np
from PIL import Image, ImageCms

from mmaudio_model.media.media_warning import MediaWarning, WarningCode
from mmaudio_model.media.picture_file import WHOLE_PIXELS

# Pixels of one strip while a large picture is converted.
STRIP_PIXELS = 2_000_000
LARGEST_PROFILE_BYTES = 16 * 1024**2
# A profile that changes no colour by more than this many levels is one of sRGB; the picture then stays as it is.
SAME_LEVELS = 2
_GREY_MODES = frozenset({"1", "L", "LA", "La"})
_HDR_TRANSFERS = {16: "PQ", 18: "HLG"}
_SRGB_PRIMARIES = frozenset({1, 2, 5, 6})  # BT.709, unspecified, and those of standard television, which hardly differ


def rgb_on_white(picture: Image.Image, side: int, warnings: list[MediaWarning]) -> Image.Image:
    """Return a picture in sRGB, mode RGB; what could not be respected is added to `warnings`.

    A large picture is converted strip by strip and resized to the width `side` on the way, so that beside its decoded
    pixels little memory is needed. Resizing its height afterwards gives what resizing the whole at once gives.

    Raises:
        ValueError: Pillow cannot convert the picture's mode.
    """
    white = _white(picture, warnings) if picture.mode in {"I", "F"} else 255.0
    width, height = picture.size
    if width * height <= WHOLE_PIXELS:
        return _converted(picture, white, warnings)
    narrow = Image.new("RGB", (side, height))
    rows = max(1, STRIP_PIXELS // width)
    for top in range(0, height, rows):
        strip = picture.crop((0, top, width, min(top + rows, height)))
        converted = _converted(strip, white, warnings)
        narrow.paste(converted.resize((side, strip.height), Image.Resampling.BICUBIC), (0, top))
    return narrow


def _converted(picture: Image.Image, white: float, warnings: list[MediaWarning]) -> Image.Image:
    picture = _eight_bit(picture, white)
    layered = picture.convert("RGBA") if _has_alpha(picture) else None
    coloured = _by_profile(picture, layered, warnings)
    if layered is None:
        return coloured or picture.convert("RGB")
    if coloured is not None:
        coloured.putalpha(layered.getchannel("A"))
        layered = coloured
    return Image.alpha_composite(Image.new("RGBA", layered.size, "white"), layered).convert("RGB")


def _has_alpha(picture: Image.Image) -> bool:
    return picture.mode in {"RGBa", "La"} or "A" in picture.getbands() or "transparency" in picture.info


def _white(picture: Image.Image, warnings: list[MediaWarning]) -> float:
    """Return the level that stands for white in a picture of 32-bit numbers; its file does not say it."""
    top = float(picture.getextrema()[1])  # type: ignore[arg-type]
    levels = (255.0, 65535.0) if picture.mode == "I" else (1.0, 255.0, 65535.0)
    white = next((level for level in levels if top <= level), top if math.isfinite(top) else 1.0)
    text = f"The picture's levels have 32 bits and no declared white; {white:g} was taken as white."
    warnings.append(MediaWarning(WarningCode.PICTURE_READ, text))
    return white


def _eight_bit(picture: Image.Image, white: float) -> Image.Image:
    """Return a grey picture of more than 8 bits as one of 8 bits, and any other as it is."""
    if picture.mode.startswith("I;16"):  # Pillow's own conversion clips at 255
        levels: np.ndarray = np.asarray(picture) >> 8
    elif picture.mode in {"I", "F"}:
        levels = np.nan_to_num(np.asarray(picture, dtype=np.float32)).clip(0, white) * (255 / white)
    else:
        return picture
    converted = Image.fromarray(levels.astype(np.uint8))
    converted.info = picture.info
    return converted


def _by_profile(picture: Image.Image, layered: Image.Image | None, warnings: list[MediaWarning]) -> Image.Image | None:
    """Return the colours in sRGB by the embedded profile; None where there is none that changes anything."""
    content = picture.info.get("icc_profile")
    if not content:
        _warn_of_wide_colours(picture, warnings)
        return _from_lab(picture) if picture.mode == "LAB" else None
    try:
        if len(content) > LARGEST_PROFILE_BYTES:
            raise ValueError("too large")
        source = _in_space(_space(content), picture, layered)
        transform = _from_profile(content, source.mode)
        return None if transform is None else transform.apply(source)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError, AttributeError):
        text = "The picture's colour profile is damaged or does not fit the picture, and was ignored."
        warnings.append(MediaWarning(WarningCode.PICTURE_READ, text))
        return _from_lab(picture) if picture.mode == "LAB" else None


def _in_space(space: str, picture: Image.Image, layered: Image.Image | None) -> Image.Image:
    """Return the picture's colours in the mode that a profile of this colour space describes."""
    flat = layered or picture
    if space == "RGB" and picture.mode not in {"CMYK", "LAB"}:
        return flat.convert("RGB")
    if space == "GRAY" and picture.mode in _GREY_MODES:
        return flat.convert("L")
    if {"CMYK": "CMYK", "Lab": "LAB"}.get(space) == picture.mode:
        return picture
    raise ValueError(f"a profile for {space} in a picture of mode {picture.mode}")


def _to_srgb(profile: ImageCms.ImageCmsProfile, mode: str) -> ImageCms.ImageCmsTransform:
    return ImageCms.buildTransform(
        profile,
        ImageCms.createProfile("sRGB"),
        mode,
        "RGB",
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )


@functools.lru_cache(maxsize=1)  # the strips of one picture share it
def _from_profile(content: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Return the transform to sRGB; None if the profile is one of sRGB."""
    transform = _to_srgb(ImageCms.ImageCmsProfile(io.BytesIO(content)), mode)
    return None if mode == "RGB" and _changes_nothing(transform) else transform


@functools.lru_cache(maxsize=1)
def _space(content: bytes) -> str:
    return ImageCms.ImageCmsProfile(io.BytesIO(content)).profile.xcolor_space.strip()


def _changes_nothing(transform: ImageCms.ImageCmsTransform) -> bool:
    steps = np.linspace(0, 255, 18).astype(np.uint8)
    colours = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 18, 3)
    changed = np.asarray(transform.apply(Image.fromarray(colours)))
    return int(np.abs(changed.astype(int) - colours).max()) <= SAME_LEVELS


def _from_lab(picture: Image.Image) -> Image.Image:
    return _to_srgb(ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")), "LAB").apply(picture)


def _warn_of_wide_colours(picture: Image.Image, warnings: list[MediaWarning]) -> None:
    """Say where a HEIC's colours are declared by numbers that need more than sRGB; they are shown as if in sRGB."""
    declared = picture.info.get("nclx_profile")
    if not isinstance(declared, dict):
        return
    transfer = _HDR_TRANSFERS.get(int(declared.get("transfer_characteristics", 2)))
    if transfer:
        text = f"The picture is HDR ({transfer}); it was read without tone mapping, so its brightness differs."
    elif int(declared.get("color_primaries", 2)) not in _SRGB_PRIMARIES:
        text = "The picture's colours are wider than sRGB and have no colour profile; they are a little too pale."
    else:
        return
    warnings.append(MediaWarning(WarningCode.PICTURE_READ, text))
