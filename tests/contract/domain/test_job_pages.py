"""Lists of jobs: filters that combine, cursors that keep working with them, bounded work; counts by state."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from jobs.db.database import Database
from jobs.lifecycle import State
from jobs.service import job_pages
from jobs.service.cancellation import cancel
from jobs.service.deletion import delete_job
from jobs.service.ended_counters import jobs_by_state
from jobs.service.job_pages import list_jobs
from jobs.service.queries import JobFilter
from jobs.service.uploads import store_upload
from jobs.storage.local import LocalStore
from tests.contract.domain.conftest import TENANT, Steps


@pytest.fixture
def bound(db: Database) -> Database:
    return db.of_tenant(TENANT)


def listed(db: Database, wanted: JobFilter, *, limit: int = 200) -> list[str]:
    """Return the ids of all pages, in order."""
    ids: list[str] = []
    cursor = None
    while True:
        with db.reading() as tx:
            page = list_jobs(tx, wanted=wanted, cursor=cursor, limit=limit)
        assert len(page.jobs) <= limit
        ids += [job.id for job in page.jobs]
        cursor = page.next_cursor
        if cursor is None:
            return ids


def cancel_all(db: Database, ids: Iterable[str]) -> None:
    with db.transaction() as tx:
        for job_id in ids:
            cancel(tx, job_id)


def newest_first(ids: Iterable[str]) -> list[str]:
    return sorted(ids, reverse=True)


@pytest.mark.parametrize("limit", [1, 3, 200])
def test_jobs_of_several_states_come_in_one_order_over_all_pages(bound: Database, steps: Steps, limit: int) -> None:
    ids = [steps.submit().id for _ in range(9)]
    cancel_all(bound, ids[1::3])
    for job_id in ids[2::3]:
        steps.complete(steps.claimed(job_id))
    wanted = JobFilter(states=(State.CANCELED, State.SUCCEEDED))
    assert listed(bound, wanted, limit=limit) == newest_first([*ids[1::3], *ids[2::3]])
    assert listed(bound, JobFilter(states=(State.QUEUED, State.QUEUED)), limit=limit) == newest_first(ids[::3])


def test_jobs_by_id_are_the_tenants_own_and_filters_still_count(bound: Database, steps: Steps) -> None:
    ids, foreign = [steps.submit().id for _ in range(4)], steps.submit("other").id
    cancel_all(bound, ids[:1])
    wanted = JobFilter(ids=(*ids[:3], foreign, "job_unknown"))
    assert listed(bound, wanted, limit=2) == newest_first(ids[:3])
    assert listed(bound, JobFilter(ids=tuple(ids), states=(State.CANCELED,))) == ids[:1]


def test_a_text_is_found_in_prompt_input_and_metadata_whatever_its_case(bound: Database, steps: Steps) -> None:
    prompt = steps.submit(prompt="Möwen ÜBER dem Meer").id
    source = steps.submit(video="s3://inbox/clips/Meer.mp4").id
    metadata = steps.submit(metadata={"place": "am MEER"}).id
    steps.submit(prompt="a street")
    steps.submit("other", prompt="Meer")
    assert listed(bound, JobFilter(text="meer"), limit=1) == newest_first([prompt, source, metadata])
    assert listed(bound, JobFilter(text="über")) == [prompt]
    assert listed(bound, JobFilter(text="100%")) == []
    assert listed(bound, JobFilter(text=source[:-1])) in ([source], newest_first([prompt, source, metadata])[1:2])


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ('he says "rain"', 'says "RAIN'),
        ("a\\b", "A\\B"),
        ("line\nbreak", "E\nB"),
        ("50% of_it", "% OF_"),
        ("grün", "GRÜ"),
        ("ÄÖÜ rain", "rain"),
    ],
)
def test_every_text_is_found_as_it_is_written(bound: Database, steps: Steps, prompt: str, text: str) -> None:
    job_id = steps.submit(prompt=prompt).id
    steps.submit(prompt="prompt: metadata, variant")
    assert listed(bound, JobFilter(text=text)) == [job_id]


def test_names_of_fields_and_of_other_values_are_no_text(bound: Database, steps: Steps) -> None:
    steps.submit(prompt="x")
    for text in ("num_steps", "flac", "tiny_16k", "prompt"):
        assert listed(bound, JobFilter(text=text)) == []


def test_the_name_of_an_uploaded_file_is_found(bound: Database, steps: Steps, tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "objects")
    upload_id = store_upload(bound, store, b"video", filename="Beach 2.MP4", content_type="video/mp4", ttl_s=3600)
    job_id = steps.submit(video=upload_id, prompt="x").id
    steps.submit(prompt="y")
    assert listed(bound, JobFilter(text="beach 2")) == [job_id]
    assert listed(bound, JobFilter(text=upload_id)) == []


def test_the_beginning_of_an_id_finds_the_job(bound: Database, steps: Steps) -> None:
    ids = [steps.submit().id for _ in range(3)]
    assert listed(bound, JobFilter(text=ids[1])) == [ids[1]]
    assert listed(bound, JobFilter(text="job_")) == newest_first(ids)
    assert listed(bound, JobFilter(text="job_f")) == []


@pytest.mark.parametrize(
    "wanted",
    [
        JobFilter(text="needle"),
        JobFilter(metadata=(("k", "needle"),)),
        JobFilter(text="needle", states=(State.QUEUED, State.CANCELED)),
    ],
)
def test_a_page_compares_a_bounded_number_of_jobs_and_its_cursor_leads_on(
    bound: Database, steps: Steps, monkeypatch: pytest.MonkeyPatch, wanted: JobFilter
) -> None:
    monkeypatch.setattr(job_pages, "SCANNED_JOBS", 4)
    monkeypatch.setattr(job_pages, "_READ_AT_ONCE", 3)
    needles = [steps.submit(metadata={"k": "needle"}).id]
    others = [steps.submit().id for _ in range(10)]
    cancel_all(bound, others[::2])
    needles.append(steps.submit(metadata={"k": "needle"}).id)
    with bound.reading() as tx:
        first = list_jobs(tx, wanted=wanted, cursor=None, limit=5)
    assert [job.id for job in first.jobs] == needles[1:]
    assert first.next_cursor is not None, "the rest was not looked at"
    assert listed(bound, wanted, limit=5) == newest_first(needles)


def test_counts_follow_every_change_of_state_and_deletion(bound: Database, steps: Steps) -> None:
    ids = [steps.submit().id for _ in range(6)]
    steps.submit("other")
    cancel_all(bound, ids[:2])
    steps.complete(steps.claimed(ids[2]))
    steps.claimed(ids[3])
    with bound.transaction() as tx:
        delete_job(tx, ids[0])
        delete_job(tx, ids[0])
    with bound.reading() as tx:
        assert jobs_by_state(tx) == {
            State.QUEUED: 2,
            State.RUNNING: 1,
            State.SUCCEEDED: 1,
            State.FAILED: 0,
            State.CANCELED: 1,
        }
