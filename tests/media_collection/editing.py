"""What editing suites and graphics programs write."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from tests.media_collection.building import BT601, BT709, LIMITED, Picture, Tone, write
from tests.media_collection.kind import Kind

PCM_24 = Tone("pcm_s24le", bit_rate=None)
NTSC_24 = Fraction(24_000, 1001)


def prores_422(path: Path) -> None:
    picture = Picture(
        "prores_ks", pix_fmt="yuv422p10le", rate=NTSC_24, base=1 / NTSC_24, colour=BT709, range=LIMITED, count=30,
        options={"profile": "hq", "vendor": "apl0"}, metadata={"timecode": "01:00:00:00"}, bframes=0,
    )  # fmt: skip
    write(path, "mov", picture, PCM_24)


def prores_4444(path: Path) -> None:
    picture = Picture(
        "prores_ks", pix_fmt="yuva444p10le", rate=25, base=Fraction(1, 25), colour=BT709, count=20,
        options={"profile": "4444", "vendor": "apl0"}, bframes=0,
    )  # fmt: skip
    write(path, "mov", picture, PCM_24)


def prores_interlaced(path: Path) -> None:
    picture = Picture(
        "prores_ks", pix_fmt="yuv422p10le", base=Fraction(1, 25), fields="tff", sar=Fraction(16, 11), colour=BT601,
        count=30, bframes=0,
    )  # fmt: skip
    write(path, "mov", picture, PCM_24)


DNXHR = Picture(
    "dnxhd", width=256, height=144, pix_fmt="yuv422p", base=Fraction(1, 25), colour=BT709, count=25, bframes=0,
    options={"profile": "dnxhr_sq"},
)  # fmt: skip


def dnxhr_mov(path: Path) -> None:
    write(path, "mov", Picture(**{**vars(DNXHR), "metadata": {"timecode": "09:59:50:00"}}), PCM_24)


def dnxhr_mxf(path: Path) -> None:
    write(path, "mxf", DNXHR, PCM_24)


def dnxhd_mxf(path: Path) -> None:
    picture = Picture(
        "dnxhd", width=1280, height=720, pix_fmt="yuv422p", rate=50, base=Fraction(1, 50), count=10, bframes=0,
        options={"b": "90M"},
    )  # fmt: skip
    write(path, "mxf", picture, PCM_24)


def cineform(path: Path) -> None:
    picture = Picture("cfhd", pix_fmt="yuv422p10le", base=Fraction(1, 25), count=25, bframes=0, width=128, height=96)
    write(path, "mov", picture, PCM_24)


def animation(path: Path) -> None:
    """QuickTime Animation with transparency."""
    write(path, "mov", Picture("qtrle", pix_fmt="argb", base=Fraction(1, 25), count=25), PCM_24)


def png_mov(path: Path) -> None:
    write(path, "mov", Picture("png", pix_fmt="rgba", base=Fraction(1, 25), count=25))


def uncompressed_mov(path: Path) -> None:
    write(path, "mov", Picture("v210", pix_fmt="yuv422p10le", base=Fraction(1, 25), count=25), PCM_24)


def uncompressed_avi(path: Path) -> None:
    write(
        path,
        "avi",
        Picture("rawvideo", pix_fmt="bgr24", base=Fraction(1, 25), count=25),
        Tone("pcm_s16le", bit_rate=None),
    )


def huffyuv(path: Path) -> None:
    write(path, "avi", Picture("huffyuv", pix_fmt="yuv422p", base=Fraction(1, 25), count=25))


def utvideo(path: Path) -> None:
    write(path, "avi", Picture("utvideo", pix_fmt="gbrp", base=Fraction(1, 25), count=25))


def ffv1(path: Path) -> None:
    picture = Picture(
        "ffv1", pix_fmt="yuv422p10le", count=25, colour=BT601, sar=Fraction(16, 15), options={"level": "3"}
    )
    write(path, "matroska", picture, Tone("flac", bit_rate=None))


def magicyuv(path: Path) -> None:
    write(path, "avi", Picture("magicyuv", pix_fmt="gbrap", base=Fraction(1, 25), count=20))


def cinepak(path: Path) -> None:
    picture = Picture("cinepak", pix_fmt="rgb24", base=Fraction(1, 15), rate=15, count=20)
    write(path, "mov", picture, Tone("pcm_u8", rate=22_050, layout="mono", bit_rate=None))


def h264_lossless_444(path: Path) -> None:
    write(path, "mp4", Picture(pix_fmt="yuv444p", options={"crf": "0"}), Tone())


def odd_size(path: Path) -> None:
    write(path, "matroska", Picture("ffv1", width=97, height=65, pix_fmt="yuv444p", count=25))


def odd_size_h264(path: Path) -> None:
    write(path, "mp4", Picture(width=97, height=65, pix_fmt="yuv444p", count=25), Tone())


def very_wide(path: Path) -> None:
    write(path, "mp4", Picture(width=1536, height=64, count=25), Tone())


def very_tall(path: Path) -> None:
    write(path, "mp4", Picture(width=64, height=1024, count=25), Tone())


def grey(path: Path) -> None:
    write(path, "mp4", Picture(pix_fmt="gray", count=25))


def gif(path: Path) -> None:
    write(path, "gif", Picture("gif", pix_fmt="rgb8", rate=10, base=Fraction(1, 100), count=16))


def apng(path: Path) -> None:
    write(path, "apng", Picture("apng", pix_fmt="rgba", rate=10, base=Fraction(1, 100), count=16))


def webp(path: Path) -> None:
    picture = Picture("libwebp_anim", pix_fmt="bgra", rate=10, base=Fraction(1, 1000), count=16)
    write(path, "webp", picture)


KINDS = (
    Kind("prores-422-hq-timecode.mov", "editor, ProRes 422 HQ", prores_422),
    Kind("prores-4444-alpha.mov", "editor, ProRes 4444 with transparency", prores_4444,
         off_keyframe_s=Fraction(33, 100), section_s=Fraction(2, 5)),
    Kind("prores-interlaced.mov", "editor, interlaced ProRes", prores_interlaced),
    Kind("dnxhr-timecode.mov", "Avid or Resolve, DNxHR", dnxhr_mov, off_keyframe_s=Fraction(33, 100)),
    Kind("dnxhr.mxf", "Avid, DNxHR", dnxhr_mxf, off_keyframe_s=Fraction(33, 100)),
    Kind("dnxhd-720p.mxf", "Avid, DNxHD", dnxhd_mxf, off_keyframe_s=Fraction(5, 100), section_s=Fraction(1, 10)),
    Kind("cineform.mov", "GoPro CineForm", cineform, off_keyframe_s=Fraction(33, 100)),
    Kind("quicktime-animation-alpha.mov", "After Effects, Animation", animation, off_keyframe_s=Fraction(33, 100)),
    Kind("png-frames-alpha.mov", "After Effects, PNG", png_mov, off_keyframe_s=Fraction(33, 100)),
    Kind("uncompressed-v210.mov", "editor, uncompressed 10 bit", uncompressed_mov, off_keyframe_s=Fraction(33, 100)),
    Kind("uncompressed-rgb.avi", "VirtualDub, uncompressed", uncompressed_avi, off_keyframe_s=Fraction(33, 100)),
    Kind("huffyuv.avi", "VirtualDub, HuffYUV", huffyuv, off_keyframe_s=Fraction(33, 100)),
    Kind("ut-video-rgb.avi", "game capture, Ut Video", utvideo, off_keyframe_s=Fraction(33, 100)),
    Kind("magicyuv-alpha.avi", "game capture, MagicYUV", magicyuv, off_keyframe_s=Fraction(33, 100)),
    Kind("ffv1-archive.mkv", "archive, FFV1 and FLAC", ffv1, off_keyframe_s=Fraction(33, 100)),
    Kind("cinepak.mov", "CD-ROM of 1995", cinepak, off_keyframe_s=Fraction(33, 100)),
    Kind("h264-lossless-444.mp4", "editor, lossless H.264", h264_lossless_444),
    Kind("odd-size.mkv", "graphics program, odd sides", odd_size, off_keyframe_s=Fraction(33, 100)),
    Kind("odd-size-h264-444.mp4", "screen region, odd sides", odd_size_h264, off_keyframe_s=Fraction(33, 100)),
    Kind("very-wide.mp4", "LED wall", very_wide, off_keyframe_s=Fraction(33, 100)),
    Kind("very-tall.mp4", "scrolling banner", very_tall, off_keyframe_s=Fraction(33, 100)),
    Kind("grey.mp4", "microscope", grey, off_keyframe_s=Fraction(33, 100)),
    Kind("animation.gif", "GIF", gif),
    Kind("animation-alpha.png", "animated PNG", apng),
    Kind("animation.webp", "animated WebP", webp),
)  # fmt: skip
