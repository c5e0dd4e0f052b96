"""Re-encoding from any start: no failure, no two frames at one time, the first at 0, the end that of the section."""

from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path

import av
import pytest

from mmaudio_model.media.mux.encoding import output_time_base
from tests.unit.mmaudio_model.media.pictures import FIELDS, Source, frames_of, reencode

NTSC = Fraction(30000, 1001)
LENGTH_S = 1.6
KINDS = {
    "MP4": Source("mp4", "libx264", frames=40, options={"bf": "2"}),
    "fragmented MP4": Source("mp4", "libx264", frames=40, muxer={"movflags": "frag_keyframe+empty_moov"}),
    "MOV": Source("mov", "libx264", rate=NTSC, frames=48),
    "MKV": Source("mkv", "libx264", rate=NTSC, frames=48),
    "MKV 23.976": Source("mkv", "libx264", rate=Fraction(24000, 1001), frames=40),
    "WebM VP8": Source("webm", "libvpx", rate=NTSC, frames=48, options={"deadline": "realtime"}),
    "WebM VP9": Source("webm", "libvpx-vp9", rate=Fraction(24), frames=40, options={"deadline": "realtime"}),
    "TS": Source("ts", "libx264", rate=NTSC, frames=48),
    "TS MPEG-2": Source("ts", "mpeg2video", rate=Fraction(25), frames=40),
    "TS interlaced": Source("ts", "mpeg2video", rate=NTSC, frames=48, options=FIELDS, fields="tff"),
    "TS interlaced H.264": Source("ts", "libx264", frames=40, options=FIELDS, fields="tff"),
    "AVI": Source("avi", "mpeg4", rate=NTSC, frames=48),
    "AVI MJPEG": Source("avi", "mjpeg", "yuvj420p", frames=40),
    "variable rate": Source(
        "mp4", "libx264", frames=12, unit=Fraction(1, 90_000),
        ticks=(0, 3000, 3600, 9000, 20000, 40001, 60000, 70003, 90000, 110000, 130007, 140000),
    ),
}  # fmt: skip
STARTS_S = [0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1.1, 1.2, 1.4, 1 / 3, 0.0333667, 1.001, 1.48]


@pytest.mark.parametrize("kind", KINDS)
def test_any_start_gives_rising_times_from_zero_to_the_end(tmp_path: Path, kind: str) -> None:
    source = KINDS[kind].written(tmp_path / "source")
    with av.open(str(source)) as container:
        unit = container.streams.video[0].time_base
        assert unit is not None
        origin = min(frame.pts or 0 for frame in container.decode(video=0))
    with av.open(str(source)) as container:
        stamps = [
            ((frame.dts if KINDS[kind].kind == "avi" else frame.pts) or 0) * unit for frame in container.decode(video=0)
        ]
    stamps = (
        [stamp - origin * unit for stamp in stamps] if KINDS[kind].kind != "avi" else [s - stamps[0] for s in stamps]
    )
    for start_s, target in zip(STARTS_S, itertools.cycle(["mp4", "mov", "mp4", "mkv"]), strict=False):
        start, duration_s = Fraction(start_s).limit_denominator(1_000_000), round(LENGTH_S - start_s, 6)
        result = reencode(source, target, start_s=start_s, duration_s=duration_s)
        expected = [max(stamp - start, Fraction(0)) for stamp in stamps if stamp < start + Fraction(duration_s)]
        shown_before = sum(time == 0 for time in expected)
        expected = expected[max(0, shown_before - 1) :]

        times = [pts * result.unit for pts in result.pts]
        assert times[0] == 0
        assert all(later > earlier for earlier, later in itertools.pairwise(times))
        assert len(times) == len(expected), (start_s, target)
        assert max(abs(a - b) for a, b in zip(times, expected, strict=True)) <= Fraction(1, 900), start_s
        assert abs(result.end * result.unit - Fraction(duration_s)) < Fraction(1, 10_000)
        with av.open(str(result.path)) as container:
            stream = container.streams.video[0]
            assert len(list(container.decode(stream))) == len(times)
            if target != "mkv":
                assert stream.duration is not None
                assert stream.time_base is not None
                # MP4 adds up decoding times, which lack what is cut off the first frame.
                missing = Fraction(duration_s) - stream.duration * stream.time_base
                assert Fraction(-1, 1000) < missing < (1 if KINDS[kind].ticks else 1 / KINDS[kind].rate), start_s


@pytest.mark.parametrize(("rate", "kind"), [
    (Fraction(24000, 1001), "mp4"), (Fraction(24000, 1001), "mkv"), (NTSC, "ts"), (Fraction(60000, 1001), "mkv"),
    (Fraction(25), "avi"), (Fraction(60), "mp4"), (Fraction(50), "ts"),
])  # fmt: skip
def test_a_constant_rate_is_kept_exactly(tmp_path: Path, rate: Fraction, kind: str) -> None:
    source = Source(kind, "libx264", rate=rate, frames=48).written(tmp_path / "source")
    result = reencode(source, "mp4", duration_s=float(40 / rate))
    with av.open(str(result.path)) as container:
        stream = container.streams.video[0]
        assert (stream.average_rate, stream.base_rate) == (rate, rate)


def test_a_variable_rate_keeps_its_times_exactly(tmp_path: Path) -> None:
    source = KINDS["variable rate"].written(tmp_path / "source")
    result = reencode(source, "mp4", duration_s=1.6)
    again = [(frame.pts or 0) * (frame.time_base or 0) for frame in frames_of(result.path)]

    assert again == [Fraction(tick, 90_000) for tick in KINDS["variable rate"].ticks or ()]


def test_the_unit_of_time_is_exact_or_fine_and_never_too_fine() -> None:
    for base, start, duration, rate in itertools.product(
        [Fraction(1, 90_000), Fraction(1, 1000), Fraction(1001, 30_000), Fraction(1, 12_800), Fraction(1, 10_000_000)],
        [Fraction(0), Fraction(1, 3), Fraction(123_457, 1_000_000)],
        [Fraction(8), Fraction(7_999_999, 1_000_000)],
        [Fraction(25), Fraction(24_000, 1001), Fraction(19_001, 317)],
    ):
        unit = output_time_base(base, start, duration, rate)
        assert unit.numerator == 1
        assert unit.denominator <= 1_090_000
        times = [(Fraction(step) * base - start) / unit for step in (1, 7, 1000)]
        assert unit <= Fraction(1, 90_000) or all(time.denominator == 1 for time in times)
