"""Features are found again, on disk and in the store, and whatever is wrong with the cache costs only time."""

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
from workers.features.cache import PAUSE_S, FeatureCache
from workers.features.disk import DiskFeatures
from workers.features.entry import Entry, entry_key

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


class House:
    """A disk of one machine, and a store that machines share."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.clock = folder, Clock()
        self.store: Any = LocalStore(folder / "store")

    def cache(self, machine: str = "one", *, max_bytes: int = 10**6) -> FeatureCache:
        disk = DiskFeatures(self.folder / machine, max_bytes=max_bytes, now=self.clock)
        return FeatureCache(disk, self.store, ttl_s=TTL_S, now=self.clock)

    def keep(self, key: str = KEY, machine: str = "one", *, size: int = 4, **options: Any) -> torch.Tensor:
        """Keep a feature and forget it in memory."""
        cache = self.cache(machine, **options)
        (entry,) = cache.look_up([key])
        assert not entry.tensors
        value = torch.randn(3, size, generator=torch.Generator().manual_seed(len(key)))
        entry.learn(clip=value, sync=None)
        entry.facts = {"duration_s": 1.25}
        cache.keep(entry)
        cache.close()
        return value

    def find(self, key: str = KEY, machine: str = "one") -> Entry:
        cache = self.cache(machine)
        (entry,) = cache.look_up([key])
        cache.close()
        return entry

    def files(self, machine: str = "one") -> list[Path]:
        return [path for path in (self.folder / machine).rglob("*") if path.is_file()]


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def test_what_was_kept_is_found_bit_by_bit_with_its_facts(house: House) -> None:
    value = house.keep()
    found = house.find()

    assert torch.equal(found.tensors["clip"], value)
    assert list(found.tensors) == ["clip"]
    assert found.facts == {"duration_s": 1.25}
    assert not house.find(entry_key(kind="video", source="abc", start_s=0.75)).tensors


def test_half_precision_is_kept_as_it_is(house: House) -> None:
    cache = house.cache()
    (entry,) = cache.look_up([KEY])
    entry.learn(text=torch.randn(2, 2).bfloat16())
    cache.keep(entry)
    cache.close()

    assert house.find().tensors["text"].dtype == torch.bfloat16


def test_another_machine_finds_it_in_the_store_and_has_it_on_its_own_disk_after(house: House) -> None:
    value = house.keep()

    assert torch.equal(house.find(machine="two").tensors["clip"], value)
    house.store = BrokenStore()
    assert torch.equal(house.find(machine="two").tensors["clip"], value)


@pytest.mark.parametrize("harm", ["a bit turned", "cut off", "empty", "another entry's"])
def test_a_damaged_file_is_found_out_and_replaced_from_the_store(
    house: House, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    value = house.keep()
    (path,) = house.files()
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

    assert torch.equal(house.find().tensors["clip"], value)
    assert "encoded again" in caplog.text
    house.store = BrokenStore()
    assert torch.equal(house.find().tensors["clip"], value)


def test_damage_everywhere_only_means_that_it_is_encoded_again(house: House) -> None:
    house.keep()
    house.files()[0].write_bytes(b"nonsense")
    (name,) = house.store.list_keys(PREFIX)
    source = house.folder / "nonsense"
    source.write_bytes(b"other nonsense")
    house.store.put_file(name, source, content_type="application/octet-stream")

    assert not house.find().tensors
    assert house.files() == []


def test_a_store_that_is_away_fails_nobody_and_is_left_alone_for_a_while(house: House) -> None:
    house.store = broken = BrokenStore()
    house.keep()
    assert broken.calls == 1  # the look-up; what was to be written then did not try

    cache = house.cache("two")
    cache.look_up(["1" * 64])
    cache.look_up(["2" * 64])
    assert broken.calls == 2
    house.clock.now += PAUSE_S + 1
    cache.look_up(["3" * 64])
    cache.close()
    assert broken.calls == 3


def test_a_disk_that_takes_nothing_fails_nobody(house: House) -> None:
    (house.folder / "one").write_text("a file where the folder should be")
    value = house.keep()

    assert torch.equal(house.find().tensors["clip"], value)  # from the store


def test_the_folder_stays_within_its_bound_and_the_least_recently_used_goes(house: House) -> None:
    keys = [entry_key(number=number) for number in range(12)]
    for key in keys:
        house.clock.now += 1
        house.keep(key, size=1000, max_bytes=60_000)
        house.cache(max_bytes=60_000)._disk.read(keys[0])  # used again and again

    kept = {path.name for path in house.files()}
    assert sum(path.stat().st_size for path in house.files()) <= 66_000
    assert keys[0] in kept
    assert keys[-1] in kept
    assert keys[1] not in kept


def test_jobs_in_hand_share_what_one_of_them_has_encoded(house: House) -> None:
    cache = house.cache()
    (one,), (two,) = cache.look_up([KEY]), cache.look_up([KEY])

    assert one is two
    del one, two
    gc.collect()
    assert len(cache._in_hand) == 0
    cache.close()


def test_shared_features_that_nobody_uses_expire_and_the_used_ones_stay(house: House) -> None:
    other = entry_key(kind="text", text="rain")
    house.keep()
    house.keep(other)
    house.clock.now += TTL_S
    assert house.find(machine="two").tensors  # one of the period before, taken over into this one
    assert expire_features(house.store, now_s=house.clock.now, ttl_s=TTL_S) == 0

    house.clock.now += TTL_S
    assert expire_features(house.store, now_s=house.clock.now, ttl_s=TTL_S) == 2
    assert house.find(machine="three").tensors
    assert not house.find(other, machine="three").tensors
