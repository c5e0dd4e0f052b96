"""A fault of one host is a violation unless its workers are shown as unavailable, and afterwards as available."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from chaos.faults import hosts
from chaos.faults.target import Target
from local_services.s3_access import S3Access

REASON = {"code": "storage_refused", "message": "the store does not know its access key", "since": "now"}


class FakeProcesses:
    """One worker group, whose only process is 7."""

    def groups(self) -> list[str]:
        return ["worker-1"]

    def environment_of(self, name: str) -> dict[str, str]:
        return {"AWS_ACCESS_KEY_ID": f"key of {name}"}

    def worker_processes(self, group: str | None = None) -> list[int]:
        assert group == "worker-1"
        return [7]


@pytest.fixture
def access() -> S3Access:
    return S3Access()


@pytest.fixture
def target(access: S3Access, monkeypatch: pytest.MonkeyPatch) -> Target:
    for name in ("SHOWN_TIMEOUT_S", "POLL_S"):
        monkeypatch.setattr(hosts, name, 0.01)
    parts: dict[str, Any] = {
        "processes": FakeProcesses(),
        "store": SimpleNamespace(schedule=SimpleNamespace(access=access)),
        "valkey": None,
        "caller": SimpleNamespace(submit_one_more=lambda: None),
    }
    return Target(**parts, postgres=None, disk=None, inbox=Path(), busy=set, lease_s=1, outage_s=0, api_outage_s=0)


def show(monkeypatch: pytest.MonkeyPatch, target: Target, unavailable: Callable[[], Any]) -> None:
    others = {"pid": 8, "unavailable": REASON}
    monkeypatch.setattr(target, "workers", lambda: [others, {"pid": 7, "unavailable": unavailable()}])


def test_a_host_that_is_shown_while_it_is_refused_leaves_no_violation(
    target: Target, access: S3Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    show(monkeypatch, target, lambda: REASON if access.refused else None)
    detail = hosts.revoke_credentials(target, random.Random(1))
    assert "shown as storage_refused: the store does not know its access key" in detail
    assert (target.violations, access.refused) == ([], {})


def test_a_host_that_is_never_shown_as_unavailable_is_a_violation(
    target: Target, access: S3Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    show(monkeypatch, target, lambda: None)
    hosts.refuse_clock(target, random.Random(1))
    assert target.violations == [
        "/v1/workers did not show worker-1, refused by the store with RequestTimeTooSkewed, "
        "as unavailable within 0.01 s"
    ]
    assert access.refused == {}


def test_a_host_that_stays_unavailable_after_its_repair_is_a_violation(
    target: Target, access: S3Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = iter([False])  # shown as available only until the fault begins
    show(monkeypatch, target, lambda: REASON if next(refused, True) else None)
    hosts.revoke_credentials(target, random.Random(1))
    assert target.violations == ["/v1/workers did not show worker-1 as available within 0.01 s after its repair"]
