"""What is kept of a receiver's answer."""

from __future__ import annotations

import pytest

from workers.webhooks.sender import printable


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        (b"ok\n", "ok\n"),
        (b"\x1b[31mred\x00", "�[31mred�"),
        ("‮gnp.exe".encode(), "�gnp.exe"),
        ("ü".encode()[:1], "�"),
        (b"", ""),
    ],
)
def test_only_printable_characters_are_kept(body: bytes, kept: str) -> None:
    assert printable(body) == kept
