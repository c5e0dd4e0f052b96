"""`mmaudio up` where requests need a key: the first one is shown once, and the page asks for it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import expect, sync_playwright

from tests.e2e.conftest import RunningPlatform, running_platform


@pytest.fixture(scope="module")
def with_keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlatform]:
    with running_platform(tmp_path_factory.mktemp("with-keys"), with_keys=True) as running:
        yield running


def first_key(platform: RunningPlatform) -> str:
    return (platform.data_dir / "admin.key").read_text().strip()


def test_the_first_key_is_shown_once_and_kept_for_this_user_alone(with_keys: RunningPlatform) -> None:
    path: Path = with_keys.data_dir / "admin.key"
    assert path.stat().st_mode & 0o777 == 0o600
    key = first_key(with_keys)
    assert with_keys.commands.output().count(key) == 1
    assert re.search(r"ready: http", with_keys.commands.output())
    assert httpx.get(f"{with_keys.url}/v1/jobs", trust_env=False).status_code == 401
    headers = {"Authorization": f"Bearer {key}"}
    workers = httpx.get(f"{with_keys.url}/v1/workers", headers=headers, trust_env=False).json()
    assert len(workers["data"]) == sum(workers["counts"].values()) == 1


@pytest.mark.browser
def test_the_page_asks_for_a_key_and_works_with_it(with_keys: RunningPlatform) -> None:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    assert chromium, "a Chromium is needed; `make test` installs one"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--no-first-run"])
        page = browser.new_page()
        faults: list[str] = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(with_keys.url)
        page.get_by_label("API key").fill("mma_wrong")
        page.get_by_role("button", name="Open").click()
        expect(page.locator("#key-problem")).to_contain_text("This key is not valid")
        page.get_by_label("API key").fill(first_key(with_keys))
        page.get_by_role("button", name="Open").click()
        expect(page.locator("#stats")).to_contain_text("1 worker")
        page.get_by_label("Prompt", exact=True).fill("rain with a key")
        page.get_by_role("button", name="Create job").click()
        job = page.locator("#jobs > li", has_text="rain with a key")
        expect(job).to_be_visible()
        browser.close()
    assert faults == []
