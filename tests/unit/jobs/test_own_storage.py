"""The platform's own files in a bucket that tenants may use as well."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.errors import RequestInvalidError
from jobs.service.submission import SubmitPolicy
from jobs.settings import Settings
from jobs.tenants.own_storage import OwnStorage
from jobs.triggers.rule import NewTrigger, check_rule


@pytest.mark.parametrize(
    ("url", "key", "own"),
    [
        ("s3://media", "jobs/job_1/1/audio.flac", True),
        ("s3://media", "uploads/upl_1/content", True),
        ("s3://media", "features/1/x", True),
        ("s3://media", "platform.json", True),
        ("s3://media", "jobs/", True),
        ("s3://media", "in/../jobs/job_1/1/audio.flac", True),
        ("s3://media", "in/jobs/a.mp4", False),
        ("s3://media", "jobsite/a.mp4", False),
        ("s3://media", "", False),
        ("s3://media/own", "own/jobs/job_1/1/audio.flac", True),
        ("s3://media/own/", "own/uploads/upl_1/content", True),
        ("s3://media/own", "jobs/a.mp4", False),
        ("s3://other", "jobs/a.mp4", False),
        ("file:///data/objects", "jobs/a.mp4", False),
    ],
)
def test_what_is_the_platforms(url: str, key: str, own: bool) -> None:
    assert OwnStorage.from_url(url).has("media", key) is own


def test_the_settings_name_it(tmp_path: Path) -> None:
    settings = Settings(storage_url="s3://media/own", data_dir=tmp_path)
    assert SubmitPolicy.from_settings(settings, ("tiny_16k",)).own_storage == OwnStorage.from_url("s3://media/own")


@pytest.mark.parametrize("prefix", ["", "u", "uploads/", "uploads/upl_1/", "jobs/", "features/1", "platform.json"])
def test_no_trigger_makes_jobs_of_what_others_have_sent(prefix: str) -> None:
    with pytest.raises(RequestInvalidError) as found:
        check(NewTrigger(bucket="media", prefix=prefix))
    assert [problem.field for problem in found.value.problems] == ["prefix"]


def test_no_trigger_delivers_among_the_results_of_others() -> None:
    with pytest.raises(RequestInvalidError) as found:
        check(NewTrigger(bucket="media", prefix="in/", deliver_to="s3://media/jobs/"))
    assert [problem.field for problem in found.value.problems] == ["deliver_to"]
    check(NewTrigger(bucket="media", prefix="in/", deliver_to="s3://media/out/"))


def check(rule: NewTrigger) -> None:
    check_rule(rule, input_buckets={"media"}, output_buckets={"media"}, storage_url="s3://media")
