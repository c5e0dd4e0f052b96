"""Videos with everything that a container can hold beside a picture: sounds, subtitles, chapters, tags, a cover."""

from __future__ import annotations

import io
import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from PIL import Image

from mmaudio_model.media.mux.subtitles import ASS_HEADER
from tests.unit.mmaudio_model.media.videos import SOURCE_HZ, numbered

SECONDS = 4
RATE = 25
KEYFRAME_EVERY = 25
FONT = b"\0\1\0\0 not really a font"
LINES = ((0.5, 0.4, "first <i>line</i>"), (1.2, 1.5, "second"), (3.0, 0.5, "third"))
TITLE = "Ein \N{LATIN SMALL LETTER A WITH DIAERESIS} title; with 'marks'"


def click_track(at_s: float, seconds: float, rate: int = SOURCE_HZ) -> np.ndarray:
    """Return silence with a click, float32 (samples,)."""
    sound = np.zeros(round(seconds * rate), np.float32)
    sound[round(at_s * rate)] = 0.9
    return sound


def write_rich(path: Path, container: str, *, click_at_s: float = 1.5, timecode: str | None = None) -> Path:
    """Write numbered frames for SECONDS, a default sound of silence, and a second sound (FLAC or ALAC) with a click."""
    with av.open(str(path), "w", format=container) as out:
        out.metadata.update({"title": TITLE, "artist": "A. Nonymous", "creation_time": "2024-05-06T07:08:09.000000Z"})
        base = Fraction(1, 1000)
        out.set_chapters(
            [
                {"id": 1, "start": 0, "end": 1000, "time_base": base, "metadata": {"title": "one"}},
                {"id": 2, "start": 1000, "end": 2500, "time_base": base, "metadata": {"title": "two"}},
                {"id": 3, "start": 2500, "end": 4000, "time_base": base, "metadata": {"title": "three"}},
            ]
        )
        options = {"crf": "10", "threads": "1", "sc_threshold": "0", "bf": "2"}
        video: Any = out.add_stream("libx264", rate=RATE, options=options)
        video.width = video.height = 64
        video.pix_fmt = "yuv420p"
        video.codec_context.gop_size = KEYFRAME_EVERY
        video.codec_context.sample_aspect_ratio = Fraction(16, 15)
        video.metadata["language"] = "deu"
        if timecode is not None:
            video.metadata["timecode"] = timecode
        first: Any = out.add_stream("aac", rate=SOURCE_HZ, layout="mono")
        first.disposition = Disposition.default
        second: Any = out.add_stream("alac" if container == "mov" else "flac", rate=SOURCE_HZ, layout="mono")
        second.metadata.update({"language": "fra", "title": "commentary"})
        second.disposition = Disposition.comment
        texts = [_subtitles(out, "mov_text" if container in {"mp4", "mov"} else "subrip")]
        if container == "matroska":
            texts.append(_subtitles(out, "ass"))
            out.add_attachment("a.ttf", "application/x-truetype-font", FONT)
            out.add_attachment("cover.png", "image/png", _cover())
        cover: Any = None
        if container == "mp4":
            cover = out.add_mux_stream("png", width=16, height=16)
            cover.disposition = Disposition.attached_pic
            cover.time_base = Fraction(1, 90_000)
        if cover is not None:
            out.mux(_packet(cover, _cover(), 0, 0, cover.time_base))
        for line, text in enumerate(LINES):
            for stream in texts:
                out.mux(_line(stream, line, *text))
        for index in range(SECONDS * RATE):
            picture = VideoFrame.from_ndarray(numbered(index), format="rgb24").reformat(format="yuv420p")
            picture.pts, picture.time_base = index, Fraction(1, RATE)
            out.mux(video.encode(picture))
        out.mux(video.encode(None))
        for stream, sound in ((first, np.zeros(SECONDS * SOURCE_HZ, np.float32)), (second, click_track(click_at_s, 4))):
            frame = AudioFrame.from_ndarray(sound[None], format="fltp", layout="mono")
            frame.sample_rate, frame.pts = SOURCE_HZ, 0
            out.mux(stream.encode(frame))
            out.mux(stream.encode(None))
    return path


def _subtitles(out: Any, codec: str) -> Any:
    if codec == "subrip":
        stream = out.add_mux_stream("subrip")
    else:
        stream = out.add_stream(codec)
        stream.codec_context.subtitle_header = ASS_HEADER
    stream.time_base = Fraction(1, 1000)
    stream.metadata.update({"language": "eng"})
    return stream


def _line(stream: Any, number: int, at_s: float, seconds: float, text: str) -> Packet[Any]:
    content = text.encode()
    if stream.codec_context is not None and stream.codec_context.name in {"ass", "ssa"}:
        content = f"{number},0,Default,,0,0,0,,{{\\b1}}{text}".encode()
    elif stream.codec_context is not None:
        content = struct.pack(">H", len(content)) + content
    return _packet(stream, content, round(at_s * 1000), round(seconds * 1000), Fraction(1, 1000))


def _packet(stream: Any, content: bytes, pts: int, duration: int, base: Fraction) -> Packet[Any]:
    packet: Packet[Any] = Packet(content)
    packet.pts = packet.dts = pts
    packet.duration, packet.time_base, packet.is_keyframe = duration, base, True
    packet.stream = stream
    return packet


def _cover() -> bytes:
    written = io.BytesIO()
    Image.new("RGB", (16, 16), (200, 30, 30)).save(written, "png")
    return written.getvalue()
