"""The `s3://` URLs that requests and triggers accept."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

import jobs
from jobs.request import JobRequest
from jobs.s3_urls import BUCKET_NAME, DELIVERY_URL, OBJECT_URL
from jobs.triggers.rule import NewTrigger


@pytest.mark.parametrize("name", ["abc", "my-bucket.eu", "1" * 63])
def test_a_bucket_name_is_accepted_in_every_place(name: str) -> None:
    assert BUCKET_NAME.fullmatch(name)
    assert OBJECT_URL.fullmatch(f"s3://{name}/a.mp4")
    assert DELIVERY_URL.fullmatch(f"s3://{name}/")
    trigger = NewTrigger(bucket=name, deliver_to=f"s3://{name}/out/")
    assert JobRequest(video=f"s3://{name}/a.mp4", deliver_to=trigger.deliver_to).video == f"s3://{name}/a.mp4"


@pytest.mark.parametrize("name", ["", "ab", "Abc", "a_b", "-abc", "abc-", "1" * 64, "a b", "a\n"])
def test_a_wrong_bucket_name_is_refused_in_every_place(name: str) -> None:
    for fields in ({"video": f"s3://{name}/a.mp4"}, {"prompt": "rain", "deliver_to": f"s3://{name}/"}):
        with pytest.raises(ValidationError):
            JobRequest(**fields)
    for fields in ({"bucket": name}, {"bucket": "videos", "deliver_to": f"s3://{name}/"}):
        with pytest.raises(ValidationError):
            NewTrigger(**fields)


@pytest.mark.parametrize("url", ["s3://sounds/out", f"s3://sounds/{'a' * 701}/", "s3://sounds"])
def test_a_trigger_takes_the_same_delivery_urls_as_a_job(url: str) -> None:
    with pytest.raises(ValidationError, match="with the slash at the end"):
        NewTrigger(bucket="videos", deliver_to=url)
    with pytest.raises(ValidationError, match="with the slash at the end"):
        JobRequest(prompt="rain", deliver_to=url)


def test_one_module_defines_what_a_bucket_name_is() -> None:
    pattern = "[a-z0-9][a-z0-9.-]{1,61}"
    files = [path for path in Path(jobs.__file__).parent.rglob("*.py") if pattern in path.read_text()]
    assert [path.name for path in files] == ["s3_urls.py"]
