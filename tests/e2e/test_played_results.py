"""Chromium plays every result whose codec is one of the web's: pictures move, sound is there, the length is right."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, sync_playwright

from tests.media_collection.kinds import KINDS
from tests.media_collection.outcome import Muxed, muxed

pytestmark = pytest.mark.browser

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
CONTAINERS = {"mp4", "webm"}
CODECS = {"h264", "vp8", "vp9", "av1", "dav1d"}
FORMATS = {"yuv420p"}
"""Chromium's software decoders for H.264 know no other; VP9 and AV1 are checked where they are this, too."""
DURATION_S = Fraction(6, 5)
# A section is played as well of every so many kinds.
SECTIONS_OF = 4
# Several play at once: each takes about a second.
AT_ONCE = 12
PLAY = """
async sources => Promise.all(sources.map(source => new Promise(done => {
  const player = document.createElement('video');
  player.muted = true;
  player.src = source;
  const end = said => {
    const seen = player.getVideoPlaybackQuality().totalVideoFrames;
    const sound = player.webkitAudioDecodedByteCount, size = [player.videoWidth, player.videoHeight];
    done({said, seen, sound, size, duration: player.duration, time: player.currentTime});
    player.remove();
  };
  player.onended = () => end('ended');
  player.onerror = () => end(player.error.message);
  setTimeout(() => end('timed out'), 60000);
  document.body.append(player);
  player.play().catch(error => end(String(error)));
})))
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    folder = tmp_path_factory.mktemp("page")
    (folder / "page.html").write_text("<!doctype html><title>Results</title>")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--no-first-run"],
        )
        page = browser.new_page()
        page.goto((folder / "page.html").as_uri())
        yield page
        browser.close()


def test_chromium_plays_the_results_from_their_first_to_their_last_frame(page: Page, tmp_path: Path) -> None:
    results: dict[str, tuple[Path, Muxed, Fraction]] = {}
    for index, kind in enumerate(one for one in KINDS if not one.still and not one.refused):
        source = tmp_path / kind.name
        kind.make(source)
        sections = [(Fraction(0), DURATION_S)]
        if index % SECTIONS_OF == 0:
            sections.append((kind.off_keyframe_s, kind.section_s))
        for start_s, duration_s in sections:
            path = tmp_path / f"{kind.name} from {float(start_s)} s"
            made = muxed(source, path, start_s, duration_s, None)
            if made.refused is None and of_the_web(made):
                results[path.name] = path, made, duration_s
        source.unlink()
    assert len(results) >= 60

    found: dict[str, Any] = {}
    names = list(results)
    for first in range(0, len(names), AT_ONCE):
        group = names[first : first + AT_ONCE]
        played = page.evaluate(PLAY, [results[name][0].as_uri() for name in group])
        found |= dict(zip(group, played, strict=True))
    faults = {name: fault_in(play, *results[name][1:]) for name, play in found.items()}
    assert {name: fault for name, fault in faults.items() if fault} == {}


def of_the_web(made: Muxed) -> bool:
    facts = made.facts
    assert facts is not None
    return made.container in CONTAINERS and facts.codec in CODECS and facts.pix_fmt in FORMATS


def fault_in(play: dict[str, Any], made: Muxed, asked_s: Fraction) -> str | None:
    """Return what is wrong with how a result was played."""
    facts = made.facts
    assert facts is not None
    shown = facts.shown
    steps = [after[0] - before[0] for before, after in pairwise(shown)]
    last_s = float(shown[-1][0] + max(steps, default=Fraction(1, 10)))
    if play["said"] != "ended":
        return str(play)
    # A browser that is late skips pictures, but not most of them.
    if play["seen"] < len(shown) / 2 or not play["sound"]:
        return f"{play}, {len(shown)} pictures"
    longest_s = max(last_s, float(asked_s))
    if not float(shown[-1][0]) < play["duration"] < longest_s + 0.1:
        return f"{play}, pictures until {last_s} s of {float(asked_s)}"
    turned = facts.matrix[0] == 0
    width, height = facts.size[::-1] if turned else facts.size
    sar = 1 / facts.sar if turned else facts.sar
    # Chromium gives the size in square pixels.
    return (
        None if abs(play["size"][0] / play["size"][1] - width * sar / height) < 0.05 else f"{play}, {facts.size} {sar}"
    )
