"""Small colour profiles for tests, and what they make of a colour."""

from __future__ import annotations

import struct

import numpy as np

GAMMA = 2.2
# Colorants relative to the D50 white of profiles: red, green, blue as columns.
DISPLAY_P3 = np.array([[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]])
SRGB = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])
_D50 = (0.9642, 1.0, 0.8249)


def rgb_profile(colorants: np.ndarray = DISPLAY_P3) -> bytes:
    """Return a profile of a display with these colorants and a gamma of 2.2."""
    tags = {name: _xyz(*colorants[:, index]) for index, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))}
    return _profile(b"RGB ", {**tags, **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), _curve(GAMMA))})


def grey_profile(gamma: float) -> bytes:
    return _profile(b"GRAY", {b"kTRC": _curve(gamma)})


def in_srgb(colour: tuple[int, int, int], colorants: np.ndarray = DISPLAY_P3) -> np.ndarray:
    """Return a colour of `rgb_profile` in sRGB, clipped, in levels from 0 to 255."""
    linear = np.linalg.inv(SRGB) @ colorants @ (np.array(colour) / 255) ** GAMMA
    return srgb_levels(linear.clip(0, 1))


def srgb_levels(linear: np.ndarray) -> np.ndarray:
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray(255 * encoded)


def _profile(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    text = b"test\0"
    described = b"desc" + struct.pack(">II", 0, len(text)) + text + bytes(78)
    tags = {b"desc": described, b"cprt": b"text\0\0\0\0CC0\0", b"wtpt": _xyz(*_D50), **tags}
    table, data = struct.pack(">I", len(tags)), b""
    begin = 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        table += name + struct.pack(">II", begin + len(data), len(content))
        data += content + bytes(-len(content) % 4)
    head = struct.pack(">I4sI4s4s4s", begin + len(data), b"test", 0x02100000, b"mntr", space, b"XYZ ")
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + _fixed(*_D50)
    return head + bytes(128 - len(head)) + table + data


def _xyz(*values: float) -> bytes:
    return b"XYZ " + bytes(4) + _fixed(*values)


def _fixed(*values: float) -> bytes:
    return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))


def _curve(gamma: float) -> bytes:
    return b"curv" + struct.pack(">IIH", 0, 1, round(gamma * 256)) + bytes(2)
