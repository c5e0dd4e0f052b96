"""Damaged files of every kind: they are read or refused with a sentence, and nothing else of the machine is opened."""

from __future__ import annotations

import contextlib
import io
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from mmaudio_model.errors import MediaError, MediaTooLargeError
from mmaudio_model.media import probe
from mmaudio_model.media.frames import read_video_frames
from mmaudio_model.media.probe import MediaLimits, opened
from tests.integration.mmaudio_model.media.source_kinds import KINDS, SourceKind
from tests.unit.mmaudio_model.media.videos import LIMITS, SIDE, numbers, read, regular, with_box, write_video

MUTATIONS = 25
MUTATIONS_OF_LARGE = 5
HEADERS_BYTES = 2000


@pytest.fixture(autouse=True)
def others(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Collect the addresses of the other files that FFmpeg asks for; there must be none in the end."""
    asked: list[str] = []

    def refuse(url: str, *_: object) -> None:
        asked.append(url)
        raise PermissionError

    monkeypatch.setattr(probe, "_refuse", refuse)
    yield asked
    assert asked == []


def mutated(content: bytes, rng: random.Random) -> bytes:
    """Return a file with damage: bytes and numbers overwritten, a part left out or repeated, or the end cut off."""
    changed = bytearray(content)
    within = len(changed) if rng.random() < 0.5 else min(len(changed), HEADERS_BYTES)
    place = rng.randrange(within)
    match rng.randrange(5):
        case 0:
            for _ in range(rng.choice([1, 5, 50])):
                changed[rng.randrange(within)] = rng.randrange(256)
        case 1:
            for _ in range(rng.choice([1, 5, 50])):
                size = rng.choice([1, 2, 4, 8])
                begin = rng.randrange(within)
                changed[begin : begin + size] = rng.choice([0, 1, 256**size - 1, 256**size // 2]).to_bytes(size)
        case 2:
            del changed[place : place + rng.randrange(1, 200)]
        case 3:
            other = rng.randrange(len(changed))
            changed[place:place] = changed[other : other + rng.randrange(1, 400)]
        case _:
            del changed[rng.randrange(len(changed)) :]
    return bytes(changed)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_damage_of_any_kind_ends_in_frames_or_in_a_sentence(kind: SourceKind, tmp_path: Path) -> None:
    content = kind.made(tmp_path).read_bytes()
    for seed in range(MUTATIONS if len(content) < 1_000_000 else MUTATIONS_OF_LARGE):
        damaged = io.BytesIO(mutated(content, random.Random(f"{kind.name}-{seed}")))
        with contextlib.suppress(MediaError):
            read_video_frames(damaged, start_s=0.2, duration_s=0.2, clip_size=SIDE, sync_size=SIDE, limits=LIMITS)


@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if kind.name not in {"dv", "ogv", "m2ts"}], ids=lambda kind: kind.name
)
def test_a_picture_beyond_the_limit_is_refused_in_every_kind(kind: SourceKind, tmp_path: Path) -> None:
    content = kind.made(tmp_path).read_bytes()

    with (
        pytest.raises(MediaTooLargeError, match=f"{SIDE}x{SIDE} pixels; at most"),
        opened(io.BytesIO(content), MediaLimits(max_pixels=SIDE * SIDE - 1)),
    ):
        pass


@pytest.mark.parametrize(("kind", "inside"), [(b"url ", b"file:///etc/hostname\0"), (b"alis", bytes(60))])
def test_a_reference_to_another_file_is_not_followed(kind: bytes, inside: bytes, tmp_path: Path) -> None:
    path = write_video(tmp_path / "v", regular(10, 25))
    # Flags 0 say that the data are in the other file; they are in this one as well.
    with_box(path, b"url ", b"\0\0\0\0" + inside, (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"))
    path.write_bytes(path.read_bytes().replace(b"url \0\0\0\0", kind + b"\0\0\0\0"))

    assert numbers(read(path, duration_s=0.2).sync) == list(range(5))


def test_the_next_part_of_a_linked_matroska_file_is_not_opened(tmp_path: Path) -> None:
    content = write_video(tmp_path / "v", regular(10, 25), container="matroska").read_bytes()
    place = content.index(b"\x4d\x80")  # the name of the program that wrote it, next to where the name may stand
    size = content[place + 2] & 0x7F
    name = b"file:///etc/hostname".ljust(size - 1, b"\0")[: size - 1]
    linked = content[:place] + b"\x3e\x83\xbb" + bytes([0x80 | len(name)]) + name + content[place + 3 + size :]
    assert len(linked) == len(content)

    with opened(io.BytesIO(linked), LIMITS) as (container, stream):
        assert sum(1 for packet in container.demux(stream) if packet.size) == 10
