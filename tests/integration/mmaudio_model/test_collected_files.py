"""Every file of tests/data/media through `mmaudio generate` and the media code behind it; nothing else gets read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.error import FFmpegError
from click.testing import CliRunner, Result

from mmaudio_model import errors
from mmaudio_model.cli import generate as command
from mmaudio_model.errors import MediaInvalidError
from mmaudio_model.media.audio import Sound
from mmaudio_model.media.mux.plan import MuxOptions
from mmaudio_model.media.mux.writing import mux_video
from mmaudio_model.pipeline import GenerationRequest, Pipeline
from mmaudio_model.variants import get_variant
from tests.unit.mmaudio_model.media.videos import (
    LIMITS,
    numbered,
    numbers,
    read,
    regular,
    sound_of,
    video_packets,
    with_box,
    write_video,
)

FOLDER = Path(__file__).parents[2] / "data" / "media"
TABLE: list[dict[str, Any]] = json.loads((FOLDER / "expected.json").read_text())
TINY = get_variant("tiny_16k")
CANARY = 255
REENCODED_LEVELS = 12
SILENCE = Sound.mono(np.zeros(100, np.float32), 16_000)


class Tone:
    """Stands in for the pipeline: these tests are about files."""

    def generate(self, requests: Sequence[GenerationRequest], **_: object) -> list[np.ndarray]:
        lengths = [round(one.duration_s * TINY.sample_rate_hz) for one in requests]
        return [np.sin(0.2 * np.arange(length), dtype=np.float32) for length in lengths]


@pytest.fixture(autouse=True)
def _tone_instead_of_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pipeline, "load", lambda *_, **__: Tone())


def generate(video: Path, output: Path, *options: str) -> Result:
    return CliRunner().invoke(command.generate, ["--video", str(video), "--output", str(output), *options])


def told(result: Result) -> list[str]:
    """Return what was said, but for the note of what the variant knows."""
    return [line for line in result.stderr.splitlines() if line.strip() and "tiny_16k is" not in line]


def entries(outcome: str) -> list[Any]:
    return [pytest.param(entry, id=entry["file"]) for entry in TABLE if entry["outcome"] == outcome]


def test_the_table_names_every_file_and_agrees_with_the_collection() -> None:
    stored = {f"{kind}/{path.name}" for kind in ("bad", "real") for path in (FOLDER / kind).iterdir()}

    assert {entry["file"] for entry in TABLE} == stored
    allowed = {"accept": {"accepted"}, "reject": {"refused"}, "either": {"accepted", "refused"}}
    for entry in TABLE:
        assert entry["outcome"] in allowed[entry.get("expect", "accept")], entry["file"]


@pytest.mark.parametrize("entry", entries("refused"))
def test_a_bad_file_is_refused_in_one_sentence(entry: dict[str, Any], tmp_path: Path) -> None:
    result = generate(FOLDER / entry["file"], tmp_path / "out")

    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == 1
    assert told(result) == [f"Error: {entry['message']}"]
    assert not (tmp_path / "out").exists()
    with pytest.raises(getattr(errors, entry["error"])):
        read(FOLDER / entry["file"], duration_s=2.0)


@pytest.mark.parametrize("entry", entries("accepted"))
def test_an_accepted_file_gets_a_sound_and_a_video_of_its_length(entry: dict[str, Any], tmp_path: Path) -> None:
    source = FOLDER / entry["file"]
    result = generate(source, tmp_path / "out")

    assert result.exit_code == 0, result.output
    of_encoding = ("Warning: The video was re-encoded: ", "Warning: Encoding changed the picture: ")
    reencoded = [line for line in told(result) if line.startswith(of_encoding)]
    assert bool(reencoded) == entry.get("reencoded", False)
    assert bool(set(told(result)) - set(reencoded)) == entry["damaged"]
    written = [Path(line) for line in result.stdout.split()]
    kept = source.suffix if source.suffix == ".mkv" else ".mp4"
    assert sorted(path.name for path in written) == [f"{source.stem}.flac", f"{source.stem}{kept}"]
    assert sorted((tmp_path / "out").iterdir()) == sorted(written)
    sound, rate = sound_of(tmp_path / "out" / f"{source.stem}.flac")
    assert sound.shape[1] / rate == pytest.approx(entry["duration_s"], abs=0.001)
    before, after = (read(path, duration_s=30.0) for path in (source, tmp_path / "out" / f"{source.stem}{kept}"))
    assert after.duration_s == pytest.approx(entry["duration_s"], abs=0.002)
    if reencoded:
        assert np.abs(before.sync.astype(int) - after.sync[: len(before.sync)]).mean() < REENCODED_LEVELS
        return
    assert np.array_equal(before.clip, after.clip[: len(before.clip)])
    assert np.array_equal(before.sync, after.sync[: len(before.sync)])


def test_damage_in_the_middle_is_counted(tmp_path: Path) -> None:
    assert told(generate(FOLDER / "bad/corrupt_middle.mp4", tmp_path)) == [
        "Warning: 14 parts of the video are damaged and were skipped."
    ]


def test_a_result_never_overwrites_its_own_video(tmp_path: Path) -> None:
    video = tmp_path / "v.mp4"
    video.write_bytes((FOLDER / "real/stream_0.4s.mp4").read_bytes())
    before = video.read_bytes()

    for options in ([], ["--skip-video-composite"]):
        result = generate(video, tmp_path, *options)
        assert result.exit_code == 0, result.output
        assert str(video) not in result.stdout.split()
        assert video.read_bytes() == before
    refused = generate(video, tmp_path, "--overwrite")
    assert refused.exit_code == 2
    assert "would overwrite the input" in refused.stderr
    assert video.read_bytes() == before


@pytest.mark.parametrize("duration", ["-1", "0", "nan", "1e9"])
def test_a_duration_that_cannot_be_is_refused_in_one_sentence(tmp_path: Path, duration: str) -> None:
    result = generate(FOLDER / "real/stream_0.4s.mp4", tmp_path, "--duration", duration)

    assert result.exit_code == 2
    assert "duration" in result.stderr.splitlines()[-1]


@pytest.fixture
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A video whose frames nobody may see, in the working folder, where relative names lead to it."""
    monkeypatch.chdir(tmp_path)
    return write_video(tmp_path / "canary.ts", regular(25, 25), pictures=[numbered(CANARY)] * 25, container="mpegts")


def playlist(target: str) -> str:
    return f"#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:10\n#EXTINF:10.0,\n{target}\n#EXT-X-ENDLIST\n"


DASH = """<?xml version="1.0"?>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT1S"
 profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period><AdaptationSet mimeType="video/mp4">
 <Representation id="1" bandwidth="1"><BaseURL>{}</BaseURL></Representation></AdaptationSet></Period></MPD>"""


@pytest.mark.parametrize("name", ["a.mp4", "a.m3u8", "a.mpd", "a"])
@pytest.mark.parametrize(
    "text", ["ffconcat version 1.0\nfile {}\n", playlist("{}"), playlist("file://{}"), playlist("concat:{}|{}"), DASH]
)
@pytest.mark.parametrize("absolute", [False, True])
def test_a_file_that_only_names_another_one_is_refused(canary: Path, name: str, text: str, absolute: bool) -> None:
    target = str(canary) if absolute else canary.name
    path = canary.with_name(name)
    path.write_text(text.replace("{}", target))

    result = generate(path, canary.with_name("out"))
    assert result.exit_code == 1
    (said,) = told(result)
    assert said.endswith("not a video.")
    with path.open("rb") as file, pytest.raises(MediaInvalidError):
        mux_video(file, SILENCE, Path("x"), options=MuxOptions(0.0, 1.0), limits=LIMITS)


@pytest.mark.parametrize(
    ("name", "text"), [("a.mp4", "ffconcat version 1.0\nfile canary.ts\n"), ("a.m3u8", playlist("canary.ts"))]
)
def test_ffmpeg_left_to_itself_would_show_the_other_file(canary: Path, name: str, text: str) -> None:
    """The control of the test above: what is refused there is dangerous indeed."""
    path = canary.with_name(name)
    path.write_text(text)
    try:
        with av.open(str(path)) as container:
            seen = numbers(np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]))
    except FFmpegError as exc:  # pragma: no cover
        pytest.fail(f"this FFmpeg refuses it as well: {exc}")
    assert set(seen) == {CANARY}


def test_a_data_reference_to_another_file_is_not_followed(canary: Path) -> None:
    path = write_video(canary.with_name("v.mp4"), regular(25, 25))
    # flags 0: the data are not in this file
    reference = b"\0\0\0\0" + f"file://{canary}".encode() + b"\0"
    parents = (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref")
    with_box(path, b"url ", reference, parents)

    assert f"file://{canary}".encode() in path.read_bytes()
    assert numbers(read(path, duration_s=1.0).sync) == list(range(25))
    result = generate(path, canary.with_name("out"))
    assert result.exit_code == 0
    assert len(video_packets(canary.with_name("out") / "v.mp4")) == 25


def test_an_attachment_of_a_video_is_not_written_and_its_title_is_not_said(tmp_path: Path) -> None:
    path, outside = tmp_path / "in" / "v.mkv", tmp_path / "escaped.txt"
    path.parent.mkdir()
    source = write_video(tmp_path / "plain.mp4", regular(25, 25))
    with av.open(str(source)) as plain, av.open(str(path), "w", format="matroska") as out:
        out.metadata["title"] = "\x1b[31m<script>alert(1)</script>"
        stream = out.add_stream_from_template(plain.streams.video[0])
        out.add_attachment("../escaped.txt", "text/plain", b"escaped")
        for packet in plain.demux(video=0):
            if packet.size:
                packet.stream = stream
                out.mux(packet)
    result = generate(path, tmp_path / "out")

    assert result.exit_code == 0, result.output
    assert "script" not in result.output
    assert not outside.exists()
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"v.flac", "v.mkv"}
    assert b"<script>" in (tmp_path / "out" / "v.mkv").read_bytes()  # a tag, which is kept as it is
