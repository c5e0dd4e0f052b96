"""What the web, meetings, streaming and old players hand on."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from av.stream import Disposition

from tests.media_collection.building import Picture, Texts, Tone, write
from tests.media_collection.kind import Kind
from tests.media_collection.still_pictures import jpeg
from tests.media_collection.stored import stored
from tests.unit.mmaudio_model.media.videos import with_edit_list

OPUS = Tone("libopus", bit_rate=64_000)
COARSE = Fraction(1, 25)


def webm_vp8(path: Path) -> None:
    """With alternate reference frames, which are never shown."""
    picture = Picture(
        "libvpx", options={"deadline": "good", "cpu-used": "4", "auto-alt-ref": "1", "lag-in-frames": "12"}
    )
    write(path, "webm", picture, Tone("vorbis", bit_rate=None, options={"strict": "-2"}))


def webm_vp9(path: Path) -> None:
    write(path, "webm", Picture("libvpx-vp9"), OPUS)


def webm_vp9_hdr(path: Path) -> None:
    stored("vp9-10-bit-pq.webm", path)


def webm_alpha(path: Path) -> None:
    write(path, "webm", Picture("libvpx-vp9", pix_fmt="yuva420p", options={"auto-alt-ref": "0"}), OPUS)


def webm_vp8_alpha(path: Path) -> None:
    write(path, "webm", Picture("libvpx", pix_fmt="yuva420p", options={"auto-alt-ref": "0"}), OPUS)


def webm_av1(path: Path) -> None:
    write(path, "webm", Picture("libsvtav1", count=30), OPUS)


def mp4_av1(path: Path) -> None:
    write(path, "mp4", Picture("libsvtav1", count=30), OPUS)


def mp4_vp9(path: Path) -> None:
    write(path, "mp4", Picture("libvpx-vp9"), Tone())


def web_mp4(path: Path) -> None:
    write(path, "mp4", Picture(bframes=2), Tone(), options={"movflags": "+faststart"})


def dash_segmented(path: Path) -> None:
    write(path, "mp4", Picture(bframes=0), Tone(), options={"movflags": "cmaf+frag_keyframe+delay_moov"})


def negative_dts(path: Path) -> None:
    """B-frames with decoding times below zero instead of an edit list."""
    write(path, "mp4", Picture(bframes=3), Tone(), options={"movflags": "negative_cts_offsets"})


def edit_list(path: Path) -> None:
    """Trimmed in a phone's gallery: starts within a group of pictures."""
    with_edit_list(write(path, "mp4", Picture(count=60)), [(1.2, 0.48)])


def empty_edit(path: Path) -> None:
    with_edit_list(write(path, "mp4", Picture(count=40)), [(0.4, None), (1.2, 0.0)])


def flv_h264(path: Path) -> None:
    write(path, "flv", Picture(bframes=2), Tone(rate=44_100), tags={"encoder": "obs-output"})


def flv_sorenson(path: Path) -> None:
    picture = Picture("flv", base=COARSE, bframes=0)
    write(path, "flv", picture, Tone("libmp3lame", rate=22_050, layout="mono", bit_rate=64_000))


def wmv(path: Path) -> None:
    write(path, "asf", Picture("wmv2", base=COARSE), Tone("wmav2", rate=44_100, bit_rate=64_000))


def meeting(path: Path) -> None:
    """A meeting: frames only when something moves, mono sound."""
    steps = [1, 1, 3, 1, 7, 2, 1, 1, 10, 1, 1, 1, 4, 1, 2]
    times = [Fraction(sum(steps[:index]), 25) for index in range(len(steps))]
    write(path, "mp4", Picture(times=times, keyframe_every=6), Tone(rate=32_000, layout="mono", bit_rate=48_000))


def matroska_full(path: Path) -> None:
    """Subtitles with a font, chapters and a cover."""
    write(
        path, "matroska", Picture(bframes=2),
        Tone("ac3", bit_rate=192_000, layout="5.1(side)", metadata={"language": "ger", "title": "Surround"}),
        Tone("libopus", bit_rate=64_000, metadata={"language": "eng"}),
        Texts("ass", {"language": "ger"}, Disposition.default), Texts("srt", {"language": "eng"}),
        chapters=[(0, 0.8, "One"), (0.8, 1.6, "Two")], tags={"title": "A film", "director": "Somebody"},
        attachments=[
            ("font.ttf", "application/x-truetype-font", b"\0\1\0\0" + bytes(200)),
            ("cover.jpg", "image/jpeg", jpeg(96, 64)),
        ],
    )  # fmt: skip


def second_sound_default(path: Path) -> None:
    write(
        path, "mp4", Picture(),
        Tone(metadata={"language": "fra"}, disposition=Disposition(0)),
        Tone(metadata={"language": "eng"}, disposition=Disposition.default, first_hz=900),
    )  # fmt: skip


def chapters_mp4(path: Path) -> None:
    tags = {"title": "A talk", "artist": "Somebody", "comment": "recorded live", "date": "2024"}
    write(path, "mp4", Picture(), Tone(), chapters=[(0, 0.6, "Begin"), (0.6, 1.6, "End")], tags=tags)


def cover_mp4(path: Path) -> None:
    write(path, "mp4", Picture(), Tone(), cover=jpeg(96, 64), tags={"title": "With a cover"})


def surround_aac(path: Path) -> None:
    write(path, "mp4", Picture(), Tone(layout="5.1", bit_rate=256_000))


def surround_eac3(path: Path) -> None:
    write(path, "mp4", Picture(), Tone("eac3", layout="5.1(side)", bit_rate=256_000))


def thirty_streams(path: Path) -> None:
    tones = [Tone(layout="mono", bit_rate=32_000, metadata={"language": "eng"}, seconds=0.5) for _ in range(20)]
    write(path, "matroska", Picture(), *tones, *[Texts("srt", {"language": "eng"}) for _ in range(9)])


def encrypted(path: Path) -> None:
    options = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": "0" * 31 + "1", "encryption_kid": "0" * 31 + "2"}
    write(path, "mp4", Picture(), options=options)


def divx_packed(path: Path) -> None:
    """DivX 5 with B-frames, whose reordered times AVI cannot store."""
    picture = Picture("mpeg4", base=COARSE, bframes=2, tag="DX50", width=128, height=96)
    write(path, "avi", picture, Tone("libmp3lame", rate=44_100, bit_rate=96_000))


def xvid(path: Path) -> None:
    picture = Picture("mpeg4", base=COARSE, bframes=0, tag="XVID", width=128, height=96)
    write(path, "avi", picture, Tone("libmp3lame", rate=44_100, bit_rate=96_000))


def msmpeg4(path: Path) -> None:
    write(path, "avi", Picture("msmpeg4", base=COARSE, bframes=0, tag="DIV3"))


def mpeg4_mp4(path: Path) -> None:
    write(path, "mp4", Picture("mpeg4", base=COARSE, bframes=1, width=128, height=96), Tone())


def theora(path: Path) -> None:
    stored("theora.ogv", path)


KINDS = (
    Kind("web.mp4", "video site, H.264", web_mp4),
    Kind("vp8-alternate-references.webm", "browser recorder, VP8", webm_vp8),
    Kind("vp9.webm", "video site, VP9", webm_vp9),
    Kind("vp9-10-bit-pq.webm", "video site, HDR", webm_vp9_hdr),
    Kind("vp9-alpha.webm", "animation with transparency", webm_alpha),
    Kind("vp8-alpha.webm", "animation with transparency, VP8", webm_vp8_alpha),
    Kind("av1.webm", "video site, AV1", webm_av1),
    Kind("av1-opus.mp4", "video site, AV1 in MP4", mp4_av1),
    Kind("vp9.mp4", "VP9 in MP4", mp4_vp9),
    Kind("cmaf-fragments.mp4", "DASH or HLS, one file", dash_segmented),
    Kind("negative-decoding-times.mp4", "encoder with negative offsets", negative_dts),
    Kind("edit-list-trimmed.mp4", "gallery, trimmed without encoding", edit_list),
    Kind("edit-list-begins-empty.mp4", "editor, picture begins later", empty_edit),
    Kind("stream-h264.flv", "live stream, recorded", flv_h264),
    Kind("flash-sorenson.flv", "Flash video of 2005", flv_sorenson),
    Kind("windows-media.wmv", "Windows Movie Maker", wmv),
    Kind("meeting-vfr.mp4", "Zoom or Teams meeting", meeting),
    Kind("film-subtitles-fonts-chapters.mkv", "film, ripped", matroska_full),
    Kind("second-sound-is-default.mp4", "film with two languages", second_sound_default),
    Kind("chapters-and-tags.mp4", "podcast or talk", chapters_mp4),
    Kind("cover-picture.mp4", "music video with a cover", cover_mp4),
    Kind("surround-aac.mp4", "film, AAC 5.1", surround_aac),
    Kind("surround-eac3.mp4", "streaming service, E-AC-3 5.1", surround_eac3),
    Kind("thirty-streams.mkv", "film with many languages", thirty_streams),
    Kind("encrypted-cenc.mp4", "streaming service, with DRM", encrypted, refused="encrypted"),
    Kind("divx-b-frames.avi", "DivX of 2003", divx_packed),
    Kind("xvid.avi", "Xvid of 2005", xvid),
    Kind("ms-mpeg4.avi", "Microsoft MPEG-4 of 1999", msmpeg4),
    Kind("mpeg4-part-2.mp4", "MPEG-4 of 2004", mpeg4_mp4),
    Kind("theora.ogv", "Wikimedia of 2010", theora),
)
