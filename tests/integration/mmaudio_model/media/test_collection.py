"""Every kind of file of the collection: read, copied or encoded again, and nothing changed without a word."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest

from tests.media_collection.compare import section
from tests.media_collection.kind import Kind
from tests.media_collection.kinds import KINDS
from tests.media_collection.outcome import Outcome, muxed, outcome_of
from tests.media_collection.pictures import number_in, number_in_stretched
from tests.media_collection.still_pictures import STILL
from tests.media_collection.table import DOCUMENT, document_with, tables

VIDEOS = [kind for kind in KINDS if not kind.still]
TAKEN = [kind for kind in VIDEOS if kind.refused is None]
FFPROBE = shutil.which("ffprobe")
# Containers and arrangements of which every start is tried.
EVERY_START = (
    "web.mp4", "ipad-screen-fragmented.mp4", "android-upright-vfr.mp4", "iphone-sdr-h264-upright.mov",
    "film-subtitles-fonts-chapters.mkv", "vp8-alternate-references.webm", "vp9.webm", "xvid.avi", "divx-b-frames.avi",
    "described-video.ts", "avchd-interlaced.mts", "dvb-hd-open-gop.ts", "dvb-hd-clock-wraps.ts", "stream-h264.flv",
    "program-stream.mpg", "dvd-ntsc-pcm.vob", "xavc-long.mxf", "xdcam-hd422-eight-mono.mxf", "theora.ogv",
    "windows-media.wmv",
)  # fmt: skip


class Collection:
    """Makes each file and its outcome once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.outcomes: dict[str, Outcome] = {}

    def path(self, kind: Kind) -> Path:
        path = self.folder / kind.name
        if not path.exists():
            kind.make(path)
        return path

    def outcome(self, kind: Kind) -> Outcome:
        if kind.name not in self.outcomes:
            self.outcomes[kind.name] = outcome_of(kind, self.path(kind), self.result(kind))
        return self.outcomes[kind.name]

    def result(self, kind: Kind) -> Path:
        """Return where the result of a kind's whole lies."""
        return self.folder / f"result of {kind.name}"


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collection]:
    folder = tmp_path_factory.mktemp("collection")
    yield Collection(folder)
    shutil.rmtree(folder)


def by_name(kinds: list[Kind]) -> list[object]:
    return [pytest.param(kind, id=kind.name) for kind in kinds]


def test_there_are_at_least_sixty_kinds_of_videos_with_names_of_their_own() -> None:
    assert len(VIDEOS) >= 60
    assert len({kind.name for kind in KINDS}) == len(KINDS)


@pytest.mark.parametrize("kind", by_name(VIDEOS))
def test_a_kind_is_taken_or_refused_in_a_sentence(collection: Collection, kind: Kind) -> None:
    outcome = collection.outcome(kind)
    if kind.refused is not None:
        assert outcome.refused is not None
        assert kind.refused in outcome.refused
    else:
        assert outcome.refused is None
        assert [outcome.whole.refused, outcome.section.refused] == [None, None]
        assert kind.says is None or any(kind.says in sentence for sentence in outcome.read or ())


@pytest.mark.parametrize("kind", by_name(TAKEN))
def test_the_frames_that_are_read_are_those_that_are_shown(collection: Collection, kind: Kind) -> None:
    outcome = collection.outcome(kind)
    assert outcome.source is not None
    shown = outcome.source.shown
    assert 0 < outcome.covered_s - shown[-1][0] < 0.15
    expected = [section(shown, Fraction(index, 25), Fraction(1, 25))[0][1] for index in range(len(outcome.sync))]
    assert [number_in(picture) for picture in outcome.sync] == expected
    assert len(outcome.sync) == int(outcome.covered_s * 25)


@pytest.mark.parametrize("kind", by_name(TAKEN))
def test_whatever_changes_is_named(collection: Collection, kind: Kind) -> None:
    outcome = collection.outcome(kind)
    assert {"whole": outcome.whole.unnamed(), "section": outcome.section.unnamed()} == {"whole": [], "section": []}


@pytest.mark.parametrize("kind", by_name([kind for kind in KINDS if kind.still]))
def test_a_still_picture_is_read_upright(collection: Collection, kind: Kind) -> None:
    outcome = collection.outcome(kind)
    assert outcome.refused is None
    width, height = kind.size
    assert number_in_stretched(outcome.clip[0], width, height) == STILL


@pytest.mark.parametrize("name", EVERY_START)
def test_every_start_gives_the_frames_from_there(collection: Collection, tmp_path: Path, name: str) -> None:
    kind = next(kind for kind in KINDS if kind.name == name)
    source = collection.outcome(kind).source
    assert source is not None
    found: dict[str, object] = {}
    for tenth in range(int((source.shown[-1][0] - Fraction(3, 10)) * 10) + 1):
        made = muxed(collection.path(kind), tmp_path / "out", Fraction(tenth, 10), Fraction(3, 10), source)
        if made.refused or made.unnamed():
            found[f"{tenth / 10} s"] = made.refused or made.unnamed()
    assert found == {}


@pytest.mark.skipif(FFPROBE is None, reason="ffprobe is not installed; what PyAV says is checked by the tests above")
def test_ffprobe_has_nothing_to_complain_about(collection: Collection) -> None:
    said = {}
    for kind in TAKEN:
        outcome = collection.outcome(kind)
        assert outcome.source is not None
        if not outcome.source.damaged:
            command = [str(FFPROBE), "-v", "error", str(collection.result(kind))]
            result = subprocess.run(command, capture_output=True, text=True, check=False)
            if result.stderr or result.returncode:
                said[kind.name] = result.stderr
    assert said == {}


def test_the_document_says_what_becomes_of_each_kind(collection: Collection) -> None:
    for kind in KINDS:
        collection.outcome(kind)
    text = DOCUMENT.read_text()
    assert text == document_with(text, tables(collection.outcomes)), "run `python -m tests.media_collection table`"
