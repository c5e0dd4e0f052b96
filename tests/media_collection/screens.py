"""What screen recorders write, and files whose end is missing."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from tests.media_collection.building import BT709, FULL, Picture, Tone, write
from tests.media_collection.kind import Kind


def obs(path: Path) -> None:
    """OBS: 4:4:4, frames skipped, two tracks of sound."""
    times = [Fraction(index + index // 7, 60) for index in range(80)]
    picture = Picture(times=times, pix_fmt="yuv444p", rate=60, colour=BT709, keyframe_every=30, range=FULL)
    write(path, "matroska", picture, Tone(metadata={"title": "Track1"}), Tone(metadata={"title": "Track2"}))


def obs_rgb(path: Path) -> None:
    write(path, "matroska", Picture("libx264rgb", pix_fmt="bgr24", rate=30), Tone())


def obs_hybrid(path: Path) -> None:
    options = {"movflags": "frag_keyframe+empty_moov+hybrid_fragmented"}
    write(path, "mp4", Picture(rate=60, count=90, bframes=2), Tone(), options=options)


def quicktime(path: Path) -> None:
    """Full range, one frame when the screen changes."""
    times = [Fraction(index * index, 600) for index in range(30)]
    picture = Picture(times=times, rate=60, range=FULL, base=Fraction(1, 600), colour=(12, 13, 1))
    write(path, "mov", picture, Tone(rate=44_100))


def browser(path: Path) -> None:
    """MediaRecorder: no duration in the header, no index."""
    times = [Fraction(index * 33 + index % 3, 1000) for index in range(45)]
    picture = Picture("libvpx", times=times, rate=30, options={"auto-alt-ref": "0"})
    write(path, "webm", picture, Tone("libopus", bit_rate=64_000), options={"live": "1"})


def browser_h264(path: Path) -> None:
    write(path, "matroska", Picture(rate=30, bframes=0), Tone("libopus", bit_rate=64_000), options={"live": "1"})


def flash_screen(path: Path) -> None:
    write(path, "flv", Picture("flashsv", pix_fmt="bgr24", rate=15, count=24, base=Fraction(1, 15), options={}))


def zmbv(path: Path) -> None:
    write(path, "avi", Picture("zmbv", pix_fmt="bgr0", rate=25, count=30, base=Fraction(1, 25)))


def _half(path: Path, keep: float = 0.55) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: round(len(content) * keep)])


def cut_mp4(path: Path) -> None:
    """A download that stopped; the index is at the start."""
    write(path, "mp4", Picture(count=50), Tone(), options={"movflags": "+faststart"})
    _half(path)


def cut_mp4_no_index(path: Path) -> None:
    write(path, "mp4", Picture(count=50), Tone())
    _half(path)


def cut_fragmented(path: Path) -> None:
    write(path, "mp4", Picture(count=50), Tone(), options={"movflags": "frag_keyframe+empty_moov+default_base_moof"})
    _half(path)


def cut_mkv(path: Path) -> None:
    write(path, "matroska", Picture(count=50), Tone())
    _half(path)


def cut_webm(path: Path) -> None:
    write(path, "webm", Picture("libvpx", count=50), Tone("libopus", bit_rate=64_000))
    _half(path)


def cut_avi(path: Path) -> None:
    write(
        path,
        "avi",
        Picture("mjpeg", pix_fmt="yuvj420p", count=50, base=Fraction(1, 25)),
        Tone("pcm_s16le", bit_rate=None),
    )
    _half(path)


def cut_ts(path: Path) -> None:
    write(path, "mpegts", Picture(count=50), Tone("mp2", bit_rate=192_000))
    _half(path)


def cut_flv(path: Path) -> None:
    write(path, "flv", Picture(count=50), Tone(rate=44_100))
    _half(path)


KINDS = (
    Kind("obs-444-two-sounds.mkv", "OBS", obs),
    Kind("obs-rgb.mkv", "OBS, RGB", obs_rgb),
    Kind("obs-hybrid.mp4", "OBS, hybrid MP4", obs_hybrid),
    Kind("quicktime-screen-full-range.mov", "QuickTime screen recording", quicktime),
    Kind("browser-vp8-no-index.webm", "browser's MediaRecorder", browser),
    Kind("browser-h264-no-index.mkv", "Chrome's MediaRecorder, H.264", browser_h264),
    Kind("flash-screen.flv", "Flash screen video", flash_screen),
    Kind("dosbox-zmbv.avi", "DOSBox", zmbv),
    Kind("cut-off.mp4", "download that stopped, MP4", cut_mp4, says="cut off"),
    Kind("cut-off-no-index.mp4", "camera whose battery ended", cut_mp4_no_index, refused="index"),
    Kind("cut-off-fragments.mp4", "recording that stopped, fragments", cut_fragmented, says="cut off"),
    Kind("cut-off.mkv", "recording that stopped, MKV", cut_mkv, says="cut off"),
    Kind("cut-off.webm", "recording that stopped, WebM", cut_webm, says="cut off"),
    Kind("cut-off.avi", "recording that stopped, AVI", cut_avi, says="cut off"),
    Kind("cut-off.ts", "recording that stopped, TS", cut_ts, says="cut off"),
    Kind("cut-off.flv", "recording that stopped, FLV", cut_flv, says="cut off"),
)
