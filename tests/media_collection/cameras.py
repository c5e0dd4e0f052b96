"""What cameras, drones and camcorders record."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from av.stream import Disposition

from tests.media_collection.boxes import replace
from tests.media_collection.building import BT709, FULL, LIMITED, Data, Picture, Texts, Tone, write
from tests.media_collection.kind import Kind

NTSC_30, NTSC_24, NTSC_60 = Fraction(30_000, 1001), Fraction(24_000, 1001), Fraction(60_000, 1001)
PCM_16 = Tone("pcm_s16le", bit_rate=None)


def gopro(path: Path) -> None:
    picture = Picture(
        rate=NTSC_60, count=90, base=Fraction(1, 60_000), pix_fmt="yuvj420p", range=FULL, colour=BT709,
        metadata={"handler_name": "GoPro AVC", "timecode": "10:00:00:00"},
    )  # fmt: skip
    telemetry = Data(content=b"DEVC" + bytes(60), metadata={"handler_name": "GoPro MET"})
    write(path, "mp4", picture, Tone(metadata={"handler_name": "GoPro AAC"}), telemetry, tags={"firmware": "HD9.01"})


def dji(path: Path) -> None:
    """A drone whose position is a subtitle track."""
    picture = Picture("libx265", rate=NTSC_30, base=Fraction(1, 30_000), tag="hvc1", pix_fmt="yuv420p10le")
    write(path, "mp4", picture, Texts(metadata={"handler_name": "DJI.Subtitle"}))


def xavc_s(path: Path) -> None:
    """PCM big-endian in MP4 is what Sony writes; FFmpeg writes it as `ipcm`."""
    picture = Picture(rate=NTSC_24, base=Fraction(1, 24_000), colour=BT709, range=LIMITED, bframes=2)
    write(path, "mp4", picture, Tone("pcm_s16be", bit_rate=None), tags={"creation_time": "2024-05-04T08:20:30.000000Z"})


def xavc_hs_422(path: Path) -> None:
    picture = Picture(
        "libx265", rate=NTSC_60, count=60, base=Fraction(1, 60_000), pix_fmt="yuv422p10le", tag="hvc1", colour=BT709
    )
    write(path, "mp4", picture, Tone("pcm_s24be", bit_rate=None, layout="4.0"))


def canon_all_i(path: Path) -> None:
    picture = Picture(rate=NTSC_24, base=Fraction(1, 24_000), keyframe_every=1, pix_fmt="yuv422p10le", colour=BT709)
    write(path, "mov", Picture(**{**vars(picture), "metadata": {"timecode": "01:02:03:04"}}), PCM_16)


def avchd(path: Path) -> None:
    """1080i in small: H.264 with pairs of fields, AC-3, packets of 192 bytes."""
    picture = Picture(
        width=128, height=96, fields="tff", options={"x264-params": "tff=1"}, colour=BT709, bframes=2, count=45
    )
    write(path, "mpegts", picture, Tone("ac3", bit_rate=192_000), options={"mpegts_m2ts_mode": "1"})


def hdv(path: Path) -> None:
    """MPEG-2 1440x1080i in small: pixels of 4:3."""
    picture = Picture(
        "mpeg2video", width=144, height=96, fields="tff", base=Fraction(1, 25), sar=Fraction(4, 3), colour=BT709,
        bframes=2, options={"b": "2000000"},
    )  # fmt: skip
    write(path, "mpegts", picture, Tone("mp2", bit_rate=192_000))


DV = Picture(
    "dvvideo", width=720, height=576, rate=25, count=30, base=Fraction(1, 25), sar=Fraction(64, 45), fields="bff"
)


def dv_raw(path: Path) -> None:
    write(path, "dv", DV, PCM_16)


def dv_avi(path: Path) -> None:
    write(path, "avi", DV, PCM_16)


def dv_mov(path: Path) -> None:
    write(path, "mov", Picture(**{**vars(DV), "metadata": {"timecode": "00:59:58:12"}}), PCM_16)


def dvcpro_hd(path: Path) -> None:
    picture = Picture(
        "dvvideo", width=960, height=720, rate=50, count=12, base=Fraction(1, 50), pix_fmt="yuv422p",
        sar=Fraction(4, 3), colour=BT709,
    )  # fmt: skip
    write(path, "mov", picture, PCM_16)


def mjpeg_avi(path: Path) -> None:
    picture = Picture("mjpeg", pix_fmt="yuvj420p", rate=15, count=24, base=Fraction(1, 15), range=FULL)
    write(path, "avi", picture, Tone("pcm_u8", rate=11_025, layout="mono", bit_rate=None))


def mjpeg_mov(path: Path) -> None:
    picture = Picture("mjpeg", pix_fmt="yuvj422p", rate=30, base=Fraction(1, 30), range=FULL)
    write(path, "mov", picture, Tone("pcm_s16be", rate=32_000, layout="mono", bit_rate=None))


def two_recordings(path: Path) -> None:
    """Two recordings joined byte by byte: the time stamps start again."""
    parts = []
    for number in range(2):
        part = path.with_suffix(f".{number}")
        write(part, "mpegts", Picture(count=25, first_number=25 * number), Tone("mp2", bit_rate=192_000))
        parts.append(part.read_bytes())
        part.unlink()
    path.write_bytes(b"".join(parts))


def action_one_keyframe(path: Path) -> None:
    write(path, "mp4", Picture(keyframe_every=1000, bframes=0), Tone())


def dashcam_mov(path: Path) -> None:
    write(path, "mov", Picture(rate=30, bframes=0), Tone("pcm_s16le", rate=8000, layout="mono", bit_rate=None))


def undecodable_sound(path: Path) -> None:
    """A sound codec that no FFmpeg knows."""
    write(path, "mp4", Picture(rate=30), Tone())
    replace(path, b"mp4a", b"zz01")
    replace(path, b"esds", b"zzds")


def trail_camera(path: Path) -> None:
    write(
        path,
        "avi",
        Picture(rate=30, bframes=0, base=Fraction(1, 30)),
        Tone("pcm_s16le", rate=16_000, layout="mono", bit_rate=None),
    )


def surveillance(path: Path) -> None:
    """Seven pictures a second, no sound."""
    write(path, "matroska", Picture("libx265", rate=7, count=14, keyframe_every=7))


def stereo_two_pictures(path: Path) -> None:
    """A dash camera with two lenses: two tracks of pictures, the second is the default."""
    back = Picture(count=40, first_number=100, disposition=Disposition(0))
    front = Picture(count=40, width=128, height=96, disposition=Disposition.default)
    write(path, "matroska", back, front, Tone())


KINDS = (
    Kind("gopro-gpmd-timecode.mp4", "GoPro", gopro),
    Kind("drone-hevc-subtitles.mp4", "DJI drone", dji),
    Kind("xavc-s-pcm.mp4", "Sony camera, XAVC S", xavc_s),
    Kind("xavc-hs-422-10-bit.mp4", "Sony camera, XAVC HS", xavc_hs_422),
    Kind("all-intra-422-timecode.mov", "Canon camera, All-I", canon_all_i),
    Kind("avchd-interlaced.mts", "AVCHD camcorder", avchd),
    Kind("hdv-interlaced.m2t", "HDV camcorder", hdv),
    Kind("dv.dv", "DV camcorder over FireWire", dv_raw),
    Kind("dv.avi", "DV captured on Windows", dv_avi),
    Kind("dv-timecode.mov", "DV captured on a Mac", dv_mov),
    Kind("dvcpro-hd.mov", "Panasonic P2 camera", dvcpro_hd, off_keyframe_s=Fraction(9, 100), section_s=Fraction(1, 10)),
    Kind("compact-camera-mjpeg.avi", "compact camera of 2003", mjpeg_avi),
    Kind("compact-camera-mjpeg.mov", "compact camera of 2008", mjpeg_mov),
    Kind("two-recordings.ts", "camcorder, two clips joined", two_recordings),
    Kind("one-key-frame.mp4", "action camera with one key frame", action_one_keyframe),
    Kind("dash-camera-pcm.mov", "dash camera", dashcam_mov),
    Kind("trail-camera-h264.avi", "trail camera", trail_camera),
    Kind("unknown-sound-codec.mp4", "camera with a sound codec of its own", undecodable_sound),
    Kind("surveillance-hevc-7fps.mkv", "surveillance camera", surveillance),
    Kind("two-lenses-second-is-default.mkv", "dash camera with two lenses", stereo_two_pictures),
)
