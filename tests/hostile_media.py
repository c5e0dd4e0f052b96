"""The whole collection of hostile and broken files for one place: its canary and its listener instead of the samples'.

What is stored in `tests/data` is taken from there; what only differs in content or size is made here.
"""

from __future__ import annotations

import json
import lzma
import random
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.unit.mmaudio_model.media.videos import numbered, regular, with_box, write_video

DATA = Path(__file__).parent / "data"
LISTENER_OF_THE_SAMPLES = b"127.0.0.1:18999"
NO_VIDEO = (
    "The file is not a readable video; supported are MP4, MOV, M4V, 3GP, MKV, WebM, AVI, MPEG-TS, MPEG-PS (VOB), MXF, "
    "FLV, OGV, WMV (ASF), DV, GIF, APNG and animated WebP."
)


@dataclass(frozen=True)
class HostileFile:
    """One file and what must become of it.

    Attributes:
        code: the error's code; None: it gets a sound.
        message: the sentence of the refusal.
        duration_s: how long the sound is.
    """

    name: str
    content: bytes
    code: str | None = None
    message: str | None = None
    duration_s: float | None = None


def hostile_files(folder: Path, *, canary: Path, port: int) -> list[HostileFile]:
    """Return every file of the collection.

    Args:
        folder: where those that are made are written on the way.
        canary: the file that they point at.
        port: where they point at over HTTP, on this machine; five digits, as in the samples.
    """
    listener = f"127.0.0.1:{port}".encode()
    assert len(listener) == len(LISTENER_OF_THE_SAMPLES), "the lengths inside the files would be wrong"
    files = [*_stored(), *_packed(), *_texts(canary, port), *_blobs(), *_videos(folder, canary)]
    return [
        HostileFile(
            one.name, one.content.replace(LISTENER_OF_THE_SAMPLES, listener), one.code, one.message, one.duration_s
        )
        for one in files
    ]


def _stored() -> list[HostileFile]:
    table: list[dict[str, Any]] = json.loads((DATA / "media" / "expected.json").read_text())
    codes = {"MediaInvalidError": "media_invalid", "MediaTooLargeError": "media_too_large"}
    return [
        HostileFile(
            entry["file"].removeprefix("bad/"),
            (DATA / "media" / entry["file"]).read_bytes(),
            codes[entry["error"]] if entry["outcome"] == "refused" else None,
            entry.get("message"),
            entry.get("duration_s"),
        )
        for entry in table
        if entry["file"].startswith("bad/")
    ]


def _packed() -> list[HostileFile]:
    """Return the files that are large only when they are unpacked."""
    told = {
        "bomb_16000x16000.mp4": (
            "media_too_large",
            "The picture has 16000x16000 pixels; at most 37.7 megapixels are allowed.",
        ),
        "frames_100000_1x1.mp4": ("media_invalid", "The picture has 1x1 pixels; each side needs at least 8."),
    }
    return [
        HostileFile(name, lzma.decompress((DATA / "packed" / f"{name}.xz").read_bytes()), code, message)
        for name, (code, message) in told.items()
    ]


def _texts(canary: Path, port: int) -> list[HostileFile]:
    """Return the files that only name another one."""
    playlist = (
        "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:10\n#EXT-X-MEDIA-SEQUENCE:0\n"
        f"#EXTINF:10.0,\nfile://{canary}\n#EXT-X-ENDLIST\n"
    )
    dash = (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'mediaPresentationDuration="PT2S" profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period>'
        '<AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1" width="320" height="240" '
        f'codecs="avc1.640028"><BaseURL>file://{canary}</BaseURL></Representation><Representation id="2" '
        f'bandwidth="2"><BaseURL>http://127.0.0.1:{port}/dash.mp4</BaseURL></Representation></AdaptationSet>'
        "</Period></MPD>"
    )
    script = f"ffconcat version 1.0\nfile '{canary}'\nfile '/etc/passwd'\n"
    told = {
        "hls_file_canary.m3u8": (playlist, "The file is a playlist, not a video."),
        "hls_file_renamed.mp4": (playlist, "The file is a playlist, not a video."),
        "dash_manifest.mpd": (dash, "The file is a text document, not a video."),
        "concat_script.mp4": (script, "The file is a list of other files, not a video."),
    }
    return [HostileFile(name, text.encode(), "media_invalid", message) for name, (text, message) in told.items()]


def _blobs() -> list[HostileFile]:
    program = Path(sys.executable).resolve().read_bytes()[:35_664]
    return [
        HostileFile("random.mp4", random.Random(5).randbytes(300_000), "media_invalid", NO_VIDEO),
        HostileFile("zeros.mp4", bytes(1_048_576), "media_invalid", NO_VIDEO),
        HostileFile("elf_program.mp4", program, "media_invalid", "The file is a program, not a video."),
    ]


def _videos(folder: Path, canary: Path) -> list[HostileFile]:
    long = write_video(
        folder / "two_hours_1fps.mp4",
        regular(7200, 1),
        pictures=[numbered(0)] * 7200,
        rate=1,
        options={"preset": "ultrafast"},
    )
    # The data are in the file as well; flags 0 says that they are not.
    pointing = write_video(folder / "dref_url_file.mp4", regular(50, 25))
    reference = b"\0\0\0\0" + f"file://{canary}".encode() + b"\0"
    with_box(pointing, b"url ", reference, (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"))
    webm = write_video(folder / "webm_named.mp4", regular(50, 25), container="webm", codec="libvpx")
    return [
        HostileFile(long.name, long.read_bytes(), duration_s=30.0),  # only what the model can use is decoded
        HostileFile(pointing.name, pointing.read_bytes(), duration_s=2.0),
        HostileFile(webm.name, webm.read_bytes(), duration_s=2.0),
        HostileFile("mp4_named.sdp", (DATA / "media" / "bad" / "mp4_named.avi").read_bytes(), duration_s=2.0),
    ]
