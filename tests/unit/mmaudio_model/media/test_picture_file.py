"""Which pictures are opened, how large ones are decoded, and what is said about damaged files."""

from __future__ import annotations

import contextlib
import io
import random
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter

from mmaudio_model.errors import MediaError, MediaInvalidError, MediaTooLargeError
from mmaudio_model.media import image as image_module
from mmaudio_model.media import picture_colour, picture_file
from mmaudio_model.media.frames import ImageFrame
from mmaudio_model.media.image import read_image
from mmaudio_model.media.probe import MediaLimits
from tests.unit.mmaudio_model.media.heif import heic
from tests.unit.mmaudio_model.media.icc import rgb_profile

SIZE = 32
SMOOTH = Image.effect_noise((160, 128), 60).convert("RGB").filter(ImageFilter.GaussianBlur(2))
OTHERS = [SMOOTH.transpose(Image.Transpose.FLIP_LEFT_RIGHT), SMOOTH.rotate(180)]
MUTATIONS = 40


def encoded(kind: str, picture: Image.Image = SMOOTH, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.copy().save(buffer, kind, **options)  # saving leaves settings in the picture
    return buffer.getvalue()


def several(kind: str) -> bytes:
    return encoded(kind, save_all=True, append_images=[one.copy() for one in OTHERS])


def read(content: bytes, size: int = SIZE, limits: MediaLimits | None = None) -> ImageFrame:
    return read_image(io.BytesIO(content), clip_size=size, limits=limits or MediaLimits())


FILES: dict[str, Callable[[], bytes]] = {
    "png": lambda: encoded("PNG"),
    "png palette": lambda: encoded("PNG", SMOOTH.convert("P"), transparency=3),
    "jpeg": lambda: encoded("JPEG", quality=90),
    "jpeg progressive": lambda: encoded("JPEG", progressive=True, icc_profile=rgb_profile()),
    "jpeg cmyk": lambda: encoded("JPEG", SMOOTH.convert("CMYK")),
    "webp": lambda: encoded("WEBP"),
    "webp lossless": lambda: encoded("WEBP", lossless=True),
    "bmp": lambda: encoded("BMP"),
    "gif": lambda: encoded("GIF"),
    "tiff": lambda: encoded("TIFF"),
    "tiff lzw": lambda: encoded("TIFF", compression="tiff_lzw"),
    "tiff jpeg": lambda: encoded("TIFF", compression="jpeg"),
    "tiff big": lambda: encoded("TIFF", big_tiff=True),
    "avif": lambda: encoded("AVIF"),
    "heic": lambda: heic(np.asarray(SMOOTH)),
    "heic grid": lambda: heic(np.asarray(SMOOTH), grid=2, turns=1),
    "gif animated": lambda: several("GIF"),
    "apng": lambda: several("PNG"),
    "webp animated": lambda: several("WEBP"),
    "tiff pages": lambda: several("TIFF"),
    "mpo": lambda: several("MPO"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_mutated_file_is_read_or_refused_and_nothing_else(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    content = FILES[name]()
    chance = random.Random(name)
    for _ in range(MUTATIONS):
        changed = bytearray(content)
        for _ in range(chance.choice((1, 2, 8, 30))):
            place = chance.randrange(min(len(changed), 400) if chance.random() < 0.5 else len(changed))
            changed[place] = chance.choice((0, 255, chance.randrange(256)))
        with contextlib.suppress(MediaError):
            assert read(bytes(changed)).clip.shape == (1, SIZE, SIZE, 3)
    capfd.readouterr()  # libtiff writes to the standard error


@pytest.mark.parametrize("name", FILES)
def test_a_picture_that_is_cut_off_is_refused_or_whole(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    content = FILES[name]()
    whole = read(content).clip
    for share in (0.2, 0.5, 0.8, 0.95):
        with contextlib.suppress(MediaInvalidError):
            frame = read(content[: int(share * len(content))])
            assert np.array_equal(frame.clip, whole), "only what comes after the picture may be missing"
    capfd.readouterr()


@pytest.mark.parametrize("name", ["jpeg", "jpeg cmyk", "webp", "webp lossless", "avif", "heic", "png", "gif"])
def test_a_picture_whose_second_half_never_came_is_refused_or_said(name: str) -> None:
    content = FILES[name]()
    try:
        frame = read(content[: len(content) // 2] + bytes(len(content) // 2))
    except MediaInvalidError:
        return
    assert "end of the picture's file is missing" in frame.warnings[0].text


def test_a_jpeg_that_was_closed_after_it_was_cut_off_is_named() -> None:
    content = encoded("JPEG", quality=90)
    frame = read(content[: len(content) // 2] + b"\xff\xd9")

    assert "plain grey" in frame.warnings[0].text
    assert read(content).warnings == ()


@pytest.mark.parametrize(
    ("kind", "said"),
    [("GIF", "several pictures"), ("PNG", "several pictures"), ("WEBP", "several pictures"), ("TIFF", "several pages")],
)
def test_of_several_pictures_the_first_is_read_with_a_warning(kind: str, said: str) -> None:
    frame = read(several(kind))

    assert said in frame.warnings[0].text
    assert np.abs(frame.clip.astype(int) - read(encoded("PNG")).clip).mean() < 8


def test_a_phones_second_picture_is_no_loss() -> None:
    frame = read(several("MPO"))

    assert frame.warnings == ()
    assert np.array_equal(frame.clip, read(encoded("JPEG")).clip)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("large", [False, True])
def test_every_orientation_is_applied(orientation: int, large: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if large:
        monkeypatch.setattr(picture_colour, "WHOLE_PIXELS", 0)
    corners = Image.new("RGB", (64, 48), (30, 30, 220))
    corners.paste((220, 30, 30), (0, 0, 32, 24))
    corners.paste((30, 220, 30), (32, 0, 64, 24))
    exif = Image.Exif()
    exif[0x0112] = orientation
    frame = read(encoded("PNG", corners, exif=exif))

    expected = {1: "RG", 2: "GR", 3: "BB", 4: "BB", 5: "RB", 6: "BR", 7: "BG", 8: "GB"}[orientation]
    seen = "".join("RGB"[int(frame.clip[0, 6, x].argmax())] for x in (6, 25))
    assert seen == expected


def test_broken_exif_data_are_a_warning() -> None:
    frame = read(encoded("PNG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0"))

    assert all("EXIF" in warning.text for warning in frame.warnings)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "1", "P", "CMYK", "I;16", "F"])
def test_a_large_picture_comes_out_as_one_that_is_converted_whole(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = Image.fromarray(np.random.default_rng(2).integers(0, 256, (311, 457, 4), dtype=np.uint8))
    picture = noise.convert("RGB").convert(mode) if mode not in {"RGBA", "LA", "I;16", "F"} else noise.convert("RGBA")
    if mode in {"LA", "F"}:
        picture = picture.convert(mode)
    elif mode == "I;16":
        picture = Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257)
    profile = {"icc_profile": rgb_profile()} if mode in {"RGB", "RGBA", "P"} else {}
    content = encoded("TIFF" if mode in {"CMYK", "F"} else "PNG", picture, **profile)
    whole = read(content)
    monkeypatch.setattr(picture_colour, "WHOLE_PIXELS", 1000)
    monkeypatch.setattr(picture_colour, "STRIP_PIXELS", 4570)
    in_strips = read(content)

    assert np.array_equal(in_strips.clip, whole.clip)
    assert in_strips.warnings == whole.warnings


@pytest.mark.parametrize("progressive", [False, True])
def test_a_large_jpeg_is_decoded_at_a_fraction_of_its_size_and_hardly_differs(
    progressive: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = Image.fromarray(np.random.default_rng(3).integers(0, 256, (30, 40, 3), dtype=np.uint8))
    content = encoded("JPEG", small.resize((1600, 1200), Image.Resampling.BICUBIC), quality=92, progressive=progressive)
    whole = read(content).clip.astype(int)
    sizes: list[tuple[int, int]] = []
    convert = image_module.rgb_on_white
    monkeypatch.setattr(
        image_module, "rgb_on_white", lambda picture, *rest: [sizes.append(picture.size), convert(picture, *rest)][1]
    )
    monkeypatch.setattr(picture_file, "WHOLE_PIXELS", 1000)

    assert np.abs(read(content).clip - whole).max() <= 1
    assert sizes == [(200, 150)], "four times the wanted size would be 128; an eighth is the least that JPEG has"


def test_pictures_of_48_megapixels_are_allowed_and_have_a_limit_of_their_own() -> None:
    content = encoded("PNG", Image.new("1", (8064, 6048)))

    assert read(content, limits=MediaLimits(max_pixels=1000)).clip.max() == 0
    with pytest.raises(MediaTooLargeError, match=r"8064x6048 pixels; at most 48\.0 megapixels"):
        read(content, limits=MediaLimits(max_image_pixels=48_000_000))


def test_a_webp_has_a_lower_limit_because_it_takes_more_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(picture_file.PIXELS_BY_FORMAT, "WEBP", 160 * 128 - 1)

    with pytest.raises(MediaTooLargeError, match=r"160x128 pixels; at most 0\.0 megapixels are allowed in WEBP"):
        read(encoded("WEBP"))


def test_a_video_that_is_named_as_a_picture_is_named() -> None:
    with pytest.raises(MediaInvalidError, match="a video, not a picture; give it as `video`"):
        read(b"\0\0\0\x20ftypisom" + bytes(64))
    with pytest.raises(MediaInvalidError, match="not a readable picture"):
        read(b"\0\0\0\x20ftypheic" + bytes(64))


def test_texts_and_profiles_that_are_large_when_unpacked_are_bounded() -> None:
    content = encoded("PNG")
    place = content.index(b"IDAT") - 4
    for kind, head in ((b"zTXt", b"Comment\0\0"), (b"iCCP", b"name\0\0")):
        data = head + zlib.compress(bytes(200_000_000 // 10), 9)
        chunk = struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        with pytest.raises(MediaError):
            read(content[:place] + chunk + content[place:])


def test_a_tiff_with_a_huge_tag_is_read_without_it() -> None:
    content = bytearray(encoded("TIFF"))
    directory = int.from_bytes(content[4:8], "little")
    count = int.from_bytes(content[directory : directory + 2], "little")
    content[directory : directory + 2] = (count + 1).to_bytes(2, "little")
    entries = bytes(content[directory + 2 : directory + 2 + 12 * count])
    huge = struct.pack("<HHII", 65_000, 1, 2**31 - 1, 8)
    moved = len(content)
    content += (count + 1).to_bytes(2, "little") + entries + huge + bytes(4)
    content[4:8] = moved.to_bytes(4, "little")

    assert read(bytes(content)).clip.shape == (1, SIZE, SIZE, 3)
