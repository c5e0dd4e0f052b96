"""Each kind of video is read whole and in part, and a seek never ends after the frame that it is for."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from av.error import FFmpegError
from av.packet import Packet
from av.video.stream import VideoStream

from mmaudio_model.errors import MediaTooLargeError
from mmaudio_model.media.probe import MediaLimits, opened, seek_keyframe, time_base
from mmaudio_model.media.source_container import source_container
from tests.integration.mmaudio_model.media.source_kinds import KINDS, SourceKind
from tests.unit.mmaudio_model.media.videos import LIMITS, WatchedFile, numbers, read, regular, write_video

each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kinds")


@each_kind
def test_a_kind_is_told_and_its_frames_are_read_in_order(kind: SourceKind, folder: Path) -> None:
    path = kind.made(folder)

    with path.open("rb") as file, opened(file, LIMITS) as (container, _):
        assert source_container(container, file) is kind.container
    assert numbers(read(path, duration_s=0.4).sync) == list(range(10))


@each_kind
def test_a_section_of_each_kind_begins_with_its_frame(kind: SourceKind, folder: Path) -> None:
    path = kind.made(folder)
    first = int(kind.frames * 0.7)

    assert numbers(read(path, start_s=first / 25, duration_s=0.2).sync) == list(range(first, first + 5))


@each_kind
def test_a_seek_ends_at_a_key_frame_before_the_time_or_at_the_beginning(kind: SourceKind, folder: Path) -> None:
    path = kind.made(folder)
    with path.open("rb") as file, opened(file, LIMITS) as (container, stream):
        for frame in range(0, kind.frames, 7):
            wanted = start_of(stream) + Fraction(frame, 25)
            seek_keyframe(container, stream, wanted)
            found = next(packet for packet in container.demux(stream) if packet.is_keyframe and packet.size)
            assert stamp(found) * time_base(stream) <= wanted


def start_of(stream: VideoStream) -> Fraction:
    return (stream.start_time or 0) * time_base(stream)


def stamp(packet: Packet) -> int:
    found = packet.dts if packet.pts is None else packet.pts
    assert found is not None
    return found


@pytest.mark.parametrize("container", ["mpegts", "mpeg", "flv", "ogg", "asf", "mxf"])
def test_a_seek_to_the_end_of_one_long_group_ends_at_the_beginning(container: str, tmp_path: Path) -> None:
    codec = {"ogg": "libvpx", "asf": "wmv2", "mpegts": "libx264", "flv": "flv"}.get(container, "mpeg2video")
    pix_fmt = "yuv422p" if container == "mxf" else "yuv420p"
    path = write_video(
        tmp_path / "v",
        regular(50, 25),
        container=container,
        codec=codec,
        keyframe_every=600,
        pix_fmt=pix_fmt,
        options={} if codec == "libvpx" else {"sc_threshold": "1000000000" if codec != "libx264" else "0"},
    )
    with path.open("rb") as file, opened(file, LIMITS) as (container_, stream):
        first = next(bytes(packet) for packet in container_.demux(stream) if packet.size)
        seek_keyframe(container_, stream, start_of(stream) + Fraction(9, 5))
        found = next(packet for packet in container_.demux(stream) if packet.size)

        assert found.is_keyframe
        assert bytes(found) == first
    assert numbers(read(path, start_s=1.6, duration_s=0.2).sync) == list(range(40, 45))


@pytest.mark.parametrize("name", ["mkv", "mxf", "wmv", "ogv_vp8", "flv_h264", "ts", "mpg"])
def test_a_file_that_is_cut_off_is_sought_too(name: str, folder: Path) -> None:
    (kind,) = [kind for kind in KINDS if kind.name == name]
    content = kind.made(folder).read_bytes()
    cut = io.BytesIO(content[: len(content) * 3 // 4])

    with opened(cut, LIMITS) as (container, stream):
        wanted = start_of(stream) + 1
        seek_keyframe(container, stream, wanted)
        packets = container.demux(stream)
        try:
            found = next(packet for packet in packets if packet.size)
        except FFmpegError:
            pytest.fail("nothing is read after the seek")

        assert stamp(found) * time_base(stream) <= wanted


@pytest.mark.parametrize("container", ["mpegts", "mxf", "asf"])
def test_a_late_start_in_a_long_file_reads_little_of_it(container: str, tmp_path: Path) -> None:
    codec = {"mpegts": "libx264", "asf": "wmv2"}.get(container, "mpeg2video")
    noise = [np.random.default_rng(number).integers(0, 256, (64, 64, 3), dtype=np.uint8) for number in range(20)]
    pictures = [noise[number % 20] for number in range(300)]
    path = write_video(
        tmp_path / "v", regular(300, 25), pictures=pictures, container=container, codec=codec, keyframe_every=12
    )
    with WatchedFile(path.read_bytes()) as file, opened(file, LIMITS) as (opened_, stream):
        before = file.taken
        seek_keyframe(opened_, stream, start_of(stream) + 10)
        assert file.taken - before < path.stat().st_size / 4


@pytest.mark.parametrize("container", ["mp4", "matroska", "mpegts", "flv"])
def test_a_file_with_one_key_frame_is_read_or_the_reason_is_told(container: str, tmp_path: Path) -> None:
    codec, options = ("flv", {"sc_threshold": "1000000000"}) if container == "flv" else ("libx264", {})
    path = write_video(
        tmp_path / "v", regular(120, 25), container=container, codec=codec, keyframe_every=600, options=options
    )

    assert numbers(read(path, start_s=4.0, duration_s=0.2).sync) == list(range(100, 105))
    with pytest.raises(MediaTooLargeError, match="no key frame near the start of the section: 4 s before it"):
        read(path, start_s=4.0, duration_s=0.2, limits=MediaLimits(max_decoded_s=3.0))


def test_a_late_section_of_a_long_file_is_read_although_the_file_is_longer_than_what_may_be_decoded(
    tmp_path: Path,
) -> None:
    path = write_video(tmp_path / "v", regular(100, 25), container="matroska", keyframe_every=25)

    frames = read(path, start_s=3.2, duration_s=0.2, limits=MediaLimits(max_decoded_s=1.0))
    assert numbers(frames.sync) == list(range(80, 85))
