"""The Gradio page as a person and as a program use it: a real process, a real browser, no network but loopback."""

from __future__ import annotations

import contextlib
import ipaddress
import re
import shutil
import signal
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import av
import httpx
import pytest
from playwright.sync_api import Page, expect, sync_playwright

from local_services.commands import Commands, wait_until
from tests.e2e.conftest import free_port

READY_WITHIN_S, DONE_WITHIN_S = 120, 120
BAD = Path("tests/data/media/bad")

# Loaded by the command's interpreter before anything else: whom it talks to, and which names it looks up.
LISTENER = """
    import os, sys
    def note(event, arguments):
        if event == "socket.connect" and isinstance(arguments[1], tuple):
            who = arguments[1][0]
        elif event == "socket.getaddrinfo":
            who = arguments[0]
        else:
            return
        with open(os.environ["TALKED_TO"], "a") as file:
            file.write(f"{who}\\n")
    sys.addaudithook(note)
"""


@dataclass
class RunningPage:
    url: str
    output: Path
    talked_to: Path

    def strangers(self) -> set[str]:
        """Return the hosts beyond loopback that the command asked for."""
        names = self.talked_to.read_text().split()
        assert "127.0.0.1" in names, "the listener hears nothing"
        return {name for name in names if not is_loopback(name)}


def is_loopback(host: str) -> bool:
    if host in {"localhost", "None"}:
        return True
    try:
        # Listening on every address is not talking to anyone.
        return ipaddress.ip_address(host).is_loopback or ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPage]:
    folder = tmp_path_factory.mktemp("gradio")
    for name in ("logs", "listener", "cache"):
        (folder / name).mkdir()
    (folder / "listener" / "sitecustomize.py").write_text(textwrap.dedent(LISTENER))
    port = free_port()
    page = RunningPage(f"http://127.0.0.1:{port}", folder / "output", folder / "talked-to")
    environment = {
        "PYTHONPATH": str(folder / "listener"),
        "TALKED_TO": str(page.talked_to),
        "GRADIO_TEMP_DIR": str(folder / "cache"),
    }
    commands = Commands(environment, folder / "logs")
    try:
        process = commands.start("gradio", "--variant", "tiny_16k", "--port", str(port), "--output", str(page.output))
        wait_until(
            lambda: process.poll() is not None or answers(page.url), within_s=READY_WITHIN_S, what="a ready page"
        )
        assert process.poll() is None, commands.output()
        yield page
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, commands.output()
        assert "Traceback" not in commands.output()
    finally:
        commands.stop_all()


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).is_success
    except httpx.HTTPError:
        return False


@pytest.fixture
def page(running: RunningPage) -> Iterator[Page]:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    assert chromium, "a Chromium is needed; `make test` installs one"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium,
            args=["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--no-first-run"],
        )
        page = browser.new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(running.url)
        yield page
        browser.close()
    hosts = {urlsplit(url).hostname for url in asked if urlsplit(url).scheme not in {"data", "blob"}}
    assert hosts == {"127.0.0.1"}


@pytest.mark.browser
def test_words_become_sound_in_the_browser(page: Page, running: RunningPage) -> None:
    expect(page.get_by_text("13 sound classes")).to_be_visible(timeout=DONE_WITHIN_S * 1000)
    expect(page.get_by_label("Negative prompt")).to_have_value("music")  # the video tab, which is the first
    page.get_by_role("tab", name="Text to audio").click()
    tab = page.get_by_role("tabpanel").filter(visible=True)
    expect(tab.get_by_label("Negative prompt")).to_have_value("")
    tab.get_by_label("Prompt", exact=True).fill("rain on a tin roof")
    tab.get_by_label("Number of steps").fill("2")
    tab.get_by_label("Duration in seconds").fill("40")
    tab.get_by_role("button", name="Make sound").click()
    expect(page.get_by_text("Got a duration of 40 s")).to_be_visible(timeout=DONE_WITHIN_S * 1000)

    tab.get_by_label("Duration in seconds").fill("2")
    tab.get_by_role("button", name="Make sound").click()
    expect(tab.get_by_label("Seed used")).to_have_value(re.compile(r"^\d+$"), timeout=DONE_WITHIN_S * 1000)
    link = tab.locator("a[download]")
    expect(link).to_have_count(1, timeout=DONE_WITHIN_S * 1000)
    href = link.get_attribute("href")
    assert href is not None
    assert [path.name for path in running.output.glob("*.flac")] == [href.rpartition("/")[2]]
    player = "address => new Promise((done, failed) => { const sound = new Audio(address);"
    duration = page.evaluate(
        f"{player} sound.onloadedmetadata = () => done(sound.duration); sound.onerror = failed }})", href
    )
    assert abs(duration - 2.0) < 0.01
    assert running.strangers() == set()


def test_a_program_sends_a_video_and_gets_sentences_for_what_is_wrong(
    running: RunningPage, demo_video: Path, tmp_path: Path
) -> None:
    from gradio_client import Client, handle_file
    from gradio_client.exceptions import AppError

    client = Client(running.url, verbose=False, download_files=tmp_path, analytics_enabled=False)
    with contextlib.closing(client):
        knobs = {
            "prompt": "a ball",
            "negative_prompt": "music",
            "seed": 5,
            "num_steps": 2,
            "cfg_strength": 4.5,
            "duration_s": 2.0,
        }
        video, sound, seed = client.predict(video=handle_file(demo_video), **knobs, api_name="/video_to_audio")
        with pytest.raises(AppError, match="a still picture"):
            client.predict(video=handle_file(BAD / "jpeg_renamed.mp4"), **knobs, api_name="/video_to_audio")
        with pytest.raises(AppError, match="not a readable picture"):
            client.predict(image=handle_file(BAD / "ansi_text.txt"), **knobs, api_name="/image_to_audio")
        with pytest.raises(AppError, match="Got a number of steps of 500"):
            client.predict(**{**knobs, "num_steps": 500}, api_name="/text_to_audio")

    assert seed == 5
    assert Path(sound).suffix == ".flac"
    with av.open(str(video["video"] if isinstance(video, dict) else video)) as container:
        assert {stream.type for stream in container.streams} == {"video", "audio"}
        assert abs(container.duration / av.time_base - 2.0) < 0.1
    assert running.strangers() == set()
