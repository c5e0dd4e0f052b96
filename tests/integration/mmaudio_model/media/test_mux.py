"""The video with its new sound: copied where that can be done, encoded again where not, and never out of step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.packet import Packet

from mmaudio_model.errors import MediaInvalidError, MediaTooLargeError
from mmaudio_model.media.audio import Sound
from mmaudio_model.media.media_warning import WarningCode
from mmaudio_model.media.mux.plan import MuxOptions
from mmaudio_model.media.mux.result_container import CONTAINERS, ResultContainer
from mmaudio_model.media.mux.writing import MuxResult, mux_video
from mmaudio_model.media.probe import MediaLimits
from tests.unit.mmaudio_model.media.videos import (
    LIMITS,
    SIDE,
    SOURCE_HZ,
    WatchedFile,
    numbers,
    read,
    regular,
    sine,
    sound_of,
    strength,
    video_packets,
    with_edit_list,
    write_video,
)

RATE = 16_000
NEW_HZ, OLD_HZ = 440, 1000


def mux(
    source: Path,
    *,
    start_s: float = 0.0,
    duration_s: float = 2.0,
    container: Any = "auto",
    keep_tracks: bool = True,
    waveform: np.ndarray | None = None,
    limits: MediaLimits = LIMITS,
) -> tuple[Path, MuxResult]:
    """Mux a sine, unless a waveform is given, with a section of a video; the result lies beside it."""
    out = source.with_name("out")
    sound = waveform if waveform is not None else sine(NEW_HZ, duration_s, RATE)
    with source.open("rb") as file:
        options = MuxOptions(start_s, duration_s, container, keep_tracks)
        result = mux_video(file, Sound.mono(sound, RATE), out, options=options, limits=limits)
    return out, result


def reencoded(result: MuxResult) -> str:
    """Return what a result says of being encoded again."""
    return next(
        (warning.text for warning in result.warnings if warning.code is WarningCode.VIDEO_REENCODED), "it was copied"
    )


def contents(packets: list[Packet]) -> list[bytes]:
    return [bytes(packet) for packet in packets]


@pytest.mark.parametrize(
    ("container", "codec", "kind"),
    [
        ("mp4", "libx264", "mp4"),
        ("mov", "libx264", "mov"),
        ("matroska", "libx264", "mkv"),
        ("mp4", "libx265", "mp4"),
        ("mp4", "libsvtav1", "mp4"),
        ("webm", "libvpx-vp9", "webm"),
        ("webm", "libvpx", "webm"),
    ],
)
def test_the_video_is_copied_byte_for_byte(tmp_path: Path, container: str, codec: str, kind: str) -> None:
    source = write_video(tmp_path / "v", regular(50, 25), container=container, codec=codec)
    out, result = mux(source)

    assert result == MuxResult(
        format=kind, content_type=CONTAINERS[ResultContainer(kind)].content_type, reencoded=False
    )
    assert contents(video_packets(out)) == contents(video_packets(source))
    video = read(out, duration_s=2.0)
    assert numbers(video.sync) == list(range(50))
    assert video.duration_s == 2.0


def test_a_transport_stream_is_copied_with_the_length_of_its_last_frame(tmp_path: Path) -> None:
    out, result = mux(write_video(tmp_path / "v.ts", regular(50, 25), container="mpegts"))

    assert not result.reencoded
    video = read(out, duration_s=5.0)
    assert numbers(video.sync) == list(range(50))
    assert video.duration_s == pytest.approx(2.0, abs=1e-4)


def test_a_variable_frame_rate_is_kept(tmp_path: Path) -> None:
    times = [0.0, 0.04, 0.3, 0.36, 0.9, 1.0, 1.6]
    source = write_video(tmp_path / "v.mp4", times)
    out, _ = mux(source, duration_s=1.6)
    with av.open(str(out)) as container:
        assert [frame.time for frame in container.decode(video=0)][:6] == pytest.approx(times[:6], abs=1e-4)


@pytest.mark.parametrize(
    ("codec", "kind", "audio_codec"),
    [("libx264", "mp4", "aac"), ("libvpx", "webm", "opus"), ("ffv1", "mkv", "aac"), ("ffv1", "mp4", "aac")],
)
def test_the_new_sound_is_there_as_long_as_the_video(tmp_path: Path, codec: str, kind: str, audio_codec: str) -> None:
    source = write_video(tmp_path / "v.mkv", regular(50, 25), container="matroska", codec=codec)
    out, result = mux(source, container=kind)

    assert result.format == kind
    with av.open(str(out)) as container:
        assert [stream.type for stream in container.streams] == ["video", "audio"]
        assert container.streams.audio[0].codec_context.name in {audio_codec, f"lib{audio_codec}"}
        assert container.streams.audio[0].layout.name == "mono"
    sound, rate = sound_of(out)
    assert sound.shape[1] / rate == pytest.approx(2.0, abs=0.1)
    assert strength(sound[0], rate, NEW_HZ) == pytest.approx(0.25, rel=0.05)


def test_the_index_of_an_mp4_comes_before_its_data(tmp_path: Path) -> None:
    for codec in ("libx264", "ffv1"):
        source = write_video(tmp_path / "v.mkv", regular(25, 25), container="matroska", codec=codec)
        content = mux(source, duration_s=1.0, container="mp4")[0].read_bytes()
        assert 0 < content.index(b"moov") < content.index(b"mdat")


def test_a_stretch_from_a_key_frame_is_cut_on_packets(tmp_path: Path) -> None:
    source = write_video(tmp_path / "v.mp4", regular(100, 25), keyframe_every=25)
    out, result = mux(source, start_s=1.0, duration_s=1.0)

    assert not result.reencoded
    copied, whole = contents(video_packets(out)), contents(video_packets(source))
    assert copied == whole[25 : 25 + len(copied)]
    assert len(copied) in range(25, 29)  # and the key frame behind it, if reordered frames need it
    assert numbers(read(out, duration_s=1.0).sync) == list(range(25, 50))


def test_a_cut_end_keeps_the_packets_that_shown_frames_need(tmp_path: Path) -> None:
    source = write_video(tmp_path / "v.mp4", regular(50, 25), options={"bf": "3", "b_adapt": "0"})
    for frames in range(1, 12):
        out, result = mux(source, duration_s=frames / 25)
        assert not result.reencoded
        assert numbers(read(out, duration_s=frames / 25).sync) == list(range(frames))
        assert len(video_packets(out)) <= frames + 4


@pytest.mark.parametrize("start_s", [0.8, 2.4])
def test_a_stretch_from_another_frame_is_encoded_again_and_says_so(tmp_path: Path, start_s: float) -> None:
    source = write_video(tmp_path / "v.mp4", regular(100, 25), keyframe_every=25)
    out, result = mux(source, start_s=start_s, duration_s=1.0)

    assert result.reencoded
    assert reencoded(result) == "The video was re-encoded: the section does not start on a key frame."
    first = round(start_s * 25)
    assert numbers(read(out, duration_s=1.0).sync) == list(range(first, first + 25))


@pytest.mark.parametrize(("container", "codec"), [("avi", "ffv1"), ("avi", "mjpeg"), ("avi", "rawvideo")])
def test_a_codec_that_players_do_not_know_is_encoded_again_and_named(
    tmp_path: Path, container: str, codec: str
) -> None:
    pix_fmt = {"mjpeg": "yuvj420p", "rawvideo": "bgr24"}.get(codec, "yuv420p")
    source = write_video(tmp_path / "v", regular(50, 25), container=container, codec=codec, pix_fmt=pix_fmt)
    out, result = mux(source)

    assert (result.format, result.reencoded) == ("mp4", True)
    assert reencoded(result) == f"The video was re-encoded: players do not accept its codec ({codec}) in MP4 or WebM."
    assert numbers(read(out, duration_s=2.0).sync) == list(range(50))


def test_odd_sides_are_made_even_when_a_video_is_encoded_again(tmp_path: Path) -> None:
    odd = [np.full((SIDE + 1, SIDE - 1, 3), 128, dtype=np.uint8)] * 10
    source = write_video(
        tmp_path / "v.mkv", regular(10, 25), pictures=odd, container="matroska", codec="ffv1", pix_fmt="bgr0"
    )
    out, _ = mux(source, duration_s=0.4, container="mp4")
    with av.open(str(out)) as container:
        assert (container.streams.video[0].width, container.streams.video[0].height) == (SIDE - 2, SIDE)


@pytest.mark.parametrize("degrees", [90, 180, -90])
@pytest.mark.parametrize(("codec", "start_s"), [("libx264", 0.0), ("libx264", 0.2), ("libsvtav1", 0.0)])
def test_a_rotated_video_stays_rotated_copied_or_not(tmp_path: Path, degrees: int, codec: str, start_s: float) -> None:
    source = write_video(tmp_path / "v.mp4", regular(50, 25), codec=codec, rotation=degrees)
    out, result = mux(source, start_s=start_s, duration_s=1.0)

    assert result.reencoded == (start_s > 0)
    with av.open(str(source)) as before, av.open(str(out)) as after:
        assert abs(next(before.decode(video=0)).rotation) == abs(degrees)
        assert next(after.decode(video=0)).rotation == next(before.decode(video=0)).rotation


def test_reordered_pictures_of_an_avi_are_put_in_order(tmp_path: Path) -> None:
    source = write_video(tmp_path / "v.avi", regular(50, 25), container="avi", options={"bf": "3"})
    out, result = mux(source)

    assert reencoded(result) == "The video was re-encoded: AVI files have no presentation times."
    assert numbers(read(out, duration_s=2.0).sync) == list(range(50))


def test_two_recordings_in_one_file_are_not_copied_as_they_are(tmp_path: Path) -> None:
    source = write_video(tmp_path / "v.ts", regular(25, 25), container="mpegts")
    source.write_bytes(source.read_bytes() * 2)
    out, result = mux(source, duration_s=2.0)

    assert reencoded(result) == "The video was re-encoded: its time stamps are out of order."
    assert numbers(read(out, duration_s=2.0).sync) == list(range(25)) * 2


def test_recordings_with_a_long_pause_between_their_times_are_shown_one_after_the_other(tmp_path: Path) -> None:
    parts = [
        write_video(
            tmp_path / f"{begin}.ts", regular(25, 25), container="mpegts", muxer_options={"output_ts_offset": begin}
        )
        for begin in ("0", "100")
    ]
    source = tmp_path / "v.ts"
    source.write_bytes(b"".join(part.read_bytes() for part in parts))
    out, result = mux(source, duration_s=2.0)

    assert reencoded(result) == "The video was re-encoded: its time stamps restart within the section."
    assert numbers(read(out, duration_s=2.0).sync) == list(range(25)) * 2


def test_what_an_edit_list_hides_at_the_beginning_stays_hidden(tmp_path: Path) -> None:
    source = with_edit_list(write_video(tmp_path / "v.mp4", regular(50, 25)), [(1.0, 1.08)])
    out, result = mux(source, duration_s=1.0)

    assert not result.reencoded
    assert numbers(read(out, duration_s=2.0).sync) == list(range(25, 50))
    sound, rate = sound_of(out)
    assert sound.shape[1] / rate == pytest.approx(1.0, abs=0.1)


def test_an_empty_edit_is_dropped_so_that_sound_and_picture_begin_together(tmp_path: Path) -> None:
    source = with_edit_list(write_video(tmp_path / "v.mp4", regular(50, 25)), [(3.0, None), (2.0, 0.08)])
    out, result = mux(source)

    assert not result.reencoded
    with av.open(str(out)) as container:
        assert next(container.decode(video=0)).time == 0.0


def test_an_edit_list_that_leaves_out_the_middle_is_obeyed(tmp_path: Path) -> None:
    source = with_edit_list(
        write_video(tmp_path / "v.mp4", regular(75, 25), keyframe_every=25), [(0.8, 0.08), (0.8, 2.08)]
    )
    seen = numbers(read(source, duration_s=1.6).sync)
    out, result = mux(source, duration_s=1.6)

    assert reencoded(result) == "The video was re-encoded: its edit list skips parts of the video."
    assert numbers(read(out, duration_s=1.6).sync) == seen
    assert not set(seen) & set(range(22, 50))


def test_the_videos_own_sound_is_dropped(tmp_path: Path) -> None:
    source = write_video(tmp_path / "v.mp4", regular(50, 25), sound=sine(OLD_HZ, 2.0, SOURCE_HZ))
    out, result = mux(source)
    (sound,), rate = sound_of(out)

    assert result.warnings == ()
    assert strength(sound, rate, NEW_HZ) == pytest.approx(0.25, rel=0.05)
    assert strength(sound, rate, OLD_HZ) < 0.001


@pytest.mark.parametrize("container", ["matroska", "mpegts"])
def test_only_the_stretch_of_a_long_video_is_read(tmp_path: Path, container: str) -> None:
    # One flat picture would pack into nothing; noise makes files far larger than what FFmpeg reads ahead.
    noise = [np.random.default_rng(i).integers(0, 256, (128, 128, 3), dtype=np.uint8) for i in range(150)]
    taken = []
    for pictures in (noise, noise * 2):
        times = regular(len(pictures), 25)
        source = write_video(tmp_path / "v", times, pictures=pictures, container=container, keyframe_every=25)
        with WatchedFile(source.read_bytes()) as file:
            options = MuxOptions(0.0, 0.5)
            mux_video(file, Sound.mono(sine(NEW_HZ, 0.5, RATE), RATE), tmp_path / "out", options=options, limits=LIMITS)
            taken.append(file.taken)
    assert taken[1] < taken[0] * 1.1


def test_the_limits_hold_when_a_video_is_encoded_again(tmp_path: Path) -> None:
    source = write_video(tmp_path / "v.mkv", regular(50, 25), container="matroska", codec="ffv1")

    with pytest.raises(MediaTooLargeError, match="more than 30 frames"):
        mux(source, container="mp4", limits=MediaLimits(max_decoded_frames=30))


def test_a_video_of_which_nothing_can_be_decoded_is_refused(tmp_path: Path) -> None:
    source = write_video(tmp_path / "v.mkv", regular(5, 25), container="matroska", codec="ffv1")
    content = source.read_bytes()
    for packet in contents(video_packets(source)):
        content = content.replace(packet, bytes(len(packet)))
    source.write_bytes(content)

    with pytest.raises(MediaInvalidError, match="none of its frames can be decoded"):
        mux(source, duration_s=0.2)
