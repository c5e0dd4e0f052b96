"""Names of downloads: after the source, safe on every file system and in a header."""

from __future__ import annotations

import pytest

from jobs.file_names import LONGEST_STEM_BYTES, content_disposition, result_name, safe_stem


@pytest.mark.parametrize(
    ("filename", "stem"),
    [
        ("walk.mp4", "walk"),
        ("in/day 1/walk.v2.mov", "walk.v2"),
        ("C:\\clips\\walk.mp4", "walk"),
        ("../../etc/passwd", "passwd"),
        ("..", ""),
        ("", ""),
        ("   .mp4", ""),
        ("a\x00b\r\nc.mp4", "a-b-c"),
        ('a<b>:"c|?*.mp4', "a-b-c-"),
        ("ünï 日本.mkv", "ünï 日本"),
        ("walk .mp4", "walk"),
        ("nul.mp4", "_nul"),
        ("COM1.x.mp4", "_COM1.x"),
        ("gpj\u202e4pm.exe", "gpj-4pm"),
        ("\ud800.mp4", "-"),
    ],
)
def test_a_stem_is_a_name_that_any_file_system_takes(filename: str, stem: str) -> None:
    assert safe_stem(filename) == stem


def test_a_long_name_ends_between_two_letters() -> None:
    stem = safe_stem("日" * 300 + ".mp4")
    assert stem == "日" * (LONGEST_STEM_BYTES // 3)


@pytest.mark.parametrize(
    ("artifact", "name"),
    [
        ("audio.flac", "walk.flac"),
        ("audio-2.flac", "walk-2.flac"),
        ("audio-effect.wav", "walk-effect.wav"),
        ("audio-mix-2.wav", "walk-mix-2.wav"),
        ("video-2.mp4", "walk-2.mp4"),
        ("other.bin", "other.bin"),
    ],
)
def test_a_result_has_the_stem_of_its_source(artifact: str, name: str) -> None:
    assert result_name("walk", artifact) == name
    assert result_name("", artifact) == artifact


def test_a_stem_is_no_pattern() -> None:
    assert result_name(r"\1\g<0>", "audio.flac") == r"\1\g<0>.flac"


def test_a_header_has_the_name_for_old_and_for_new_programs() -> None:
    assert content_disposition("walk.flac", inline=True) == 'inline; filename="walk.flac"'
    assert content_disposition("a/日;.flac", inline=False) == (
        """attachment; filename="a/_;.flac"; filename*=UTF-8''a%2F%E6%97%A5%3B.flac"""
    )
    assert content_disposition('100%".flac', inline=False) == (
        """attachment; filename="100__.flac"; filename*=UTF-8''100%25%22.flac"""
    )
