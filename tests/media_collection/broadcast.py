"""What broadcasters and discs have."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from av.stream import Disposition

from tests.media_collection.building import BT601, BT709, LIMITED, Picture, Texts, Tone, write
from tests.media_collection.kind import Kind

COARSE = Fraction(1, 25)
MP2 = Tone("mp2", bit_rate=192_000)
HD = Picture(width=128, height=96, fields="tff", options={"x264-params": "tff=1"}, colour=BT709, bframes=2, count=45)


def xdcam_mxf(path: Path) -> None:
    """XDCAM HD422: MPEG-2 4:2:2, eight mono tracks of 24 bits."""
    picture = Picture(
        "mpeg2video", width=128, height=96, pix_fmt="yuv422p", base=COARSE, fields="tff", colour=BT709, range=LIMITED,
        bframes=2, keyframe_every=12, options={"b": "5000000"}, metadata={"timecode": "10:00:00:00"},
    )  # fmt: skip
    write(
        path,
        "mxf",
        picture,
        *[Tone("pcm_s24le", layout="mono", bit_rate=None, first_hz=300 + 50 * i) for i in range(8)],
    )


def avc_intra_mxf(path: Path) -> None:
    picture = Picture(
        width=1920, height=1080, pix_fmt="yuv422p10le", keyframe_every=1, count=4, rate=25, base=COARSE, colour=BT709,
        options={"avcintra-class": "100", "b": "100M", "crf": "-1"}, fields="tff",
    )  # fmt: skip
    write(path, "mxf", picture, Tone("pcm_s16le", layout="mono", bit_rate=None, seconds=0.16))


def h264_mxf(path: Path) -> None:
    """XAVC Long in small."""
    picture = Picture(base=COARSE, bframes=2, pix_fmt="yuv422p10le", colour=BT709)
    write(path, "mxf", picture, Tone("pcm_s24le", layout="mono", bit_rate=None))


def dvb_sd(path: Path) -> None:
    """A recorded channel: two languages, subtitles as pictures and as teletext, 16:9 in 720x576."""
    picture = Picture(
        "mpeg2video", width=128, height=96, base=COARSE, fields="tff", sar=Fraction(4, 3), bframes=2, colour=(5, 5, 5),
        keyframe_every=12, options={"b": "2000000"},
    )  # fmt: skip
    write(
        path, "mpegts", picture, Tone("mp2", bit_rate=192_000, metadata={"language": "deu"}),
        Tone("ac3", bit_rate=192_000, metadata={"language": "eng"}),
        Texts("dvb_subtitle", {"language": "deu"}), Texts("dvb_teletext", {"language": "deu"}),
    )  # fmt: skip


def dvb_hd_wrap(path: Path) -> None:
    """The 33 bits of the clock overflow half a second after the start."""
    write(path, "mpegts", HD, MP2, options={"output_ts_offset": str(2**33 / 90_000 - 1.9)})


def dvb_open_gop(path: Path) -> None:
    """H.264 without IDR pictures after the first: recovery points only."""
    options = {"x264-params": "open-gop=1:tff=1", "bf": "2"}
    picture = Picture(**{**vars(HD), "options": options, "keyframe_every": 12})
    write(path, "mpegts", picture, Tone("aac", bit_rate=128_000))


def uhd_ts(path: Path) -> None:
    picture = Picture("libx265", pix_fmt="yuv420p10le", rate=50, count=75, colour=(9, 18, 9), range=LIMITED)
    write(path, "mpegts", picture, Tone("eac3", layout="5.1(side)", bit_rate=256_000))


def vob(path: Path) -> None:
    """A DVD: anamorphic 16:9, AC-3."""
    picture = Picture(
        "mpeg2video", width=176, height=144, base=COARSE, sar=Fraction(16, 11), bframes=2, colour=(5, 5, 5),
        keyframe_every=12, options={"b": "2000000"}, fields="tff",
    )  # fmt: skip
    write(path, "vob", picture, Tone("ac3", bit_rate=192_000))


def mpeg_ps(path: Path) -> None:
    picture = Picture("mpeg2video", base=COARSE, bframes=2, options={"b": "2000000"}, rate=25)
    write(path, "mpeg", picture, MP2)


def vcd(path: Path) -> None:
    picture = Picture("mpeg1video", width=176, height=144, base=COARSE, bframes=2, options={"b": "1150000"})
    write(path, "mpeg", picture, Tone("mp2", rate=44_100, bit_rate=224_000))


def ntsc_dvd(path: Path) -> None:
    picture = Picture(
        "mpeg2video", width=144, height=96, rate=Fraction(30_000, 1001), base=Fraction(1001, 30_000), bframes=2,
        sar=Fraction(8, 9), fields="bff", colour=BT601, options={"b": "2000000"},
    )  # fmt: skip
    write(path, "vob", picture, Tone("pcm_dvd", bit_rate=None))


def two_channels_described(path: Path) -> None:
    """A track for the blind beside the default."""
    write(
        path, "mpegts", Picture(bframes=2), Tone("aac", bit_rate=96_000, metadata={"language": "eng"}),
        Tone("aac", bit_rate=96_000, metadata={"language": "eng"}, disposition=Disposition.visual_impaired),
    )  # fmt: skip


KINDS = (
    Kind("xdcam-hd422-eight-mono.mxf", "Sony XDCAM", xdcam_mxf),
    Kind("avc-intra-100.mxf", "Panasonic P2, AVC-Intra", avc_intra_mxf, off_keyframe_s=Fraction(5, 100),
         section_s=Fraction(8, 100)),
    Kind("xavc-long.mxf", "Sony XAVC Long", h264_mxf),
    Kind("dvb-sd-subtitles-teletext.ts", "recorded channel, SD", dvb_sd),
    Kind("dvb-hd-clock-wraps.ts", "recorded channel, clock overflows", dvb_hd_wrap),
    Kind("dvb-hd-open-gop.ts", "recorded channel, open groups of pictures", dvb_open_gop),
    Kind("uhd-hlg-hevc.ts", "recorded channel, UHD HLG", uhd_ts),
    Kind("described-video.ts", "recorded channel with audio description", two_channels_described),
    Kind("dvd-anamorphic.vob", "DVD, PAL 16:9", vob),
    Kind("dvd-ntsc-pcm.vob", "DVD, NTSC with PCM", ntsc_dvd),
    Kind("program-stream.mpg", "capture card, MPEG-2", mpeg_ps),
    Kind("video-cd.mpg", "Video CD, MPEG-1", vcd),
)  # fmt: skip
