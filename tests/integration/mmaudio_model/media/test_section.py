"""Exact times of the frames of a section, for any start and container."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest

from mmaudio_model.errors import MediaTooLargeError
from mmaudio_model.media.probe import MediaLimits, opened
from mmaudio_model.media.section import SectionFrame, exact_seconds, first_stamp, section_frames
from tests.unit.mmaudio_model.media.videos import LIMITS, number_in, regular, video_packets, write_video

SECONDS = 4.0
RATE = 25


def plain(container: str, **arguments: object) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        times = regular(round(SECONDS * RATE), RATE)
        return write_video(path, times, container=container, keyframe_every=12, rate=RATE, **arguments)  # type: ignore[arg-type]

    return make


def fragmented(path: Path) -> Path:
    return write_video(
        path,
        regular(round(SECONDS * RATE), RATE),
        keyframe_every=12,
        muxer_options={"movflags": "frag_keyframe+empty_moov+default_base_moof"},
    )


def joined(path: Path) -> Path:
    write_video(path, regular(round(SECONDS * RATE / 2), RATE), container="mpegts", keyframe_every=12)
    path.write_bytes(path.read_bytes() * 2)
    return path


KINDS: dict[str, Callable[[Path], Path]] = {
    "mp4": plain("mp4"),
    "mov": plain("mov"),
    "fragmented mp4": fragmented,
    "matroska": plain("matroska"),
    "webm, vp8": plain("webm", codec="libvpx"),
    "webm, vp9 with hidden frames": plain(
        "webm", codec="libvpx-vp9", options={"auto-alt-ref": "1", "lag-in-frames": "16"}
    ),
    "mpegts": plain("mpegts"),
    "mpegts, interlaced": plain("mpegts", options={"x264-params": "tff=1"}),
    "mpegts, mpeg2": plain("mpegts", codec="mpeg2video", options={"bf": "2", "b:v": "3M"}),
    "mpegts, two recordings": joined,
    "avi": plain("avi", codec="mpeg4"),
    "avi, reordered": plain("avi", options={"bf": "3"}),
    "mxf, reordered, one time stamp for each frame": plain(
        "mxf", options={"bf": "3", "x264-params": "b-pyramid=strict"}
    ),
    "mxf, mpeg2": plain("mxf", codec="mpeg2video", options={"bf": "2", "b:v": "3M"}),
    "mp4, hevc": plain("mp4", codec="libx265", options={"x265-params": "log-level=none:pools=1:frame-threads=1"}),
    "mp4, one key frame": plain("mp4", options={"x264-params": "keyint=infinite"}),
}


def section(path: Path, start_s: float, duration_s: float | None, limits: MediaLimits = LIMITS) -> list[SectionFrame]:
    with path.open("rb") as file, opened(file, limits) as (container, stream):
        return list(section_frames(container, stream, start_s, duration_s, limits, []))


@pytest.mark.parametrize("kind", KINDS)
def test_every_start_gives_the_frame_shown_there_and_increasing_times(tmp_path: Path, kind: str) -> None:
    path = KINDS[kind](tmp_path / "v")
    whole = section(path, 0.0, None)
    times = [shown.time_s for shown in whole]
    numbers = [number_in(shown.frame.to_ndarray(format="rgb24")) for shown in whole]
    period = round(SECONDS * RATE / 2) if kind == "mpegts, two recordings" else 256
    assert numbers == [number % period for number in range(round(SECONDS * RATE))]

    for tenths in range(round(SECONDS * 10)):
        start = Fraction(tenths, 10)
        found = section(path, tenths / 10, 0.3)
        first = bisect_right(times, start) - 1
        wanted = [first, *(index for index in range(first + 1, len(times)) if times[index] < start + Fraction(3, 10))]
        assert [number_in(shown.frame.to_ndarray(format="rgb24")) for shown in found] == [numbers[i] for i in wanted]
        assert [shown.time_s for shown in found] == [max(Fraction(0), times[index] - start) for index in wanted]
        assert found[0].ticks == 0
        assert all(before.ticks < after.ticks for before, after in pairwise(found)), tenths
        assert all(before.until_s == after.time_s for before, after in pairwise(found)), tenths
        assert found[-1].until_s == min(Fraction(3, 10), whole[-1].until_s - start)


def seen(path: Path, start_s: float, duration_s: float | None) -> list[int]:
    return [number_in(shown.frame.to_ndarray(format="rgb24")) for shown in section(path, start_s, duration_s)]


@pytest.mark.parametrize("before_the_wrap_s", [0.5, 3.0])
def test_time_stamps_that_wrap_in_the_middle_go_on(tmp_path: Path, before_the_wrap_s: float) -> None:
    first_s = 2**33 / 90_000 - before_the_wrap_s
    path = write_video(tmp_path / "v.ts", regular(125, 25, first_s), container="mpegts", keyframe_every=12)

    assert seen(path, 0.0, None) == list(range(125))
    for start_s in (0.4, 1.0, 2.0, 2.96, 3.4):
        assert seen(path, start_s, 0.2) == list(range(round(start_s * 25), round(start_s * 25) + 5)), start_s


def test_times_count_from_the_first_frame_that_can_be_decoded(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.ts", regular(150, 25), container="mpegts", keyframe_every=12)
    content = path.read_bytes()
    # Begins in the middle of a group of pictures, as a recording of a broadcast does.
    path.write_bytes(content[: 3 * 188] + content[len(content) // 5 // 188 * 188 :])

    whole = seen(path, 0.0, None)
    assert whole[0] > 12
    for start_s in (0.4, 1.96, 2.0, 2.04, 3.0):
        assert seen(path, start_s, 0.2) == whole[round(start_s * 25) :][:5], start_s


@pytest.mark.parametrize("codec", ["mjpeg", "mpeg4"])
def test_an_avi_cut_off_before_its_index_has_its_frames_at_every_start(tmp_path: Path, codec: str) -> None:
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    path = write_video(
        tmp_path / "v.avi", regular(150, 25), container="avi", codec=codec, pix_fmt=pix_fmt, keyframe_every=12
    )
    path.write_bytes(path.read_bytes()[: video_packets(path)[101].pos])

    assert seen(path, 0.0, None)[:100] == list(range(100))
    for start_s in (0.4, 1.0, 2.48, 3.2, 3.8):
        assert seen(path, start_s, 0.2) == list(range(round(start_s * 25), round(start_s * 25) + 5)), start_s


def test_a_gap_in_a_transport_stream_is_a_standing_picture_only_if_it_is_short(tmp_path: Path) -> None:
    for gap_s, wanted_s in ((5.0, 7), (3000.0, 2)):
        path = write_video(tmp_path / "v.ts", regular(25, 25), container="mpegts")
        later = write_video(tmp_path / "later.ts", regular(25, 25, 1 + gap_s), container="mpegts")
        path.write_bytes(path.read_bytes() + later.read_bytes())
        found = section(path, 0.0, None)
        assert [number_in(shown.frame.to_ndarray(format="rgb24")) for shown in found] == 2 * list(range(25))
        assert float(found[-1].until_s) == pytest.approx(wanted_s, abs=0.1)  # the muxer moves the first by its delay


def test_too_many_decoded_pixels_are_refused_and_many_small_frames_are_not(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", regular(100, 25))
    few = MediaLimits(max_decoded_pixels=64 * 64 * 60)

    assert len(section(path, 0.0, 1.0, few)) == 25
    with pytest.raises(MediaTooLargeError, match=r"key frame before the section .* choose a shorter section"):
        section(path, 0.0, 4.0, few)


@pytest.mark.parametrize(
    ("value", "exact"),
    [
        (0.1, Fraction(1, 10)),
        (10 / 30, Fraction(1, 3)),
        (0.1 * 3, Fraction(3, 10)),
        (5 * 1001 / 30000, Fraction(1001, 6000)),
    ],
)
def test_a_float_stands_for_a_decimal_or_a_quotient(value: float, exact: Fraction) -> None:
    assert exact_seconds(value) == exact


def test_the_time_stamp_of_the_first_frame_is_that_of_the_first_one_shown(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", regular(50, 25, 3.0))
    with path.open("rb") as file, opened(file, LIMITS) as (container, stream):
        assert stream.time_base is not None
        assert first_stamp(container, stream, LIMITS) == section(path, 0.0, 0.1)[0].frame.pts
        assert next(packet.pts for packet in container.demux(stream)) is not None
