"""What describes a picture is the same after it is encoded again, or a warning names it."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame

from mmaudio_model.errors import MediaTooLargeError, RequestInvalidError
from mmaudio_model.media.mux.encoder_choice import EncoderSettings, encoding_for
from mmaudio_model.media.mux.encoding_memory import encoding_memory_bytes
from mmaudio_model.media.mux.picture_facts import FieldOrder, PictureFacts
from tests.unit.mmaudio_model.media.pictures import (
    FIELDS,
    HDR,
    HLG,
    MASTERING,
    SD,
    X265,
    X265_HDR,
    Source,
    facts_of,
    frames_of,
    reencode,
)

ANAMORPHIC = {**SD, "sample_aspect_ratio": Fraction(4, 3)}
TOP, BOTTOM = {"field_order": 2}, {"field_order": 3}
SOURCES = {
    "PQ": Source("mkv", "libx265", "yuv420p10le", options=X265_HDR, tags=HDR),
    "HLG 4:2:2": Source("mp4", "libx265", "yuv422p10le", options=X265, tags=HLG),
    "anamorphic": Source("mp4", "libx264", tags=ANAMORPHIC),
    "upper field first": Source("ts", "mpeg2video", options=FIELDS, tags=TOP, fields="tff"),
    "lower field first": Source("ts", "mpeg2video", options=FIELDS, tags=BOTTOM, fields="bff"),
    "interlaced H.264": Source("mp4", "libx264", options={**FIELDS, "x264-params": "bff=1"}, tags=BOTTOM, fields="bff"),
    "interlaced 4:2:2 10 bits": Source("mov", "libx264", "yuv422p10le", options=FIELDS, tags=TOP, fields="tff"),
    "turned": Source("mp4", "libx264", turned=(90, False, False)),
    "turned and mirrored": Source("mov", "libx264", turned=(90, True, False)),
    "mirrored": Source("mkv", "libx264", turned=(0, True, False)),
    "ProRes 4444": Source("mov", "prores_ks", "yuva444p10le", options={"profile": "4"}, transparent=True),
    "PNG": Source("mov", "png", "rgba", transparent=True),
    "full range": Source("avi", "mjpeg", "yuvj422p"),
    "odd RGB": Source("mkv", "ffv1", "bgr0", size=(63, 47)),
    "odd": Source("mkv", "ffv1", "yuv420p", size=(63, 47)),
    "grey": Source("mkv", "ffv1", "gray10le"),
    "12 bits": Source("mkv", "ffv1", "yuv444p12le", tags={"colorspace": 1}),
    "DV": Source("avi", "dvvideo", "yuv411p", size=(720, 480), rate=Fraction(30000, 1001), frames=3),
    "GIF": Source("gif", "gif", "rgb8"),
    "23.976": Source("mp4", "libx264", rate=Fraction(24000, 1001)),
    "59.94": Source("ts", "libx264", rate=Fraction(60000, 1001), frames=25),
}
TARGETS = ("mp4", "mov", "mkv", "webm")
# The word by which a warning names that a property has changed.
NAMES = {
    "chroma": ("chroma", "RGB"),
    "depth": ("bits",),
    "size": ("pixels",),
    "sample_aspect": ("square",),
    "fields": ("fields",),
    "hdr": ("HDR metadata",),
    "alpha": ("transparent",),
    "colour": ("RGB",),
}


def luma(frame: VideoFrame) -> np.ndarray:
    """Return the brightness samples of a planar frame with 8 bits."""
    plane = frame.planes[0]
    samples: np.ndarray = np.frombuffer(bytes(plane), np.uint8)
    return samples.reshape(frame.height, plane.line_size)[:, : frame.width]


def described(facts: PictureFacts) -> dict[str, Any]:
    """Return the properties to compare; limited range and square pixels are what files without a word mean."""
    yuv = facts.chroma != "rgb"
    return {
        "chroma": "4:2:0" if facts.chroma == "gray" else facts.chroma,
        "depth": facts.depth,
        "size": (facts.width, facts.height),
        "sample_aspect": facts.sample_aspect or 1,
        "fields": (facts.field_order.interlaced, facts.field_order.interlaced and facts.field_order.top_first),
        "hdr": facts.hdr,
        "alpha": facts.transparent,
        "colour": (facts.primaries, facts.transfer, facts.matrix if yuv else "rgb", facts.color_range == 2 and yuv),
        "rotation": facts.display_matrix,
    }


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", [name for name in SOURCES if name != "GIF"])
def test_what_describes_the_picture_is_kept_or_named(tmp_path: Path, name: str, target: str) -> None:
    source = SOURCES[name].written(tmp_path / "source")
    result = reencode(source, target, duration_s=0.1)
    before, after = described(facts_of(source)), described(facts_of(result.path))
    if before["alpha"] and target in {"mkv", "webm"}:
        # FFmpeg's own VP9 decoder leaves transparency out.
        after["alpha"] = frames_of(result.path, "libvpx-vp9")[0].format.name == "yuva420p"
    if facts_of(result.path).codec == "prores":
        before["depth"] = after["depth"]  # the file has 10 bits, which FFmpeg decodes into 12

    words = " ".join(result.warnings)
    for key, value in before.items():
        if after[key] != value:
            assert any(word in words for word in NAMES.get(key, ())), (key, value, after[key], words)


@pytest.mark.parametrize("target", ["mp4", "mov", "mkv"])
@pytest.mark.parametrize("name", ["PQ", "HLG 4:2:2"])
def test_hdr_stays_hdr(tmp_path: Path, name: str, target: str) -> None:
    result = reencode(SOURCES[name].written(tmp_path / "source"), target, duration_s=0.2)
    facts = facts_of(result.path)

    assert (facts.codec, facts.depth) == ("hevc", 10)
    assert facts.transfer == SOURCES[name].tags["color_trc"]
    if name == "PQ":
        assert (facts.hdr.mastering_display, facts.hdr.content_light) == (MASTERING, "1000,400")
    if target != "mkv":
        with av.open(str(result.path)) as container:
            assert container.streams.video[0].codec_context.codec_tag == "hvc1"


def test_mp4_is_for_players_and_mov_for_editors(tmp_path: Path) -> None:
    source = Source("mov", "prores_ks", "yuv422p10le", options={"profile": "3"}).written(tmp_path / "source")

    for_players, for_editors = facts_of(reencode(source, "mp4").path), facts_of(reencode(source, "mov").path)
    assert (for_players.codec, for_players.pix_fmt) == ("h264", "yuv420p")
    assert (for_editors.codec, for_editors.pix_fmt) == ("hevc", "yuv422p10le")
    assert "4:2:0 instead of 4:2:2" in reencode(source, "mp4").warnings[0]
    assert reencode(source, "mov").warnings == ()


@pytest.mark.parametrize("target", ["mov", "webm"])
@pytest.mark.parametrize("name", ["ProRes 4444", "PNG"])
def test_transparency_is_kept_where_the_container_can(tmp_path: Path, name: str, target: str) -> None:
    result = reencode(SOURCES[name].written(tmp_path / "source"), target)
    frame = frames_of(result.path, "libvpx-vp9" if target == "webm" else None)[0]
    alpha = frame.to_ndarray(format="rgba")[..., 3]

    assert alpha[:, :28].max() < 8
    assert alpha[:, 36:].min() > 247
    assert "transparency" in result.description


@pytest.mark.parametrize("start_s", [0.0, 0.1, 2.5])
def test_transparency_of_a_webm_is_kept_in_webm(tmp_path: Path, start_s: float) -> None:
    source = Source(
        "webm", "libvpx-vp9", "yuva420p", frames=75, transparent=True, metadata={"alpha_mode": "1"},
        options={"auto-alt-ref": "0", "deadline": "realtime", "g": "25"},
    ).written(tmp_path / "source")  # fmt: skip
    result = reencode(source, "webm", start_s=start_s)
    frames = frames_of(result.path, "libvpx-vp9")

    assert result.warnings == ()
    assert len(frames) == len(result.pts) == 10 + (start_s > 0)
    for frame in frames:
        alpha = frame.to_ndarray(format="rgba")[..., 3]
        assert alpha[:, :28].max() < 8
        assert alpha[:, 36:].min() > 247


@pytest.mark.parametrize("name", ["ProRes 4444", "PNG"])
def test_in_mp4_transparent_parts_are_black_and_named(tmp_path: Path, name: str) -> None:
    result = reencode(SOURCES[name].written(tmp_path / "source"), "mp4")
    picture = frames_of(result.path)[0].to_ndarray(format="rgb24")

    assert picture[:, :28].max() < 24
    assert picture[:, 40:].max() > 150
    assert "transparent parts are shown on black" in result.warnings[0]


def test_a_format_with_transparency_that_is_not_used_has_nothing_to_name(tmp_path: Path) -> None:
    result = reencode(Source("mov", "png", "rgba").written(tmp_path / "source"), "mp4")

    assert result.warnings == ("Encoding changed the picture: RGB is stored as YUV 4:2:0.",)


@pytest.mark.parametrize(("pix_fmt", "matrix"), [("yuv444p", 5), ("yuvj444p", 1), ("bgr0", 2), ("yuv422p", 2)])
@pytest.mark.parametrize("target", TARGETS)
def test_colours_stay(tmp_path: Path, pix_fmt: str, matrix: int, target: str) -> None:
    full = {"color_range": 2} if pix_fmt == "yuvj444p" else {}
    codec = "mjpeg" if pix_fmt == "yuvj444p" else "ffv1"
    source = Source("mkv", codec, pix_fmt, tags={"colorspace": matrix, **full}).written(tmp_path / "source")
    result = reencode(source, target, settings=EncoderSettings(crf=1))
    if pix_fmt == "bgr0":
        before = frames_of(source)[0].to_ndarray(format="rgb24")
        after = frames_of(result.path)[0].to_ndarray(format="rgb24", src_colorspace="itu709")
    else:
        # Samples, not colours: nothing may convert matrix or range.
        before, after = luma(frames_of(source)[0]), luma(frames_of(result.path)[0])
    assert np.abs(before.astype(int) - after.astype(int)).mean() < 4


def test_odd_sides_lose_a_row_and_a_column_and_nothing_is_scaled(tmp_path: Path) -> None:
    source = SOURCES["odd"].written(tmp_path / "source")
    result = reencode(source, "mp4", settings=EncoderSettings(crf=1))
    before, after = (frames_of(path)[0].to_ndarray(format="gray") for path in (source, result.path))

    assert after.shape == (46, 62)
    assert np.abs(before[:46, :62].astype(int) - after.astype(int)).max() < 12
    assert "62x46 pixels instead of 63x47" in result.warnings[0]
    assert facts_of(reencode(SOURCES["odd RGB"].written(tmp_path / "rgb"), "mov").path).width == 63


def test_webm_shows_an_anamorphic_picture_in_its_shape(tmp_path: Path) -> None:
    result = reencode(SOURCES["anamorphic"].written(tmp_path / "source"), "webm")
    facts = facts_of(result.path)

    assert (facts.width, facts.height) == (85, 48)
    assert "85x48 pixels instead of 64x48" in result.warnings[0]


@pytest.mark.parametrize("order", ["tff", "bff"])
def test_lines_of_two_fields_are_not_mixed_when_chroma_is_converted(tmp_path: Path, order: str) -> None:
    source = Source(
        "mov", "prores_ks", "yuv422p10le", options={"flags": "+ildct"}, tags=TOP if order == "tff" else BOTTOM,
        fields=order,
    ).written(tmp_path / "source")  # fmt: skip
    result = reencode(source, "mp4")

    assert facts_of(result.path).field_order == (FieldOrder.TOP_TOP if order == "tff" else FieldOrder.BOTTOM_BOTTOM)
    assert all(frame.interlaced_frame for frame in frames_of(result.path))


def test_a_size_that_changes_is_fitted_into_the_first_and_named(tmp_path: Path) -> None:
    parts = [Source("ts", "mpeg2video", size=size).written(tmp_path / str(size)) for size in ((64, 48), (48, 48))]
    source = tmp_path / "source"
    source.write_bytes(b"".join(part.read_bytes() for part in parts))
    result = reencode(source, "mp4", duration_s=0.8)
    frames = frames_of(result.path)

    assert {(frame.width, frame.height) for frame in frames} == {(64, 48)}
    if len(frames) > 10:  # where time stamps restart, the second part may be left out
        assert frames[-1].to_ndarray(format="rgb24")[:, :6].max() < 40
        assert "the size or shape of 10 frames differs" in result.warnings[-1]


def test_damaged_frames_are_skipped_and_counted(tmp_path: Path) -> None:
    source = Source("mkv", "mjpeg", "yuvj420p").written(tmp_path / "source")
    content = source.read_bytes()
    with av.open(str(source)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    for packet in packets[4:6]:
        content = content.replace(packet, bytes(len(packet)))
    source.write_bytes(content)
    result = reencode(source, "mp4")

    assert "2 parts of the video are damaged and were skipped" in result.warnings[0]
    assert len(result.pts) == 8


def test_settings_of_the_encoder_are_checked_and_used(tmp_path: Path) -> None:
    with pytest.raises(RequestInvalidError, match="0 to 51"):
        EncoderSettings(crf=52)
    with pytest.raises(RequestInvalidError, match="veryfast"):
        EncoderSettings(preset="quick")
    with pytest.raises(RequestInvalidError, match="mp4, mov, mkv, webm"):
        encoding_for(facts_of(SOURCES["turned"].written(tmp_path / "t")), "avi", EncoderSettings())
    source = SOURCES["odd"].written(tmp_path / "source")
    sizes = [
        reencode(source, target, settings=EncoderSettings(crf=crf, preset="fast")).path.stat().st_size
        for target in ("mp4", "webm")
        for crf in (0, 40)
    ]
    assert sizes[0] > sizes[1]
    assert sizes[2] > sizes[3]


def test_every_preset_and_large_pictures_have_options_that_encoders_take(tmp_path: Path) -> None:
    facts = facts_of(SOURCES["PQ"].written(tmp_path / "source"))
    assert encoding_for(facts, "mp4", EncoderSettings()).codec == "libx265"
    for preset in ("ultrafast", "superfast", "faster", "medium", "slow", "slower", "veryslow"):
        for name in ("PQ", "turned", "upper field first"):
            source = SOURCES[name].written(tmp_path / name)
            for target in ("mp4", "webm"):
                assert len(reencode(source, target, duration_s=0.1, settings=EncoderSettings(preset=preset)).pts) >= 3


def test_a_picture_that_needs_more_memory_than_there_is_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = SOURCES["turned"].written(tmp_path / "source")
    needed = encoding_memory_bytes(64, 48, "libx264", 8)
    monkeypatch.setattr("resource.getrlimit", lambda _: (needed - 1, needed - 1))

    with pytest.raises(MediaTooLargeError, match=r"64x48 pixels.*GiB.*key frame"):
        reencode(source, "mp4")
    assert encoding_memory_bytes(7680, 4320, "libx265", 10) > encoding_memory_bytes(7680, 4320, "libx264", 8)
