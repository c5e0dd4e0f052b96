"""The page and the object store behind it in a real browser: what fails is said, with what to do; the docs work."""

from __future__ import annotations

import http.server
import io
import shutil
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import boto3
import httpx
import pytest
from playwright.sync_api import Page, expect, sync_playwright
from werkzeug.serving import make_server

from api.app import create_app
from jobs.db.database import Database
from jobs.lifecycle import ArtifactKind
from jobs.service import attempts
from jobs.service.attempts import NewArtifact
from jobs.service.workers import register_worker
from jobs.settings import Settings
from jobs.storage.factory import open_store
from jobs.storage.protocol import ObjectStore
from tests.databases import migrated_sqlite

pytestmark = pytest.mark.browser


class NoBroker:
    """Publishes nothing: no worker runs here."""

    def publish(self, job_ids: list[str], *, variant: str) -> None: ...

    def enqueued_job_ids(self, variant: str) -> set[str]:
        return set()


@dataclass
class Store:
    """An address of the store for browsers that answers, but allows no page to use it."""

    url: str
    requests: list[str] = field(default_factory=list)


@dataclass
class Site:
    url: str
    db: Database
    store: ObjectStore
    for_browsers: Store

    def finish_job(self) -> str:
        """Make a job that has made a file; return the key of the file."""
        job_id = httpx.post(f"{self.url}/v1/jobs", json={"prompt": "rain"}).json()["id"]
        with self.db.transaction() as tx:
            claim = attempts.claim(tx, job_id, worker_id="w1", lease_s=60)
        assert claim is not None
        key, sound = f"jobs/{job_id}/1/audio.flac", Path(__file__).read_bytes()
        stored = self.store.put_stream(key, io.BytesIO(sound), content_type="audio/flac", max_bytes=len(sound))
        artifact = NewArtifact(
            name="audio.flac", kind=ArtifactKind.AUDIO, format="flac", content_type="audio/flac", storage_key=key,
            size_bytes=len(sound), sha256=str(stored.sha256 or "0" * 64), duration_s=8.0, take=0, seed=7,
        )  # fmt: skip
        with self.db.transaction() as tx:
            attempts.complete(tx, claim, [artifact], warnings=[], timings={}, artifact_ttl_s=3600)
        return key


@pytest.fixture(scope="module")
def site(s3_endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder, bucket = tmp_path_factory.mktemp("site"), f"bucket-{uuid.uuid4().hex}"
    boto3.client("s3", endpoint_url=s3_endpoint).create_bucket(Bucket=bucket)

    class Handler(http.server.BaseHTTPRequestHandler):
        def refuse(self) -> None:
            for_browsers.requests.append(self.command)
            self.send_response(403)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_HEAD = do_POST = do_OPTIONS = refuse

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        for_browsers = Store(f"http://127.0.0.1:{server.server_port}")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        settings = Settings(
            data_dir=folder,
            storage_url=f"s3://{bucket}",
            s3_endpoint_url=s3_endpoint,
            s3_public_endpoint_url=for_browsers.url,
            s3_addressing_style="path",
            variants=["tiny_16k"],
        )
        db, store = Database(migrated_sqlite(folder / "mmaudio.db")).of_platform(), open_store(settings)
        with db.transaction() as tx:
            register_worker(tx, worker_id="w1", hostname="h", pid=1, device="cpu:0", slots=4, variants=["tiny_16k"])
        app = create_app(settings, db=db, store=store, broker=NoBroker())
        wsgi = make_server("127.0.0.1", 0, app, threaded=True)
        threading.Thread(target=wsgi.serve_forever, daemon=True).start()
        yield Site(f"http://127.0.0.1:{wsgi.server_port}", db, store, for_browsers)
        wsgi.shutdown()
        server.shutdown()
        db.close()


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    assert chromium, "a Chromium is needed; `make test` installs one"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium,
            args=["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--no-first-run"],
        )
        yield browser.new_page()
        browser.close()


def test_an_upload_that_the_bucket_does_not_allow_says_what_to_do(page: Page, site: Site, tmp_path: Path) -> None:
    (tmp_path / "v.mp4").write_bytes(b"video")
    page.goto(site.url)
    page.get_by_label("Choose a video").set_input_files(str(tmp_path / "v.mp4"))
    page.get_by_role("button", name="Create job").click()

    alert = page.get_by_role("alert").first
    expect(alert).to_contain_text(f"object store at {site.for_browsers.url}")
    expect(alert).to_contain_text(f"mmaudio doctor --cors --origin {site.url}")
    assert "OPTIONS" in site.for_browsers.requests


def test_a_file_that_cannot_be_played_and_one_that_is_gone_say_why(page: Page, site: Site) -> None:
    key = site.finish_job()
    page.goto(site.url)
    job = page.locator("#jobs > li").first
    expect(job.locator(".players")).to_contain_text("MMAUDIO_S3_PUBLIC_ENDPOINT_URL")

    site.store.delete([key])
    job.get_by_role("link", name="Download audio.flac").click()
    expect(page.locator("#problem")).to_contain_text("is missing in the object store")
    assert page.url.rstrip("/") == site.url


def test_the_documentation_of_the_api_runs_under_its_policy(page: Page, site: Site) -> None:
    faults: list[str] = []
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(f"{site.url}/docs")
    expect(page.get_by_text("Create a job")).to_be_visible()
    assert [text for text in faults if "favicon" not in text] == []
