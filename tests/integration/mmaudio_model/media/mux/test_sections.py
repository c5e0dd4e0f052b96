"""Every section of every container gets its sound: the right first frame, and a picture as long as the sound."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame

from mmaudio_model.media.audio import Sound
from mmaudio_model.media.mux.plan import MuxOptions, plan_mux
from mmaudio_model.media.mux.writing import mux_video
from tests.unit.mmaudio_model.media.videos import LIMITS, number_in, numbered

RATE = 25
FRAMES = 60
SECTION_S = Fraction(52, 100)
SOUND_HZ = 16_000

X264 = {"crf": "10", "threads": "1", "sc_threshold": "0", "bf": "3"}
OPEN_GOP = {**X264, "x264-params": "open-gop=1:keyint=10:scenecut=0:bframes=3:b-pyramid=normal:b-adapt=0"}
ALT_REF = {"auto-alt-ref": "1", "lag-in-frames": "16", "cpu-used": "8", "b": "500k"}
KINDS: dict[str, tuple[str, str, dict[str, str], dict[str, str]]] = {
    "mp4": ("mp4", "libx264", X264, {}),
    "fragmented mp4": ("mp4", "libx264", X264, {"movflags": "frag_keyframe+empty_moov+default_base_moof"}),
    "mov": ("mov", "prores_ks", {}, {}),
    "mkv": ("matroska", "libx264", OPEN_GOP, {}),
    "mkv mpeg4": ("matroska", "mpeg4", {"bf": "2", "qscale": "2"}, {}),
    "webm vp8": ("webm", "libvpx", ALT_REF, {}),
    "webm vp9": ("webm", "libvpx-vp9", ALT_REF, {}),
    "ts": ("mpegts", "libx264", OPEN_GOP, {}),
    "m2ts": ("mpegts", "libx264", {**X264, "flags": "+ildct+ilme"}, {"mpegts_m2ts_mode": "1"}),
    "avi": ("avi", "libx264", {**X264, "bf": "0"}, {}),
    "flv": ("flv", "libx264", X264, {}),
    "mxf": ("mxf", "mpeg2video", {"bf": "2", "b": "5M"}, {}),
}


def write(path: Path, kind: str) -> Path:
    container, codec, options, muxer = KINDS[kind]
    pix_fmt = "yuv422p10le" if codec == "prores_ks" else "yuv420p"
    with av.open(str(path), "w", format=container, container_options=muxer) as out:
        stream: Any = out.add_stream(codec, rate=RATE, options=options)
        stream.width = stream.height = 64
        stream.pix_fmt = pix_fmt
        stream.codec_context.gop_size = 10
        stream.codec_context.time_base = Fraction(1, RATE)
        for index in range(FRAMES):
            frame = VideoFrame.from_ndarray(numbered(index), format="rgb24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = index, Fraction(1, RATE)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def shown_frames(path: Path) -> tuple[list[Fraction], list[int]]:
    """Return times and numbers of the frames that a player shows."""
    times: list[Fraction] = []
    seen: list[int] = []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            assert frame.pts is not None
            assert frame.time_base is not None
            times.append(Fraction(frame.pts * frame.time_base))
            seen.append(number_in(frame.to_ndarray(format="rgb24")))
    return times, seen


@pytest.mark.parametrize("kind", KINDS)
def test_each_start_has_its_frame_and_its_length(tmp_path: Path, kind: str) -> None:
    source, out = write(tmp_path / "source", kind), tmp_path / "out"
    copied = 0
    for tenth in range(22):
        start = Fraction(tenth, 10)
        length = min(SECTION_S, Fraction(FRAMES, RATE) - start)
        options = MuxOptions(float(start), float(length))
        sound = Sound.mono(np.zeros(round(length * SOUND_HZ), np.float32), SOUND_HZ)
        with source.open("rb") as file:
            plan = plan_mux(file, options, LIMITS)
            result = mux_video(file, sound, out, options=options, plan=plan, limits=LIMITS)
        times, seen = shown_frames(out)

        assert result.reencoded == plan.reencoded
        copied += not result.reencoded
        assert times[0] == 0
        assert seen[0] == math.floor(start * RATE)
        shown = math.ceil(length * RATE)
        # Where a frame cannot be hidden, one that others need may be shown for a moment at the end.
        assert seen[: shown - 1] == list(range(seen[0], seen[0] + shown - 1))
        assert length - Fraction(1, RATE) - Fraction(2, 1000) <= times[-1] < length
    # In an open group of pictures, only the file's start needs nothing from before.
    assert copied >= (1 if KINDS[kind][2] is OPEN_GOP else 4), "starts on key frames are copied"


def test_time_stamps_that_wrap_within_the_section_are_copied(tmp_path: Path) -> None:
    wrap_s = 2**33 / 90_000
    offset = f"{wrap_s - 1.0:.3f}"
    KINDS["wrapping"] = ("mpegts", "libx264", X264, {"output_ts_offset": offset})
    source = write(tmp_path / "source.ts", "wrapping")
    options = MuxOptions(0.0, 2.0)
    with source.open("rb") as file:
        sound = Sound.mono(np.zeros(2 * SOUND_HZ, np.float32), SOUND_HZ)
        result = mux_video(file, sound, tmp_path / "out", options=options, limits=LIMITS)
    times, seen = shown_frames(tmp_path / "out")

    assert not result.reencoded
    assert seen == list(range(50))
    assert times[-1] == Fraction(49, 25)
