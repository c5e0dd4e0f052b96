"""What phones and tablets record."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

from av.stream import Disposition

from tests.media_collection.boxes import add_box, box, rename, replace, sample_entry
from tests.media_collection.building import BT709, FULL, HLG, LIMITED, Data, Picture, Tone, write
from tests.media_collection.kind import Kind

APPLE = {
    "com.apple.quicktime.make": "Apple",
    "com.apple.quicktime.model": "iPhone 15 Pro",
    "com.apple.quicktime.software": "17.4",
    "com.apple.quicktime.creationdate": "2024-05-04T10:20:30+0200",
    "com.apple.quicktime.location.ISO6709": "+48.2082+016.3738+190.000/",
}
KEYS = {"movflags": "use_metadata_tags"}
HEVC_HLG = Picture(
    "libx265", pix_fmt="yuv420p10le", rate=30, base=Fraction(1, 600), tag="hvc1", colour=HLG, range=LIMITED, bframes=2
)


def iphone_hdr(path: Path) -> None:
    """HEVC 10 bit HLG with a Dolby Vision 8.4 record, turned, with a track of timed metadata (`mebx`)."""
    picture = Picture(**{**vars(HEVC_HLG), "turn": 270})
    tones = Tone(layout="stereo", rate=44_100, metadata={"language": "und"})
    write(path, "mp4", picture, tones, Data(metadata={"handler_name": "Core Media Metadata"}), tags=APPLE, options=KEYS)
    rename(path, sample_entry(2, b"gpmd"), b"mebx")
    # Version 1.0, profile 8, level 4, base layer and RPU, compatible with HLG (4).
    add_box(path, sample_entry(0, b"hvc1"), box(b"dvvC", bytes([1, 0, 16, 37, 64]) + bytes(19)))
    replace(path, b"ftypisom", b"ftypqt  ")


def iphone_sdr(path: Path) -> None:
    picture = Picture(
        rate=30, base=Fraction(1, 600), colour=BT709, range=LIMITED, turn=90, bframes=0, metadata={"language": "eng"}
    )
    write(path, "mov", picture, Tone(layout="mono", rate=44_100), tags=APPLE, options=KEYS)


def iphone_spatial(path: Path) -> None:
    """Four channels of sound (first-order ambisonics stored as quad) beside a stereo track that is the default."""
    write(
        path, "mov", Picture(rate=30, base=Fraction(1, 600), colour=BT709),
        Tone(metadata={"language": "und"}, disposition=Disposition.default),
        Tone(layout="4.0", bit_rate=192_000, metadata={"language": "und"}, disposition=Disposition(0)),
        tags=APPLE, options=KEYS,
    )  # fmt: skip


def android_vfr(path: Path) -> None:
    """Turned; the frames come when the sensor has them."""
    times, now = [], Fraction(0)
    for index in range(50):
        times.append(now)
        now += Fraction([2997, 3003, 2999, 4511, 3001, 1489][index % 6], 90_000)
    picture = Picture(rate=30, times=times, turn=270, colour=BT709, range=LIMITED)
    tags = {"location": "+48.2082+016.3738/", "com.android.version": "14"}
    write(path, "mp4", picture, Tone(), tags=tags, options=KEYS)


def slow_motion(path: Path) -> None:
    write(path, "mp4", Picture(rate=240, count=250, keyframe_every=60, base=Fraction(1, 24_000)), Tone())


def selfie(path: Path) -> None:
    """Mirrored by the display matrix, as front cameras do."""
    write(path, "mp4", Picture(rate=30, mirrored=True), Tone(layout="mono"))


def upside_down(path: Path) -> None:
    write(path, "mp4", Picture("libx265", rate=30, turn=180, tag="hvc1"), Tone())


def ipad_fragmented(path: Path) -> None:
    options = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    write(path, "mp4", Picture(rate=30, bframes=2), Tone(), options=options)


def hdr10(path: Path) -> None:
    """PQ with a mastering display and light levels."""
    master = "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)"
    picture = Picture(
        "libx265", pix_fmt="yuv420p10le", rate=30, tag="hvc1", colour=(9, 16, 9), range=LIMITED,
        options={"x265-params": f"hdr10=1:repeat-headers=1:max-cll=1000,400:{master}"},
    )  # fmt: skip
    write(path, "mp4", picture, Tone())


def hev1(path: Path) -> None:
    write(path, "mp4", Picture("libx265", rate=30, tag="hev1", options={"x265-params": "repeat-headers=1"}), Tone())


def amr(path: Path) -> None:
    picture = Picture("h263", width=128, height=96, rate=15, count=24, base=Fraction(1, 15), bframes=0)
    sound = Tone("libopencore_amrnb", rate=8000, layout="mono", bit_rate=12_200)
    write(path, "3gp", picture, sound)


def mpeg4_3gp(path: Path) -> None:
    picture = Picture("mpeg4", width=176, height=144, rate=15, count=24, base=Fraction(1, 15), bframes=0)
    write(path, "3gp", picture, Tone(layout="mono", rate=16_000, bit_rate=24_000))


def full_range(path: Path) -> None:
    write(path, "mp4", Picture(rate=30, pix_fmt="yuvj420p", range=FULL, colour=BT709), Tone())


def av1_phone(path: Path) -> None:
    picture = Picture(
        "libsvtav1", pix_fmt="yuv420p10le", rate=30, colour=HLG, range=LIMITED, count=30, keyframe_every=15
    )
    write(path, "mp4", picture, Tone())


def live_photo(path: Path) -> None:
    """A short MOV with no sound, one key frame, and the still's identifier in its tags."""
    tags = {**APPLE, "com.apple.quicktime.content.identifier": "6E2A5A1C-0000-4000-8000-000000000001"}
    write(path, "mov", Picture("libx265", rate=15, count=24, tag="hvc1", keyframe_every=250), tags=tags, options=KEYS)


def spherical(path: Path) -> None:
    """A camera of 360 degrees: equirectangular, by an `sv3d` box."""
    write(path, "mp4", Picture(width=128, height=64, rate=30), Tone())
    source = box(b"svhd", struct.pack(">I", 0) + b"camera\0")
    projection = box(b"proj", box(b"prhd", bytes(16)) + box(b"equi", bytes(20)))
    add_box(path, sample_entry(0, b"avc1"), box(b"st3d", bytes(5)) + box(b"sv3d", source + projection))


KINDS = (
    Kind("iphone-hdr-hlg-dolby-vision.mov", "iPhone, HDR on, held upright", iphone_hdr),
    Kind("iphone-sdr-h264-upright.mov", "iPhone, most compatible", iphone_sdr),
    Kind("iphone-stereo-and-spatial-sound.mov", "iPhone with spatial sound", iphone_spatial),
    Kind("live-photo.mov", "Live Photo's moving part", live_photo),
    Kind("android-upright-vfr.mp4", "Android phone, held upright", android_vfr),
    Kind("slow-motion-240fps.mp4", "phone, slow motion", slow_motion),
    Kind("selfie-mirrored.mp4", "front camera", selfie),
    Kind("upside-down-hevc.mp4", "phone held upside down", upside_down),
    Kind("ipad-screen-fragmented.mp4", "iPad, written in fragments", ipad_fragmented),
    Kind("hdr10-hevc.mp4", "phone, HDR10", hdr10),
    Kind("hevc-hev1.mp4", "Android phone, HEVC", hev1),
    Kind("full-range-yuvj420p.mp4", "phone with full-range colours", full_range),
    Kind("av1-10-bit-hlg.mp4", "phone of 2025, AV1", av1_phone),
    Kind("old-phone-h263-amr.3gp", "phone of 2005", amr, off_keyframe_s=Fraction(83, 100)),
    Kind("old-phone-mpeg4.3gp", "phone of 2007", mpeg4_3gp),
    Kind("360-degrees-equirectangular.mp4", "360-degree camera", spherical),
)
