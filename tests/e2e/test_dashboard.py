"""The page in a real browser: submit, watch, hear, cancel; hostile text stays text."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import ConsoleMessage, Page, expect, sync_playwright

from tests.e2e.conftest import RunningPlatform

pytestmark = pytest.mark.browser


@pytest.fixture
def page(platform: RunningPlatform) -> Iterator[Page]:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    assert chromium, "a Chromium is needed; `make test` installs one"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium,
            args=["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--no-first-run"],
        )
        page = browser.new_page()
        faults: list[str] = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: faults.append(message.text) if _is_fault(message) else None)
        page.goto(platform.url)
        yield page
        browser.close()
    assert faults == []


def _is_fault(message: ConsoleMessage) -> bool:
    # Chromium reports every refusal of a server as an error; the page shows those to the person.
    return message.type == "error" and not message.text.startswith("Failed to load resource")


def test_a_video_is_sent_watched_and_played(page: Page, demo_video: Path) -> None:
    page.get_by_label("Choose a video").set_input_files(str(demo_video))
    page.get_by_label("Prompt", exact=True).fill("a ball in the browser")
    page.get_by_role("button", name="Create job").click()
    job = page.locator("#jobs > li", has_text="a ball in the browser")
    expect(job.locator(".state")).to_have_text("succeeded", timeout=60_000)
    expect(job.locator("video")).to_have_count(1)
    expect(job.locator("audio")).to_have_count(1)
    expect(job).to_contain_text("13 sound classes")
    duration = job.locator("audio").evaluate(
        "player => new Promise(done => player.readyState ? done(player.duration)"
        " : player.addEventListener('loadedmetadata', () => done(player.duration)))"
    )
    assert abs(duration - 3.0) < 0.1


def test_text_of_strangers_never_becomes_markup(page: Page) -> None:
    hostile = "<img src=x onerror=document.title='owned'>"
    page.get_by_label("Prompt", exact=True).fill(hostile)
    page.get_by_text("Options", exact=True).click()
    page.get_by_label("Duration (s)").fill("0.64")
    page.get_by_label("Steps").fill("1")
    page.get_by_role("button", name="Create job").click()
    job = page.locator("#jobs > li", has_text=hostile)
    expect(job.locator(".state")).to_have_text("succeeded", timeout=60_000)
    assert page.title() == "mmaudio"
    assert page.locator("#jobs img").count() == 0


def test_a_running_job_is_canceled_by_its_button(page: Page) -> None:
    page.get_by_label("Prompt", exact=True).fill("long one")
    page.get_by_text("Options", exact=True).click()
    page.get_by_label("Duration (s)").fill("30")
    page.get_by_label("Steps").fill("100")
    page.get_by_label("Samples").fill("8")
    page.get_by_role("button", name="Create job").click()
    job = page.locator("#jobs > li", has_text="long one").first
    job.get_by_role("button", name="Cancel").click()
    expect(job.locator(".state")).to_have_text("canceled", timeout=60_000)
    expect(job.get_by_role("button", name="Retry")).to_be_visible()


def test_a_refusal_of_the_server_is_shown(page: Page) -> None:
    page.get_by_text("Options", exact=True).click()
    page.locator("#new").evaluate("form => form.noValidate = true")
    page.get_by_label("Steps").fill("1000")
    with page.expect_response(lambda response: response.status == 422):
        page.get_by_role("button", name="Create job").click()
    expect(page.get_by_role("alert")).to_contain_text("num_steps")
