"""Lists of allowed buckets and folders."""

from __future__ import annotations

import pytest

from jobs.tenants.locations import allows_folder, allows_object, check_location


@pytest.mark.parametrize(
    ("entry", "key", "allowed"),
    [
        ("videos", "a.mp4", True),
        ("videos", "../a.mp4", True),
        ("videos/a", "a/b.mp4", True),
        ("videos/a/", "a/b.mp4", True),
        ("videos/a", "a", False),
        ("videos/a", "ab/c.mp4", False),
        ("videos/a", "b/a/c.mp4", False),
        ("videos/a", "a/../b.mp4", False),
        ("videos/a", "a/./b.mp4", False),
        ("videos/a", "a/..", False),
        ("videos/a", "a/b..c/d.mp4", True),
        ("other", "a.mp4", False),
        ("video", "s/a.mp4", False),
    ],
)
def test_an_entry_is_a_bucket_or_a_folder_in_it(entry: str, key: str, allowed: bool) -> None:
    assert allows_object([entry], "videos", key) is allowed
    assert allows_folder([entry], "videos", key) is allowed


def test_an_empty_list_allows_nothing() -> None:
    assert not allows_object([], "videos", "a.mp4")


@pytest.mark.parametrize("entry", ["", "/a", "Videos", "videos/../a", "videos/./a", "s3://videos", "videos/a\x00"])
def test_what_is_no_entry_is_refused(entry: str) -> None:
    with pytest.raises(ValueError, match="give bucket or bucket/prefix"):
        check_location(entry)


def test_an_entry_ends_without_a_slash() -> None:
    assert [check_location(entry) for entry in ("videos", "videos/", "videos/a//")] == ["videos", "videos", "videos/a"]
