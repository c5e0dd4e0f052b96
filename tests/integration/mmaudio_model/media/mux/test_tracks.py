"""Other sounds, subtitles, chapters, tags, timecode, cover and attachments: kept where the container can, or named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition

from mmaudio_model.media.audio import Sound
from mmaudio_model.media.media_warning import WarningCode
from mmaudio_model.media.mux.plan import MuxOptions, MuxPlan, plan_mux
from mmaudio_model.media.mux.writing import mux_video
from tests.unit.mmaudio_model.media.pictures import Source
from tests.unit.mmaudio_model.media.rich_videos import FONT, TITLE, write_rich
from tests.unit.mmaudio_model.media.videos import LIMITS, SOURCE_HZ, sine

SECONDS = 1.5
MP4_TEXT = "mov_text"


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("rich")
    return {
        name: write_rich(folder / f"rich.{name}", name, timecode="01:00:59:24") for name in ("mp4", "mov", "matroska")
    }


def mux(
    source: Path, out: Path, start_s: float, container: Any = "auto", *, keep_tracks: bool = True
) -> tuple[MuxPlan, list[str]]:
    """Mux a section; return the plan and what the result says of lost tracks."""
    options = MuxOptions(start_s, SECONDS, container, keep_tracks)
    with source.open("rb") as file:
        plan = plan_mux(file, options, LIMITS)
        assert MuxPlan.from_json(plan.to_json()) == plan
        sound = Sound.mono(sine(440, SECONDS, 16_000), 16_000)
        result = mux_video(file, sound, out, options=options, plan=plan, limits=LIMITS)
    assert [warning for warning in plan.warnings if warning not in result.warnings] == []
    return plan, [warning.text for warning in result.warnings if warning.code is WarningCode.TRACKS_DROPPED]


def kinds(path: Path) -> list[tuple[str, str]]:
    """Return kind and codec of the streams, without those that the muxer makes of chapters and timecodes."""
    with av.open(str(path)) as container:
        return [
            (_kind(stream), stream.codec_context.codec.canonical_name if stream.codec_context else "")
            for stream in container.streams
            if stream.type != "data"
        ]


def _kind(stream: Any) -> str:
    return "cover" if stream.disposition & Disposition.attached_pic else str(stream.type)


def click_s(path: Path) -> float:
    """Return when the loudest sample of the second sound plays."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[1]
        frames = list(container.decode(stream))
    samples = np.concatenate([np.abs(frame.to_ndarray().reshape(-1).astype(float)) for frame in frames])
    return float((frames[0].time or 0.0) + int(np.argmax(samples)) / SOURCE_HZ)


def texts(path: Path) -> list[tuple[float, float, str]]:
    """Return (time, duration, text) of the first subtitles."""
    found = []
    with av.open(str(path)) as container:
        stream = container.streams.subtitles[0]
        for packet in container.demux(stream):
            content = bytes(packet)
            if packet.size and content != b"\0\0":
                text = content[2:] if stream.codec_context.codec.canonical_name == MP4_TEXT else content
                base = packet.time_base
                assert packet.pts is not None
                assert packet.duration is not None
                found.append((float(packet.pts * base), float(packet.duration * base), text.decode()))
    return found


@pytest.mark.parametrize(("start_s", "first"), [(1.0, 0.2), (1.3, 0.0)])
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "mp4",
            [("video", "h264"), ("audio", "aac"), ("audio", "flac"), ("subtitle", "mov_text"), ("cover", "png")],
        ),
        ("mov", [("video", "h264"), ("audio", "aac"), ("audio", "alac"), ("subtitle", "mov_text")]),
        (
            "matroska",
            [
                ("video", "h264"),
                ("audio", "aac"),
                ("audio", "flac"),
                ("subtitle", "subrip"),
                ("subtitle", "ass"),
                ("attachment", ""),
                ("cover", "png"),
            ],
        ),
    ],
)
def test_a_container_keeps_what_it_had(
    tmp_path: Path, sources: dict[str, Path], name: str, expected: list[tuple[str, str]], start_s: float, first: float
) -> None:
    out = tmp_path / "out"
    plan, lost = mux(sources[name], out, start_s)

    assert plan.reencoded == (start_s != 1.0)
    assert lost == []
    assert kinds(out) == expected
    assert click_s(out) == pytest.approx(1.5 - start_s, abs=0.002)
    ((at_s, seconds, text),) = texts(out)
    assert text == "second"
    assert at_s == pytest.approx(first, abs=0.002)
    assert at_s + seconds == pytest.approx(min(SECONDS, 2.7 - start_s), abs=0.002)
    with av.open(str(out)) as container:
        titles = [
            (chapter["metadata"]["title"], float(chapter["start"] * (chapter["time_base"] or 0)))
            for chapter in container.chapters()
        ]
        assert titles == ([("two", 0.0)] if start_s == 1.0 else [("two", 0.0), ("three", pytest.approx(1.2))])
        tags = {key.lower(): value for key, value in container.metadata.items()}
        assert (tags["title"], tags["artist"]) == (TITLE, "A. Nonymous")
        assert tags["creation_time"] == "2024-05-06T07:08:09.000000Z"
        video, _, second = container.streams.video[0], *container.streams.audio
        assert (second.metadata["language"], second.disposition & Disposition.default) == ("fra", 0)
        timecode = {key.lower(): value for key, value in video.metadata.items()}["timecode"]
        assert timecode == plan.timecode == ("01:01:00:24" if start_s == 1.0 else "01:01:01:06")
        assert container.streams.audio[0].disposition & Disposition.default


@pytest.mark.parametrize(
    ("name", "container", "expected", "named"),
    [
        ("mp4", "mkv", ["video", "audio", "audio", "subtitle", "cover"], []),
        ("mp4", "mov", ["video", "audio", "subtitle"], ["audio track 2 (flac, fra)", "cover picture"]),
        (
            "matroska",
            "mp4",
            ["video", "audio", "audio", "subtitle", "subtitle", "cover"],
            ["the styles of subtitles 4 (ass, eng)", 'attachment "a.ttf"'],
        ),
        (
            "matroska",
            "webm",
            ["video", "audio", "subtitle", "subtitle"],
            ['audio track "commentary" (flac, fra)', 'attachment "a.ttf"', 'cover picture "cover.png"'],
        ),
    ],
)
def test_one_warning_names_what_another_container_cannot_keep(
    tmp_path: Path, sources: dict[str, Path], name: str, container: str, expected: list[str], named: list[str]
) -> None:
    plan, lost = mux(sources[name], tmp_path / "out", 1.0, container)

    assert [kind for kind, _ in kinds(tmp_path / "out")] == expected
    assert len(lost) == (1 if named else 0)
    assert len(plan.lost) >= len(named)
    for what in named:
        assert what in lost[0]
    assert texts(tmp_path / "out")[0][2] == "second"


def test_attachments_keep_their_bytes(tmp_path: Path, sources: dict[str, Path]) -> None:
    mux(sources["matroska"], tmp_path / "out", 1.0)
    with av.open(str(tmp_path / "out")) as container:
        (font,) = container.streams.attachments

        assert (font.name, font.mimetype, font.data) == ("a.ttf", "application/x-truetype-font", FONT)


@pytest.mark.parametrize("name", ["mp4", "matroska"])
def test_without_the_switch_there_is_only_the_video_with_its_sound(
    tmp_path: Path, sources: dict[str, Path], name: str
) -> None:
    _, lost = mux(sources[name], tmp_path / "out", 1.0, keep_tracks=False)

    assert lost == []
    assert [kind for kind, _ in kinds(tmp_path / "out")] == ["video", "audio"]
    with av.open(str(tmp_path / "out")) as container:
        assert container.chapters() == []
        assert "title" not in container.metadata


def test_equal_input_makes_equal_bytes(tmp_path: Path, sources: dict[str, Path]) -> None:
    for name in ("mp4", "matroska"):
        mux(sources[name], tmp_path / "one", 1.0)
        mux(sources[name], tmp_path / "two", 1.0)

        assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_data_track_of_a_camera_is_kept_in_mp4_and_named_elsewhere(tmp_path: Path, sources: dict[str, Path]) -> None:
    # A text track whose names are those of GoPro's telemetry.
    source = tmp_path / "gopro.mp4"
    source.write_bytes(sources["mp4"].read_bytes().replace(b"tx3g", b"gpmd").replace(b"sbtl", b"meta"))

    plan, lost = mux(source, tmp_path / "out", 1.0)
    assert ("data", lost) in [(track.kind, []) for track in plan.tracks]
    assert b"gpmd" in (tmp_path / "out").read_bytes()
    plan, lost = mux(source, tmp_path / "out", 1.0, "mkv")
    assert "data track 3" in lost[0]


def test_tags_of_apple_are_kept_under_their_names(tmp_path: Path) -> None:
    source = tmp_path / "v.mov"
    write_rich(tmp_path / "plain.mov", "mov")
    tags = {"com.apple.quicktime.location.ISO6709": "+52.5+013.4/", "com.apple.quicktime.model": "iPhone 15"}
    with (
        av.open(str(tmp_path / "plain.mov")) as plain,
        av.open(str(source), "w", format="mov", container_options={"movflags": "use_metadata_tags"}) as out,
    ):
        out.metadata.update(tags)
        copied = out.add_stream_from_template(plain.streams.video[0], opaque=True)
        for packet in plain.demux(plain.streams.video[0]):
            if packet.size:
                packet.stream = copied
                out.mux(packet)
    _, lost = mux(source, tmp_path / "out", 0.0)

    assert lost == []
    with av.open(str(tmp_path / "out")) as container:
        assert tags.items() <= container.metadata.items()


def test_a_tag_of_any_length_is_cut_and_named(tmp_path: Path, sources: dict[str, Path]) -> None:
    source = tmp_path / "long.mkv"
    with av.open(str(sources["matroska"])) as plain, av.open(str(source), "w", format="matroska") as out:
        out.metadata["comment"] = "long " * 10_000
        copied = out.add_stream_from_template(plain.streams.video[0], opaque=True)
        for packet in plain.demux(plain.streams.video[0]):
            if packet.size:
                packet.stream = copied
                out.mux(packet)
    _, lost = mux(source, tmp_path / "out", 0.0)

    assert "tags that are too long (COMMENT)" in lost[0]
    with av.open(str(tmp_path / "out")) as container:
        assert len({key.lower(): value for key, value in container.metadata.items()}["comment"]) == 20_000


def test_a_track_that_fails_at_the_write_is_left_out_with_a_word(
    tmp_path: Path, sources: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = MuxOptions(1.0, SECONDS)
    with sources["mp4"].open("rb") as file:
        plan = plan_mux(file, options, LIMITS)

        def refused(*_: object, **__: object) -> Any:
            raise av.error.ArgumentError(22, "Invalid argument")

        monkeypatch.setattr("mmaudio_model.media.mux.tracks.rewritten", refused)
        monkeypatch.setattr("mmaudio_model.media.mux.tracks._moved", refused)
        sound = Sound.mono(sine(440, SECONDS, 16_000), 16_000)
        result = mux_video(file, sound, tmp_path / "out", options=options, plan=plan, limits=LIMITS)

    assert not result.reencoded
    assert [kind for kind, _ in kinds(tmp_path / "out")] == ["video", "audio"]
    (warning,) = result.warnings
    assert warning.code is WarningCode.TRACKS_DROPPED
    assert "audio track 2 (flac, fra)" in warning.text


@pytest.mark.parametrize(("target", "named"), [("mp4", True), ("auto", False), ("mkv", False)])
def test_transparency_that_a_copy_cannot_take_is_named(tmp_path: Path, target: str, named: bool) -> None:
    source = Source(
        "webm", "libvpx-vp9", "yuva420p", frames=25, transparent=True, metadata={"alpha_mode": "1"},
        options={"auto-alt-ref": "0", "deadline": "realtime"},
    ).written(tmp_path / "source")  # fmt: skip
    plan, lost = mux(source, tmp_path / "out", 0.0, target)

    assert not plan.reencoded
    assert ["transparency" in text for text in lost] == [True] * named
