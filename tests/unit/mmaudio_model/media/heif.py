"""Small HEIC pictures, written box by box around pictures that the HEVC encoder of PyAV makes."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import av
import numpy as np
from av.video.frame import VideoFrame

_PARAMETER_SETS = (32, 33, 34)  # VPS, SPS, PPS


def heic(
    picture: np.ndarray,
    *,
    turns: int = 0,
    mirror: int | None = None,
    declared: tuple[int, int] | None = None,
    profile: bytes | None = None,
    nclx: tuple[int, int] | None = None,
    exif: bytes | None = None,
    grid: int = 0,
    ten_bits: bool = False,
    pictures: int = 1,
    brand: bytes = b"heic",
) -> bytes:
    """Return a HEIC file of an RGB picture, uint8 (H, W, 3), sides multiples of 16.

    Args:
        turns: quarter turns counter-clockwise that a viewer makes (`irot`).
        mirror: 0 about a vertical, 1 about a horizontal axis (`imir`).
        declared: width and height in the file's header instead of the picture's own.
        nclx: numbers of the primaries and the transfer function.
        grid: so many equal tiles of the picture in each direction.
        pictures: so many equal ones side by side, of which the first is the main one.
    """
    parameters, slices = _encoded(picture, "yuv420p10le" if ten_bits else "yuv420p")
    height, width = picture.shape[:2]
    coded = [_hvcc(parameters, ten_bits), _ispe(*(declared or (width, height)) if not grid else (width, height))]
    looks = [_box(b"irot", bytes([turns]))] if turns else []
    looks += [_box(b"imir", bytes([mirror]))] if mirror is not None else []
    looks += [_box(b"colr", b"prof" + profile)] if profile else []
    looks += [_box(b"colr", b"nclx" + struct.pack(">HHHB", *nclx, 6, 128))] if nclx else []
    coded_count = grid**2 if grid else pictures
    items: list[tuple[bytes, bytes, list[bytes]]] = [
        (b"hvc1", slices, coded + ([] if grid else looks)) for _ in range(coded_count)
    ]
    references = b""
    if grid:
        size = declared or (width * grid, height * grid)
        layout = struct.pack(">BBBBHH", 0, 0, grid - 1, grid - 1, *size)
        items.append((b"grid", layout, [_ispe(*size), *looks]))
        tiles = range(1, coded_count + 1)
        references += _box(b"dimg", struct.pack(f">HH{coded_count}H", len(items), coded_count, *tiles))
    main = len(items) if grid else 1
    if exif is not None:
        items.append((b"Exif", struct.pack(">I", 6) + b"Exif\0\0" + exif, []))
        references += _box(b"cdsc", struct.pack(">HHH", len(items), 1, main))
    return _file(items, main, references, brand, hidden=range(1, coded_count + 1) if grid else ())


def _encoded(picture: np.ndarray, pix_fmt: str) -> tuple[list[bytes], bytes]:
    encoder: Any = av.CodecContext.create("libx265", "w")
    encoder.height, encoder.width = picture.shape[:2]
    encoder.pix_fmt, encoder.framerate = pix_fmt, 1
    parameters = "log-level=none:crf=2:range=full:info=0:pools=1:frame-threads=1"
    encoder.options = {"x265-params": parameters, "preset": "ultrafast"}
    frame = VideoFrame.from_ndarray(picture, format="rgb24").reformat(
        format=pix_fmt, dst_colorspace="ITU601", dst_color_range="JPEG"
    )
    content = b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])
    units = [unit.rstrip(b"\0") for unit in content.split(b"\0\0\1")[1:]]
    parameters = [unit for unit in units if unit[0] >> 1 & 63 in _PARAMETER_SETS]
    pictures = [unit for unit in units if unit[0] >> 1 & 63 < _PARAMETER_SETS[0]]
    return parameters, b"".join(struct.pack(">I", len(unit)) + unit for unit in pictures)


def _hvcc(parameters: Sequence[bytes], ten_bits: bool) -> bytes:
    depth = 2 if ten_bits else 0
    general = bytes([1, 2 if ten_bits else 1]) + bytes.fromhex("60000000900000000000") + bytes([30])
    content = general + bytes([0xF0, 0, 0xFC, 0xFD, 0xF8 | depth, 0xF8 | depth, 0, 0, 0x0F, len(parameters)])
    for unit in parameters:
        content += struct.pack(">BHH", 0x80 | (unit[0] >> 1 & 63), 1, len(unit)) + unit
    return _box(b"hvcC", content)


def _ispe(width: int, height: int) -> bytes:
    return _full(b"ispe", struct.pack(">II", width, height))


def _file(
    items: list[tuple[bytes, bytes, list[bytes]]], main: int, references: bytes, brand: bytes, hidden: Sequence[int]
) -> bytes:
    head = _box(b"ftyp", brand + struct.pack(">I", 0) + b"mif1heic")
    meta = b""
    for _ in range(2):  # the second time with the right offsets
        place = len(head) + len(meta) + 8
        meta = _meta(items, main, references, place, hidden)
    return head + meta + _box(b"mdat", b"".join(content for _, content, _ in items))


def _meta(
    items: list[tuple[bytes, bytes, list[bytes]]], main: int, references: bytes, place: int, hidden: Sequence[int]
) -> bytes:
    properties: list[bytes] = []
    entries = locations = associations = b""
    for number, (kind, content, own) in enumerate(items, 1):
        entries += _full(b"infe", struct.pack(">HH4sB", number, 0, kind, 0), 2, 1 if number in hidden else 0)
        locations += struct.pack(">HHHII", number, 0, 1, place, len(content))
        place += len(content)
        properties += [one for one in own if one not in properties]
        if own:
            indices = bytes(properties.index(one) + 1 | (0x80 if one[4:8] != b"colr" else 0) for one in own)
            associations += struct.pack(">HB", number, len(own)) + indices
    described = sum(1 for _, _, own in items if own)
    content = _full(b"hdlr", struct.pack(">I4s12xB", 0, b"pict", 0))
    content += _full(b"pitm", struct.pack(">H", main))
    content += _full(b"iloc", struct.pack(">BBH", 0x44, 0, len(items)) + locations)
    content += _full(b"iinf", struct.pack(">H", len(items)) + entries)
    content += _full(b"iref", references) if references else b""
    held = _box(b"ipco", b"".join(properties)) + _full(b"ipma", struct.pack(">I", described) + associations)
    return _full(b"meta", content + _box(b"iprp", held))


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def _full(kind: bytes, content: bytes, version: int = 0, flags: int = 0) -> bytes:
    return _box(kind, struct.pack(">I", version << 24 | flags) + content)
