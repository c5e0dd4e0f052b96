"""Files of every container that end too early, and whole ones that must not be called so."""

from __future__ import annotations

import io
import random
import struct
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from mmaudio_model.media.cut_off import cut_off
from mmaudio_model.media.cut_off_signs import BY_DEMUXER, MOST_STEPS, boxes, fragments
from mmaudio_model.media.media_warning import MediaWarning, WarningCode
from tests.unit.mmaudio_model.media.videos import MUXER_OPTIONS, regular, write_video

DATA = Path(__file__).parents[3] / "data" / "media"
FRAMES, RATE = 40, 25
CUTS = 8
FAST = {"deadline": "realtime", "cpu-used": "8"}
KINDS: dict[str, dict[str, Any]] = {
    "mp4 index first": {"container": "mp4", "muxer": {"movflags": "faststart"}},
    "mov index first": {"container": "mov", "muxer": {"movflags": "faststart"}},
    "mp4 in fragments": {"container": "mp4", "muxer": {"movflags": "frag_keyframe+empty_moov"}},
    "mp4 in fragments with index": {"container": "mp4", "muxer": {"movflags": "frag_keyframe+global_sidx"}},
    "mp4 for dash": {"container": "mp4", "muxer": {"movflags": "dash+frag_keyframe"}},
    "mkv": {"container": "matroska"},
    "mkv live": {"container": "matroska", "muxer": {"live": "1"}},
    "webm": {"container": "webm", "codec": "libvpx", "options": FAST},
    "webm live": {"container": "webm", "codec": "libvpx", "options": FAST, "muxer": {"live": "1"}},
    "ts": {"container": "mpegts"},
    "ts with lengths": {"container": "mpegts", "codec": "mpeg2video", "muxer": {"omit_video_pes_length": "0"}},
    "m2ts": {"container": "mpegts", "muxer": {"mpegts_m2ts_mode": "1"}},
    "avi": {"container": "avi", "codec": "mpeg4"},
    "flv": {"container": "flv"},
    "mxf": {"container": "mxf", "codec": "mpeg2video"},
    "mpeg": {"container": "mpeg", "codec": "mpeg2video"},
    "vob": {"container": "vob", "codec": "mpeg2video"},
    "asf": {"container": "asf", "codec": "mpeg4"},
    "ogg": {"container": "ogg", "codec": "libvpx", "options": FAST},
    "gif": {"container": "gif", "codec": "gif", "pix_fmt": "rgb8"},
    "apng": {"container": "apng", "codec": "apng", "pix_fmt": "rgb24"},
}
NOT_CUT: dict[str, dict[str, Any]] = {
    "mp4 index last": {"container": "mp4"},
    "smooth streaming": {"container": "ismv"},
    "3gp": {"container": "3gp"},
    "f4v": {"container": "f4v"},
    "dvd": {"container": "dvd", "codec": "mpeg2video"},
    "nut": {"container": "nut"},
}


def made(kind: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    options = dict(kind)
    muxer = options.pop("muxer", {})
    if muxer:
        monkeypatch.setitem(MUXER_OPTIONS, kind["container"], muxer)
    noise = np.random.default_rng(0).integers(0, 256, (FRAMES, 48, 64, 3), dtype=np.uint8)
    path = write_video(
        folder / "video", regular(FRAMES, RATE), pictures=list(noise), rate=RATE, keyframe_every=10, **options
    )
    return path.read_bytes()


def judged(content: bytes, section_end_s: float | None = None) -> MediaWarning | None:
    file = io.BytesIO(content)
    with av.open(file, "r") as container:
        position = file.tell()
        warning = cut_off(file, container, container.streams.video[0], section_end_s=section_end_s)
        assert file.tell() == position
    return warning


@pytest.mark.parametrize("name", [*KINDS, *NOT_CUT])
def test_a_whole_file_is_not_called_cut_off(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert judged(made({**KINDS, **NOT_CUT}[name], tmp_path, monkeypatch)) is None


@pytest.mark.parametrize("name", KINDS)
def test_a_file_that_ends_too_early_is_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = made(KINDS[name], tmp_path, monkeypatch)
    chance = random.Random(name)
    for end in [
        len(content) // 2 + 1,
        *(chance.randrange(len(content) // 3, len(content) * 9 // 10) for _ in range(CUTS)),
    ]:
        warning = judged(content[:end])
        assert warning is not None, (end, len(content))
        assert warning.code is WarningCode.VIDEO_CUT_OFF
        assert "cut off" in warning.text


def test_how_much_is_there_and_whether_it_matters_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = made(KINDS["mp4 index first"], tmp_path, monkeypatch)
    half = content[: len(content) // 2]
    early, late = judged(half, 0.5), judged(half, 2.0)

    assert early is not None
    assert late is not None
    assert "there for 0.8 s of 1.6 s" in early.text or "there for 0.7 s of 1.6 s" in early.text
    assert "is not affected" in early.text
    assert "ends early" in late.text


@pytest.mark.parametrize("path", sorted((DATA / "real").iterdir()), ids=lambda path: path.name)
def test_recordings_are_whole(path: Path) -> None:
    assert judged(path.read_bytes()) is None


@pytest.mark.parametrize("name", ["trailing_garbage.mp4", "edit_list_empty_3s.mp4", "negative_timestamps.mp4"])
def test_odd_files_are_whole(name: str) -> None:
    assert judged((DATA / "bad" / name).read_bytes()) is None


@pytest.mark.parametrize("name", ["mkv", "avi", "mpeg", "gif", "ts", "flv", "asf", "mxf"])
def test_padding_after_the_end_is_no_fault(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = made(KINDS[name], tmp_path, monkeypatch)

    if name != "gif":
        assert judged(content + bytes(188 * 4)) is None
    else:
        assert judged(content + bytes(20)) is None


def test_a_live_avi_whose_sizes_were_never_written_is_whole_until_it_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = bytearray(made(KINDS["avi"], tmp_path, monkeypatch))
    content[4:8] = bytes(4)
    index = content.index(b"idx1")
    live = bytes(content[:index])

    assert judged(live) is None
    assert judged(live[: len(live) * 2 // 3]) is not None


def test_raw_dv_is_counted_in_frames(tmp_path: Path) -> None:
    path = tmp_path / "video.dv"
    with av.open(str(path), "w", format="dv") as out:
        stream: Any = out.add_stream("dvvideo", rate=25)
        stream.width, stream.height, stream.pix_fmt = 720, 576, "yuv420p"
        for number in range(3):
            frame = av.VideoFrame(720, 576, "yuv420p")
            frame.pts = number
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    content = path.read_bytes()

    assert judged(content) is None
    assert judged(content[: len(content) * 3 // 5]) is not None


def test_a_transport_stream_of_which_only_whole_packets_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = made(KINDS["ts with lengths"], tmp_path, monkeypatch)
    packets = len(content) // 188

    found = [judged(content[: 188 * count]) is not None for count in range(packets // 2, packets // 2 + 20)]
    assert sum(found) >= 5, "many cuts leave a picture whose length is declared incomplete"


def test_endless_boxes_are_not_followed_for_ever() -> None:
    content = struct.pack(">I4s", 8, b"free") * 300_000
    assert sum(1 for _ in boxes(io.BytesIO(content), len(content))) == MOST_STEPS


@pytest.mark.parametrize(
    "name", ["mp4 in fragments with index", "mkv live", "m2ts", "mpeg", "avi", "flv", "mxf", "ogg"]
)
def test_mutated_files_are_judged_without_an_error(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = made(KINDS[name], tmp_path, monkeypatch)
    chance = random.Random(name)
    for _ in range(30):
        changed = bytearray(content)
        for _ in range(chance.choice((1, 8, 200))):
            place = chance.choice((chance.randrange(200), chance.randrange(len(changed))))
            changed[place] = chance.choice((0, 255, chance.randrange(256)))
        for judge in (fragments, *BY_DEMUXER.values()):
            judge(io.BytesIO(bytes(changed)), len(changed))


def test_sizes_beyond_what_can_be_sought_are_no_error() -> None:
    content = struct.pack(">I4sQ", 1, b"mdat", 2**64 - 1) + bytes(100)

    assert fragments(io.BytesIO(content), len(content)) == (False, 2**64 - 1)
