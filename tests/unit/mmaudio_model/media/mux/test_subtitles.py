"""Subtitles that are text, in the form of another container."""

from __future__ import annotations

import pytest

from mmaudio_model.media.mux.result_container import ResultContainer
from mmaudio_model.media.mux.subtitles import codec_in, rewritten


@pytest.mark.parametrize(
    ("content", "codec", "wanted", "expected"),
    [
        (b"<i>Hello</i>\r\nyou", "subrip", "mov_text", b"\0\x09Hello\nyou"),
        (b"3,0,Default,Bob,0,0,0,,{\\i1}Hi, {\\an8}you\\Nthere", "ass", "mov_text", b"\0\x0dHi, you\nthere"),
        (b"\0\x05Hello\0\0\0\x0cstyl", "mov_text", "subrip", b"Hello"),
        (b"a < b and {c}", "subrip", "webvtt", b"a < b and {c}"),
        ("ä".encode() * 40_000, "subrip", "mov_text", b"\xff\xfe" + "ä".encode() * 32_767),
        (b"\xff\xfe broken", "subrip", "webvtt", "\ufffd\ufffd broken".encode()),
        (b"\0\0", "mov_text", "subrip", None),
        (b"", "mov_text", "subrip", None),
        (b"0,0,Default,,0,0,0,,{\\p1}", "ass", "subrip", None),
    ],
)
def test_the_text_is_kept_without_its_markup(content: bytes, codec: str, wanted: str, expected: bytes | None) -> None:
    assert rewritten(content, codec, wanted) == expected


@pytest.mark.parametrize(
    ("container", "codec", "expected"),
    [
        (ResultContainer.MP4, "subrip", "mov_text"),
        (ResultContainer.MOV, "mov_text", "mov_text"),
        (ResultContainer.MKV, "ass", "ass"),
        (ResultContainer.MKV, "mov_text", "subrip"),
        (ResultContainer.MKV, "hdmv_pgs_subtitle", "hdmv_pgs_subtitle"),
        (ResultContainer.WEBM, "subrip", "webvtt"),
        (ResultContainer.WEBM, "hdmv_pgs_subtitle", None),
    ],
)
def test_each_container_has_a_form_of_text(container: ResultContainer, codec: str, expected: str | None) -> None:
    assert codec_in(container, codec) == expected
