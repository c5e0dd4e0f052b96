"""Large pictures, frames that are not decoded, orientation and transparency: the same frames as by the plain way."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from av.video.frame import VideoFrame
from PIL import Image

from mmaudio_model.media import skipping
from mmaudio_model.media.frames import read_video_frames
from mmaudio_model.media.orientation import ALL, Orientation, orientation
from mmaudio_model.media.plane_scaling import PlaneScaler, is_large
from mmaudio_model.media.resizing import crop, pillow_resize, stretch
from tests.unit.mmaudio_model.media.videos import LIMITS, numbered, numbers, read, regular, video_packets, write_video


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def black_and_white_noise(height: int, width: int) -> np.ndarray:
    return noise(height, width) // 128 * 255


def soft(height: int, width: int) -> np.ndarray:
    small = Image.fromarray(noise(height // 8, width // 8))
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


def zone_plate(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    waves = 127.5 + 127.5 * np.cos(((x - width / 2) ** 2 + (y - height / 2) ** 2) * np.pi / width)
    return np.repeat(waves.astype(np.uint8)[..., None], 3, axis=2)


def blocks(height: int, width: int) -> np.ndarray:
    chosen = black_and_white_noise(height // 16 + 1, width // 16 + 1)
    return np.kron(chosen, np.ones((16, 16, 1), np.uint8))[:height, :width]


def differences(frame: VideoFrame) -> Iterator[np.ndarray]:
    """Yield how far each pixel is from Pillow's, for both encoders' sizes."""
    scaler = PlaneScaler()
    pixels, planes = frame.to_ndarray(format="rgb24"), scaler.planes(frame)
    assert np.array_equal(np.stack(planes, axis=-1), pixels)
    for size in (384, 224):
        assert is_large(frame.width, frame.height, (size, size))
        for exact, fast in ((stretch, scaler.stretch), (crop, scaler.crop)):
            yield np.abs(exact(pixels, size, pillow_resize).astype(int) - fast(planes, size))


@pytest.mark.parametrize("pix_fmt", ["rgb24", "yuv420p", "yuvj420p", "yuv422p10le", "yuv444p"])
@pytest.mark.parametrize(("width", "height"), [(1920, 1080), (1081, 1500)])
def test_large_pictures_are_resized_to_within_one_level(pix_fmt: str, width: int, height: int) -> None:
    frame = VideoFrame.from_ndarray(noise(height, width), format="rgb24").reformat(format=pix_fmt)
    assert all(found.max() <= 1 for found in differences(frame))


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuvj422p"])
@pytest.mark.parametrize("colorspace", [1, 2, 6, 9])
@pytest.mark.parametrize("color_range", [0, 1, 2])
def test_the_colours_of_large_pictures_are_those_of_small_ones(pix_fmt: str, colorspace: int, color_range: int) -> None:
    scaler = PlaneScaler()
    for _ in range(2):
        frame = VideoFrame.from_ndarray(noise(128, 256), format="rgb24").reformat(format=pix_fmt)
        frame.colorspace, frame.color_range = colorspace, color_range
        assert np.array_equal(np.stack(scaler.planes(frame), axis=-1), frame.to_ndarray(format="rgb24"))


@pytest.mark.parametrize("pattern", [soft, zone_plate, black_and_white_noise])
@pytest.mark.parametrize(("width", "height"), [(1920, 1080), (1080, 1920), (1440, 1080)])
def test_patterns_are_resized_to_within_one_level(
    pattern: Callable[[int, int], np.ndarray], width: int, height: int
) -> None:
    frame = VideoFrame.from_ndarray(pattern(height, width), format="rgb24")
    assert all(found.max() <= 1 for found in differences(frame))


def test_what_overshoots_at_black_and_white_edges_is_cut_off_between_the_directions() -> None:
    """Pillow and torch differ by up to two levels there, too."""
    found = list(differences(VideoFrame.from_ndarray(blocks(1080, 1920), format="rgb24")))
    assert all(difference.max() <= 2 for difference in found)
    assert all((difference > 1).mean() < 0.001 for difference in found)


@pytest.mark.parametrize(
    ("container", "codec", "options"),
    [
        ("mp4", "libx264", {"bf": "3"}),
        ("mp4", "libx264", {"bf": "5", "x264-params": "b-pyramid=strict:open-gop=1"}),
        ("mpegts", "libx264", {"bf": "3"}),
        ("matroska", "libx264", {"bf": "2"}),
        ("mp4", "libx265", {"x265-params": "log-level=none:pools=1:frame-threads=1:bframes=4"}),
        ("mov", "mjpeg", {}),
    ],
)
@pytest.mark.parametrize("start_s", [0.0, 2.3])
def test_frames_that_no_sample_shows_are_left_out_and_the_others_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, container: str, codec: str, options: dict[str, str], start_s: float
) -> None:
    path = write_video(
        tmp_path / "v",
        regular(240, 60),
        pictures=[np.roll(numbered(index), index, axis=0) for index in range(240)],
        container=container,
        codec=codec,
        rate=60,
        keyframe_every=48,
        options=options,
        pix_fmt="yuvj420p" if codec == "mjpeg" else "yuv420p",
    )
    decided: list[str] = []
    decide = skipping.Skipping._decided

    def recording(self: skipping.Skipping, packet: Any, otherwise: skipping.How) -> tuple[Any, skipping.How]:
        found = decide(self, packet, otherwise)
        decided.append(found[1])
        return found

    monkeypatch.setattr(skipping.Skipping, "_decided", recording)
    with_skipping = read(path, start_s=start_s, duration_s=1.5)
    monkeypatch.setattr("mmaudio_model.media.section.skippable", lambda stream: None)
    plain = read(path, start_s=start_s, duration_s=1.5)

    assert {*decided} > {skipping.DECODE}
    assert np.array_equal(with_skipping.clip, plain.clip)
    assert np.array_equal(with_skipping.sync, plain.sync)
    assert with_skipping.duration_s == plain.duration_s


def test_a_damaged_video_is_read_as_if_nothing_had_been_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / "v.mp4", regular(120, 60), rate=60, options={"bf": "3"})
    content = path.read_bytes()
    packets = [bytes(packet) for packet in video_packets(path)]
    for packet in packets[40:60]:
        content = content.replace(packet, packet[:6] + b"\xff" * (len(packet) - 6))
    assert content != path.read_bytes()

    def frames() -> list[int]:
        found = read_video_frames(
            io.BytesIO(content), start_s=0.0, duration_s=2.0, clip_size=64, sync_size=64, limits=LIMITS
        )
        return numbers(found.sync)

    with_skipping = frames()
    monkeypatch.setattr("mmaudio_model.media.section.skippable", lambda stream: None)
    assert with_skipping == frames()


@pytest.mark.parametrize("wanted", ALL)
def test_every_mirrored_and_turned_picture_is_seen_upright(tmp_path: Path, wanted: Orientation) -> None:
    upright = np.arange(64 * 64, dtype=np.int64).reshape(64, 64) % 64 // 32 * 120 + (np.arange(64)[:, None] // 32) * 60
    upright = np.repeat(upright[..., None], 3, axis=2).astype(np.uint8)
    # What the camera stored: the inverse of what is applied when it is shown.
    stored = np.rot90(upright, -wanted.quarters)
    stored = stored[:, ::-1] if wanted.mirrored else stored
    path = write_video(tmp_path / "v.mp4", regular(3, 25), pictures=[np.ascontiguousarray(stored)] * 3, rotation=90)
    (a, b), (c, d) = (wanted.matrix() * 0x10000).astype(int).tolist()
    content = path.read_bytes()
    place = content.index(b"tkhd") + 4 + 40
    path.write_bytes(content[:place] + struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30) + content[place + 36 :])

    assert np.abs(read(path, duration_s=0.12).clip[0].astype(int) - upright).mean() < 6


def test_an_odd_angle_becomes_the_nearest_quarter_turn(tmp_path: Path) -> None:
    import av

    path = write_video(tmp_path / "v.mp4", regular(3, 25), rotation=80)
    with av.open(str(path)) as container:
        assert orientation(next(container.decode(video=0))) == Orientation(quarters=1)


def test_transparency_is_seen_on_white(tmp_path: Path) -> None:
    import av

    path = tmp_path / "v.mov"
    pixels = np.zeros((64, 64, 4), dtype=np.uint8)
    pixels[:, 32:] = (200, 0, 0, 255)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("png", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "rgba"
        for _ in range(3):
            out.mux(stream.encode(VideoFrame.from_ndarray(pixels, format="rgba")))
        out.mux(stream.encode(None))

    picture = read(path, duration_s=0.12).clip[0]
    assert picture[30, 5].tolist() == [255, 255, 255]
    assert picture[30, 60].tolist() == [200, 0, 0]
