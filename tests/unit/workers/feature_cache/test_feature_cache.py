"""Cached features are found on disk and in the store; a fault of the cache only costs time."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from jobs.shared_features import PREFIX, expire_features
from jobs.storage.errors import StorageUnavailableError
from jobs.storage.local import LocalStore
from workers.feature_cache.cache import PAUSE_S, FeatureCache
from workers.feature_cache.disk import DiskFeatureStore
from workers.feature_cache.entry import Entry, entry_key

TTL_S = 100
KEY = entry_key(kind="video", source="abc", start_s=0.5)


class BrokenStore:
    """Answers nothing, and counts who asks."""

    backend = "broken"

    def __init__(self) -> None:
        self.calls = 0

    def open_read(self, key: str, **_: Any) -> Iterator[bytes]:
        self.calls += 1
        raise StorageUnavailableError("away", self.backend)

    put_stream = open_read


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Harness:
    """A disk of one machine, and a store that machines share."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.clock = folder, Clock()
        self.store: Any = LocalStore(folder / "store")

    def cache(self, machine: str = "one", *, max_bytes: int = 10**6) -> FeatureCache:
        disk = DiskFeatureStore(self.folder / machine, max_bytes=max_bytes, now=self.clock)
        return FeatureCache(disk, self.store, ttl_s=TTL_S, now=self.clock)

    def keep(self, key: str = KEY, machine: str = "one", *, size: int = 4, **options: Any) -> torch.Tensor:
        """Keep a feature and forget it in memory."""
        cache = self.cache(machine, **options)
        (entry,) = cache.find([key])
        assert not entry.tensors
        value = torch.randn(3, size, generator=torch.Generator().manual_seed(len(key)))
        entry.set_tensors(clip=value, sync=None)
        entry.facts = {"duration_s": 1.25}
        cache.store(entry)
        cache.close()
        return value

    def find(self, key: str = KEY, machine: str = "one") -> Entry:
        cache = self.cache(machine)
        (entry,) = cache.find([key])
        cache.close()
        return entry

    def files(self, machine: str = "one") -> list[Path]:
        return [path for path in (self.folder / machine).rglob("*") if path.is_file()]


@pytest.fixture
def harness(tmp_path: Path) -> Harness:
    return Harness(tmp_path)


def test_what_was_kept_is_found_bit_by_bit_with_its_facts(harness: Harness) -> None:
    value = harness.keep()
    found = harness.find()

    assert torch.equal(found.tensors["clip"], value)
    assert list(found.tensors) == ["clip"]
    assert found.facts == {"duration_s": 1.25}
    assert not harness.find(entry_key(kind="video", source="abc", start_s=0.75)).tensors


def test_half_precision_is_kept_as_it_is(harness: Harness) -> None:
    cache = harness.cache()
    (entry,) = cache.find([KEY])
    entry.set_tensors(text=torch.randn(2, 2).bfloat16())
    cache.store(entry)
    cache.close()

    assert harness.find().tensors["text"].dtype == torch.bfloat16


def test_another_machine_finds_it_in_the_store_and_has_it_on_its_own_disk_after(harness: Harness) -> None:
    value = harness.keep()

    assert torch.equal(harness.find(machine="two").tensors["clip"], value)
    harness.store = BrokenStore()
    assert torch.equal(harness.find(machine="two").tensors["clip"], value)


@pytest.mark.parametrize("harm", ["a bit turned", "cut off", "empty", "another entry's"])
def test_a_damaged_file_is_found_out_and_replaced_from_the_store(
    harness: Harness, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    value = harness.keep()
    (path,) = harness.files()
    content = bytearray(path.read_bytes())
    if harm == "a bit turned":
        content[-3] ^= 4
    elif harm == "cut off":
        content = content[:-5]
    elif harm == "empty":
        content = bytearray()
    else:
        other = Entry(entry_key(kind="video", source="other"), {"clip": torch.ones(3, 4)})
        content = bytearray(other.to_bytes())
    path.write_bytes(content)

    assert torch.equal(harness.find().tensors["clip"], value)
    assert "encoded again" in caplog.text
    harness.store = BrokenStore()
    assert torch.equal(harness.find().tensors["clip"], value)


def test_damage_everywhere_only_means_that_it_is_encoded_again(harness: Harness) -> None:
    harness.keep()
    harness.files()[0].write_bytes(b"nonsense")
    (name,) = harness.store.list_keys(PREFIX)
    source = harness.folder / "nonsense"
    source.write_bytes(b"other nonsense")
    harness.store.put_file(name, source, content_type="application/octet-stream")

    assert not harness.find().tensors
    assert harness.files() == []


def test_a_store_that_is_away_fails_nobody_and_is_left_alone_for_a_while(harness: Harness) -> None:
    harness.store = broken = BrokenStore()
    harness.keep()
    assert broken.calls == 1  # the look-up; what was to be written then did not try

    cache = harness.cache("two")
    cache.find(["1" * 64])
    cache.find(["2" * 64])
    assert broken.calls == 2
    harness.clock.now += PAUSE_S + 1
    cache.find(["3" * 64])
    cache.close()
    assert broken.calls == 3


def test_a_disk_that_takes_nothing_fails_nobody(harness: Harness) -> None:
    (harness.folder / "one").write_text("a file where the folder should be")
    value = harness.keep()

    assert torch.equal(harness.find().tensors["clip"], value)  # from the store


def test_the_folder_stays_within_its_bound_and_the_least_recently_used_goes(harness: Harness) -> None:
    keys = [entry_key(number=number) for number in range(12)]
    for key in keys:
        harness.clock.now += 1
        harness.keep(key, size=1000, max_bytes=60_000)
        harness.cache(max_bytes=60_000)._disk.read(keys[0])  # used again and again

    kept = {path.name for path in harness.files()}
    assert sum(path.stat().st_size for path in harness.files()) <= 66_000
    assert keys[0] in kept
    assert keys[-1] in kept
    assert keys[1] not in kept


def test_running_jobs_share_what_one_of_them_has_encoded(harness: Harness) -> None:
    cache = harness.cache()
    (one,), (two,) = cache.find([KEY]), cache.find([KEY])

    assert one is two
    del one, two
    gc.collect()
    assert len(cache._shared) == 0
    cache.close()


def test_shared_features_that_nobody_uses_expire_and_the_used_ones_stay(harness: Harness) -> None:
    other = entry_key(kind="text", text="rain")
    harness.keep()
    harness.keep(other)
    harness.clock.now += TTL_S
    assert harness.find(machine="two").tensors  # one of the period before, taken over into this one
    assert expire_features(harness.store, now_s=harness.clock.now, ttl_s=TTL_S) == 0

    harness.clock.now += TTL_S
    assert expire_features(harness.store, now_s=harness.clock.now, ttl_s=TTL_S) == 2
    assert harness.find(machine="three").tensors
    assert not harness.find(other, machine="three").tensors
